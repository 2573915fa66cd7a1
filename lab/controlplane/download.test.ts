import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { envtestArchive, kubernetesReleases } from "./download.ts";
import { kubernetesVersion } from "./versions.ts";

const arch = process.arch === "x64" ? "amd64" : process.arch;
const silent = () => {};

let dir: string;
let server: Server;
let address: string;
/** What the server has, by path. */
const pages = new Map<string, Buffer | string>();
const requests: string[] = [];

beforeEach(async () => {
  dir = mkdtempSync(path.join(tmpdir(), "lab-download-"));
  pages.clear();
  requests.length = 0;
  server = createServer((request, response) => {
    requests.push(request.url ?? "");
    const page = pages.get(request.url ?? "");
    response.statusCode = page === undefined ? 404 : 200;
    response.end(page);
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  address = `http://127.0.0.1:${port}`;
});
afterEach(() => {
  server.close();
  server.closeAllConnections();
  rmSync(dir, { recursive: true });
});

describe("the envtest archive", () => {
  function publish(versions: readonly string[], hash?: string): void {
    const folder = path.join(dir, "controller-tools", "envtest");
    mkdirSync(folder, { recursive: true });
    for (const name of ["etcd", "kube-apiserver", "kubectl"]) writeFileSync(path.join(folder, name), `program ${name}`);
    const archive = execFileSync("tar", ["-cz", "-C", dir, "controller-tools"]);
    const index = versions.map((version) => {
      const name = `envtest-${version}-${process.platform}-${arch}.tar.gz`;
      pages.set(`/${name}`, archive);
      const sha512 = hash ?? createHash("sha512").update(archive).digest("hex");
      return `  ${version}:\n    ${name}:\n      hash: ${sha512}\n      selfLink: ${address}/${name}\n`;
    });
    pages.set("/index.yaml", `releases:\n${index.join("")}`);
  }

  test("is downloaded once and gives three programs", async () => {
    publish(["v1.35.0", `v${kubernetesVersion}`, "v1.36.9"]);
    const source = envtestArchive(`${address}/index.yaml`);
    for (const name of ["etcd", "kube-apiserver", "kubectl"] as const) {
      expect(readFileSync(await source.fetch(name, dir, silent), "utf8")).toBe(`program ${name}`);
    }
    await expect(source.fetch("kube-controller-manager", dir, silent)).rejects.toThrow("does not contain it");
    const archive = `/envtest-v${kubernetesVersion}-${process.platform}-${arch}.tar.gz`;
    expect(requests).toEqual(["/index.yaml", archive]);
  });

  test("is that of the newest patch release where the exact one is not published", async () => {
    publish(["v1.36.0", "v1.36.2", "v1.35.9", "v1.37.0-alpha.1"]);
    await envtestArchive(`${address}/index.yaml`).fetch("etcd", dir, silent);
    expect(requests.at(-1)).toContain("envtest-v1.36.2-");
  });

  test("is refused when its checksum differs", async () => {
    publish([`v${kubernetesVersion}`], "00ff");
    const fetching = envtestArchive(`${address}/index.yaml`).fetch("etcd", dir, silent);
    await expect(fetching).rejects.toThrow(/has the sha512 checksum [0-9a-f]{128}, expected 00ff/);
  });

  test("of another series only is an error", async () => {
    publish(["v1.35.0"]);
    const fetching = envtestArchive(`${address}/index.yaml`).fetch("etcd", dir, silent);
    await expect(fetching).rejects.toThrow("lists no archive of 1.36");
  });
});

describe("a Kubernetes release", () => {
  const file = `/release/v${kubernetesVersion}/bin/${process.platform}/${arch}/kube-controller-manager`;

  test("gives a program whose checksum is published beside it", async () => {
    pages.set(file, "program");
    pages.set(`${file}.sha256`, createHash("sha256").update("program").digest("hex"));
    const fetched = await kubernetesReleases(address).fetch("kube-controller-manager", dir, silent);
    expect(readFileSync(fetched, "utf8")).toBe("program");
  });

  test("with another checksum is refused", async () => {
    pages.set(file, "program");
    pages.set(`${file}.sha256`, "00");
    const fetching = kubernetesReleases(address).fetch("kube-controller-manager", dir, silent);
    await expect(fetching).rejects.toThrow("sha256 checksum");
  });

  test("that is not published is an error with the address", async () => {
    const fetching = kubernetesReleases(address).fetch("kube-controller-manager", dir, silent);
    await expect(fetching).rejects.toThrow(`${address}${file}.sha256 answered 404`);
  });
});
