/**
 * The running product for one test file: a lab of its own in a temporary folder, MazeVault installed as the chart
 * does it, and each program bound to nothing but its own ServiceAccount. Tests see public surfaces only: the API server
 * and kubectl, the vault through the stand-in's control API, and the database where the issue is what stands in it.
 */
import { mkdtempSync, readFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import pg from "pg";
import { stringify } from "yaml";
import type { Condition, ObjectMeta } from "../crds/common.ts";
import { SYSTEM_NAMESPACE } from "../crds/installation.ts";
import { copyLab, type Lab, resetLab, startLab } from "../lab/lab.ts";
import { installMazeVault, type KeyVaultStandIn, type MazeVault, type Operator } from "../lab/mazevault.ts";
import { until } from "../lab/poll.ts";
import type { Programs } from "../lab/postgres/programs.ts";
import { admitAuthors } from "./authors.ts";
import { Objects } from "./objects.ts";

export const samples = fileURLToPath(new URL("samples", import.meta.url));

/** Any object as kubectl shows it. */
export interface KubernetesObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: ObjectMeta;
  readonly spec?: Record<string, unknown>;
  readonly data?: Record<string, string>;
  readonly type?: string;
  readonly status?: { readonly conditions?: readonly Condition[]; readonly [field: string]: unknown };
}

export interface World {
  readonly lab: Lab;
  readonly mazevault: MazeVault;
  /** Runs kubectl as cluster administrator; throws what it printed when it fails. */
  kubectl(...args: string[]): Promise<string>;
  /**
   * Applies manifests in their order, what teams write as one of their authors, the rest as cluster administrator; throws what
   * the API server answered when it fails.
   */
  apply(...manifests: readonly object[]): Promise<void>;
  /** Applies manifests with kubectl that must be refused; what it printed. */
  applyRefused(...manifests: object[]): Promise<string>;
  get(resource: string, name: string, namespace?: string): Promise<KubernetesObject>;
  list(resource: string, namespace?: string): Promise<readonly KubernetesObject[]>;
  /** Waits until the condition holds, and returns the object. Throws with the last state when it does not in time. */
  waitFor(
    resource: string,
    name: string,
    namespace: string | undefined,
    holds: (object: KubernetesObject) => boolean,
    timeoutMs?: number,
  ): Promise<KubernetesObject>;
  /** Waits for Ready=True of this generation. */
  waitReady(resource: string, name: string, namespace?: string, timeoutMs?: number): Promise<KubernetesObject>;
  /** Runs one statement in the operator's database, as its owner. */
  sql<Row extends Record<string, unknown>>(text: string, values?: readonly unknown[]): Promise<Row[]>;
  /** A namespace and a project of its own for one test each, so that tests of a file do not meet. */
  tenant(...names: readonly string[]): Promise<void>;
  stop(): Promise<void>;
}

export interface WorldOptions {
  /** False is faster, for files that kill neither etcd nor PostgreSQL. */
  readonly durable?: boolean;
  readonly report?: (line: string) => void;
  /** A cluster that nothing was prepared in: the prepared ones are copies of one, and have UIDs in common. */
  readonly isNew?: boolean;
  /** Of a world that is new, instead of the PostgreSQL that npm installed. */
  readonly postgres?: Programs;
  /** Of another world, so that both see one Azure. */
  readonly keyVault?: KeyVaultStandIn;
}

export async function startWorld(options: WorldOptions = {}): Promise<World> {
  const dir = mkdtempSync(path.join(tmpdir(), "mazevault-e2e-"));
  // What `setup.ts` has made; without Jest there is none.
  const { MAZEVAULT_PREPARED: prepared } = process.env;
  const copied = prepared !== undefined && options.isNew !== true;
  if (copied) copyLab(path.join(prepared, "lab"), dir);
  const lab = await startLab({
    dir,
    ...(options.postgres && { postgres: options.postgres }),
    durable: options.durable ?? false,
    ...(options.report && { report: options.report }),
  });
  try {
    const already = {
      ...(prepared !== undefined && { programs: path.join(prepared, "programs"), installed: copied }),
      ...(options.keyVault && { keyVault: options.keyVault }),
    };
    const mazevault = await installMazeVault({ lab, cluster: lab.controlPlane, ...already });
    if (!copied) await admitAuthors(lab.controlPlane);
    return new RunningWorld(lab, mazevault, await Objects.connect(lab), dir);
  } catch (error) {
    await lab.stop();
    throw error;
  }
}

class RunningWorld implements World {
  readonly lab: Lab;
  readonly mazevault: MazeVault;
  readonly #objects: Objects;
  readonly #database: pg.Pool;
  readonly #dir: string;

  constructor(lab: Lab, mazevault: MazeVault, objects: Objects, dir: string) {
    this.lab = lab;
    this.mazevault = mazevault;
    this.#objects = objects;
    this.#database = openDatabase(mazevault.database);
    this.#dir = dir;
  }

  async kubectl(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.lab.controlPlane.kubectl(args);
    if (code !== 0) throw new Error(`kubectl ${args.join(" ")}: ${stderr}`);
    return stdout;
  }

  async apply(...manifests: readonly object[]): Promise<void> {
    for (const manifest of manifests) await this.#objects.apply(manifest);
  }

  async applyRefused(...manifests: object[]): Promise<string> {
    const input = manifests.map((manifest) => stringify(manifest)).join("---\n");
    const { code, stdout, stderr } = await this.lab.controlPlane.kubectl(["apply", "-f", "-"], { input });
    if (code === 0) throw new Error(`kubectl apply was expected to fail, but: ${stdout}`);
    return stderr;
  }

