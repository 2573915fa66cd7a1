/** The installation in which faults are planted, and doctor, as it ships, looking at it. */
import { execFile } from "node:child_process";
import { copyFileSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, request as httpsRequest, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import type { Finding } from "../../core/diagnosis/finding.ts";
import type { OcspResponder, Operator, Rest } from "../../lab/mazevault.ts";
import type { CertificateFiles } from "../../lab/pki.ts";
import { until } from "../../lab/poll.ts";
import { withClient } from "../../lab/postgres/database.ts";
import { unwell } from "../../lab/unwell.ts";
import { startWorld, type World } from "../harness.ts";
import { firstAdmin, RestClient } from "../rest-client.ts";
import { type Fault, type Given, type Named, names } from "./fault.ts";

/** Namespace and project of the resources. */
export const TEAM = "shop";
const LEASE_MS = 3_000;
const DAY_MS = 86_400_000;

export interface Seen {
  readonly code: number;
  readonly findings: readonly Finding[];
}

/** Everything but `file` is there from `start` on. */
export class Installation {
  world!: World;
  operator!: Operator;
  /** Whom doctor asks. */
  surface!: Rest;
  /** A second one, on a machine whose clock is an hour ahead, whose core dumps are on, and whose disk is nearly full. */
  unwell!: Rest;
  responder!: OcspResponder;
  rest!: RestClient;
  /** A token of the first admin. */
  admin!: string;
  /** A certificate of the lab's CA. */
  expired!: CertificateFiles;
  /** Of the command line. */
  env!: NodeJS.ProcessEnv;
  readonly #folder = mkdtempSync(path.join(tmpdir(), "mazevault-doctor-"));
  readonly #servers: Server[] = [];

  /** In a folder of our own. */
  file(name: string): string {
    return path.join(this.#folder, name);
  }

  async start(): Promise<void> {
    this.world = await startWorld();
    const { lab, mazevault } = this.world;
    const past = (days: number) => new Date(Date.now() - days * DAY_MS);
    this.expired = await lab.pki.issue("expired", {
      commonName: "mazevault",
      usage: "both",
      validity: { notBefore: past(90), notAfter: past(1) },
    });
    const certificate = await lab.pki.issue("rest", { commonName: "mazevault", usage: "server" });
    copyFileSync(certificate.certFile, this.file("rest.crt"));
    copyFileSync(certificate.keyFile, this.file("rest.key"));
    const config = {
      kubernetes: { leaseDurationMs: LEASE_MS },
      pki: { baseUrl: mazevault.pkiUrl },
      rest: { certFile: this.file("rest.crt"), keyFile: this.file("rest.key") },
      azure: { allowedVaultHosts: ["*.vault.invalid"] },
    };
    this.operator = await mazevault.startOperator({ config });
    this.surface = await mazevault.startRest({ config });
    this.unwell = await this.#startUnwell(config);
    this.responder = await mazevault.startOcsp();
    this.rest = RestClient.of(this.world, this.surface);
    const { email, password } = await firstAdmin(this.world);
    this.admin = await this.rest.login(email, password);
    const { kubectlPath, kubeconfigPath } = lab.controlPlane;
    const { MAZEVAULT_TOKEN: _, KUBECONFIG: __, ...inherited } = process.env;
    this.env = {
      ...inherited,
      PATH: [path.dirname(kubectlPath), process.env.PATH].join(path.delimiter),
      KUBECONFIG: kubeconfigPath,
      MAZEVAULT_SERVER: this.surface.restUrl,
      MAZEVAULT_CA_FILE: lab.pki.caFile,
      MAZEVAULT_CLI_CONFIG: this.file("login.json"),
      MAZEVAULT_TOKEN: (await this.apiKey(["audit", "list"])).secret,
    };
    await this.world.tenant(TEAM);
    await this.world.apply({
      apiVersion: "mazevault.io/v1",
      kind: "ClusterIssuer",
      metadata: { name: "root" },
      spec: {
        ca: { subject: { commonName: "root CA" } },
        policy: { profiles: ["Server"] },
        namespaces: { names: [TEAM] },
      },
    });
    await this.world.waitReady("clusterissuer.mazevault.io", "root");
  }

  async stop(): Promise<void> {
    for (const server of this.#servers) server.close();
    await this.rest?.close();
    await this.world?.stop();
    rmSync(this.#folder, { recursive: true, force: true });
  }

  #startUnwell(config: Readonly<Record<string, Readonly<Record<string, unknown>>>>): Promise<Rest> {
    const fileDirectory = this.file("audit");
    mkdirSync(fileDirectory);
    writeFileSync(this.file("clock.mjs"), CLOCK_AHEAD);
    return this.world.mazevault.startRest({
      name: "unwell",
      config: { ...config, rest: {}, audit: { fileDirectory } },
      nodeArgs: ["--import", this.file("clock.mjs")],
      launcher: unwell({ fullDisk: fileDirectory }),
    });
  }

  doctor({ args = [], env = {}, cli = this.world.mazevault.cli }: Given = {}): Promise<Seen> {
    return new Promise((resolve, reject) => {
      const options = { env: { ...this.env, ...env }, maxBuffer: 2 ** 26 };
      execFile(process.execPath, [cli, "doctor", "-o", "json", ...args], options, (error, stdout, stderr) => {
        try {
          resolve({ code: error === null ? 0 : Number(error.code), findings: JSON.parse(stdout) as Finding[] });
        } catch {
          reject(new Error(`doctor printed no JSON: ${stderr}`));
        }
      });
    });
  }

  /** Plants a fault, expects that doctor names it, and mends it. */
  async plants({ plant, heal, given, ...fault }: Fault): Promise<void> {
    await plant?.();
    try {
      await this.#named(fault, await given?.());
    } finally {
      await heal?.();
    }
  }

  /** Looks until it is named: what a controller has to notice first takes a moment. */
  async #named(fault: Named, given: Given = {}): Promise<void> {
    let seen: Seen | undefined;
    try {
      await until(
        "it is named",
        async () => {
          seen = await this.doctor(given);
          return seen.findings.some((finding) => names(fault, finding));
        },
        { timeoutMs: 40_000, intervalMs: 200 },
      );
    } catch (error) {
      const bad = seen?.findings.filter(({ status }) => status !== "ok");
      throw new Error(`not named, but: ${JSON.stringify(bad, null, 1)}`, { cause: error });
    }
    expect(seen?.code).toBe(seen?.findings.some(({ status }) => status === "failing") ? 7 : 0);
  }

  /** Waits until doctor finds nothing. */
  async content(): Promise<void> {
    let left: readonly Finding[] = [];
    await until(
      "doctor is content",
      async () => {
        left = (await this.doctor()).findings.filter(({ status }) => status !== "ok");
        return left.length === 0;
      },
      { timeoutMs: 60_000, intervalMs: 200 },
    ).catch((error: unknown) => {
      throw new Error(`it is not content: ${JSON.stringify(left, null, 1)}`, { cause: error });
    });
  }

  /** Doctor, asking that server. */
  at(server: string): Given {
    return { env: { MAZEVAULT_SERVER: server } };
  }

  withToken(token: string): Given {
    return { env: { MAZEVAULT_TOKEN: token } };
  }

  /** Doctor, asking the API server alone. */
  onlyCluster(...args: readonly string[]): Given {
    return { args: ["--kubeconfig", ...args], env: { MAZEVAULT_SERVER: undefined } };
  }

  async apiKey(scopes: readonly string[]): Promise<{ id: string; secret: string }> {
    const body = { name: "doctor", scopes };
    const made = await this.rest.send("POST", "/api/v1/api-keys", { token: this.admin, body });
    if (made.status !== 201) throw new Error(made.text);
    return made.body as { id: string; secret: string };
  }

  asSuperuser(text: string): Promise<unknown> {
    return withClient(this.world.lab.postgres.superuser, (client) => client.query(text));
  }

  /** A server with this certificate; what it answers is up to it. */
  async serve(
    files: CertificateFiles,
    answer: Parameters<typeof createServer>[1] = (_request, response) => void response.end("<html>"),
  ): Promise<string> {
    const tls = { cert: readFileSync(files.certFile), key: readFileSync(files.keyFile) };
    const server = createServer(tls, answer);
    this.#servers.push(server);
    await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
    return `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  }

  /** REST, behind a proxy whose clock is an hour ahead. */
  async ahead(): Promise<string> {
    const { pki } = this.world.lab;
    const ca = readFileSync(pki.caFile);
    const files = await pki.issue("proxy", { commonName: "proxy", usage: "server" });
    return this.serve(files, ({ method, url, headers }, response) => {
      const onward = httpsRequest(`${this.surface.restUrl}${url}`, { method, headers, ca }, (answer) => {
        const date = new Date(Date.now() + 3_600_000).toUTCString();
        response.writeHead(answer.statusCode ?? 502, { ...answer.headers, date });
        answer.pipe(response);
      });
      onward.end();
    });
  }
}

/** Replaces `Date` of a program: its clock is an hour ahead of everybody else's. */
const CLOCK_AHEAD = `
const Real = Date;
globalThis.Date = class extends Real {
  constructor(...given) { given.length === 0 ? super(Real.now() + 3_600_000) : super(...given); }
  static now() { return Real.now() + 3_600_000; }
};`;