  get(resource: string, name: string, namespace?: string): Promise<KubernetesObject> {
    return this.#objects.get(resource, name, namespace);
  }

  list(resource: string, namespace?: string): Promise<readonly KubernetesObject[]> {
    return this.#objects.list(resource, namespace);
  }

  async waitFor(
    resource: string,
    name: string,
    namespace: string | undefined,
    holds: (object: KubernetesObject) => boolean,
    timeoutMs = 30_000,
  ): Promise<KubernetesObject> {
    let last: KubernetesObject | undefined;
    try {
      await until(
        `${resource} ${name}`,
        async () => {
          last = await this.get(resource, name, namespace);
          return holds(last);
        },
        { timeoutMs },
      );
    } catch (error) {
      throw new Error(`${resource} ${name} did not get there: ${JSON.stringify(last?.status ?? last)}`, {
        cause: error,
      });
    }
    return last as KubernetesObject;
  }

  waitReady(resource: string, name: string, namespace?: string, timeoutMs?: number): Promise<KubernetesObject> {
    const ready = (object: KubernetesObject): boolean => {
      const condition = conditionOf(object, "Ready");
      return condition?.status === "True" && condition.observedGeneration === object.metadata.generation;
    };
    return this.waitFor(resource, name, namespace, ready, timeoutMs);
  }

  async sql<Row extends Record<string, unknown>>(text: string, values: readonly unknown[] = []): Promise<Row[]> {
    return (await this.#database.query<Row>(text, [...values])).rows;
  }

  async tenant(...names: readonly string[]): Promise<void> {
    await this.apply(
      ...names.flatMap((name) => [
        { apiVersion: "v1", kind: "Namespace", metadata: { name } },
        {
          apiVersion: "mazevault.io/v1",
          kind: "Project",
          metadata: { name },
          spec: {
            environments: [{ name: "dev" }, { name: "pro" }],
            namespaces: [{ name, environments: ["dev", "pro"] }],
          },
        },
      ]),
    );
    for (const name of names) await this.waitReady("project.mazevault.io", name);
  }

  async stop(): Promise<void> {
    this.#objects.close();
    await this.#database.end();
    await this.lab.stop();
    await resetLab(this.#dir);
  }
}

/** Connections are kept: what a test waits for it asks many times. */
function openDatabase({ passwordFile, caFile, ...where }: MazeVault["database"]): pg.Pool {
  const pool = new pg.Pool({
    ...where,
    password: readFileSync(passwordFile, "utf8"),
    ssl: { ca: readFileSync(caFile, "utf8") },
    options: "-c search_path=mazevault",
    connectionTimeoutMillis: 5_000,
  });
  // A server that is killed while a connection idles must not end the tests.
  pool.on("error", () => {});
  return pool;
}

export const conditionOf = (object: KubernetesObject, type: string): Condition | undefined =>
  object.status?.conditions?.find((condition) => condition.type === type);

/** A Secret of a tenant made by `World.tenant`, with the entries and whatever else the test is about. */
export function secretManifest(
  namespace: string,
  name: string,
  spec: { readonly entries: readonly object[]; readonly [field: string]: unknown },
): object {
  return {
    apiVersion: "mazevault.io/v1",
    kind: "Secret",
    metadata: { name, namespace },
    spec: { projectRef: { name: namespace }, environment: "pro", ...spec },
  };
}

export const decoded = (secret: KubernetesObject): Record<string, string> =>
  Object.fromEntries(
    Object.entries(secret.data ?? {}).map(([key, value]) => [key, Buffer.from(value, "base64").toString("utf8")]),
  );

/** One figure of a program's /metrics. */
export interface Sample {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export async function scrape({ httpPort }: Pick<Operator, "httpPort">): Promise<readonly Sample[]> {
  const text = await (await fetch(`http://127.0.0.1:${httpPort}/metrics`)).text();
  return text.split("\n").flatMap((line) => {
    const [, name, labels = "", value] = /^(\w+)(?:\{(.*)\})? (\S+)$/.exec(line) ?? [];
    if (name === undefined) return [];
    const pairs = [...labels.matchAll(/(\w+)="([^"]*)"/g)].map(([, key = "", text = ""]) => [key, text]);
    return [{ name, labels: Object.fromEntries(pairs), value: Number(value) }];
  });
}

/** The sum of a metric over all label sets that include these. */
export const total = (samples: readonly Sample[], metric: string, labels: Readonly<Record<string, string>> = {}) =>
  samples
    .filter(({ name }) => name === metric)
    .filter((sample) => Object.entries(labels).every(([key, text]) => sample.labels[key] === text))
    .reduce((sum, { value }) => sum + value, 0);

/** Who leads, as the Lease tells it: identities end in the process id. Throws while none of these does. */
export async function leaderOf(world: World, operators: readonly Operator[]): Promise<Operator> {
  const { spec } = await world.get("lease", "mazevault-operator", SYSTEM_NAMESPACE);
  const leader = operators.find(({ process: { pid } }) => String(spec?.holderIdentity).endsWith(`-${pid}`));
  if (leader === undefined) throw new Error(`the Lease is held by ${String(spec?.holderIdentity)}`);
  return leader;
}

/** What is only in one of two lists, `-` before and `+` after: readable where a whole list would not be. */
export const difference = (before: readonly string[], after: readonly string[]): readonly string[] => {
  const [old, now] = [new Set(before), new Set(after)];
  return [
    ...before.filter((line) => !now.has(line)).map((line) => `- ${line}`),
    ...after.filter((line) => !old.has(line)).map((line) => `+ ${line}`),
  ];
};
