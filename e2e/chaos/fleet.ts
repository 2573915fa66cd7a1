/**
 * The Secrets of a run, what each should hold, and the client that applies them. It counts a change only when the API
 * server acknowledged it.
 */
import type { KubernetesObject } from "../harness.ts";
import type { ApiClient } from "./api.ts";
import { Lanes } from "./lanes.ts";
import { consumerManifest } from "./manifests.ts";
import type { Random } from "./random.ts";

export const NAMESPACE = "chaos";

/** The entries of a Secret; the four shapes take turns. */
const SHAPES = [
  ["literal"],
  ["literal", "generated"],
  ["literal", "sourced"],
  ["literal", "generated", "sourced", "rendered"],
] as const;

export type Key = (typeof SHAPES)[number][number];

/** What changes are made of; each makes exactly one new version, unless a later one overtakes it. */
const EDITS: Readonly<Record<Exclude<Key, "rendered">, "literals" | "generators" | "sources">> = {
  literal: "literals",
  generated: "generators",
  sourced: "sources",
};

/** Every 25th Secret has a workload that restarts when the value changes. */
const WORKLOAD_EVERY = 25;
const SHORTEST_PASSWORD = 16;

/** Counts from 0: how often each part was changed. */
interface Revision {
  readonly literals: number;
  readonly generators: number;
  readonly sources: number;
}

/** One Secret of the run; only its lane writes it. */
export class FleetSecret {
  readonly name: string;
  readonly keys: readonly Key[];
  readonly hasWorkload: boolean;
  /** What the last acknowledged write left; undefined before the first. */
  acknowledged: Revision | undefined;
  /** Of the object, as the API server acknowledged it. */
  acknowledgedGeneration = 0;

  constructor(index: number) {
    this.name = `s${index.toString().padStart(4, "0")}`;
    this.keys = SHAPES[index % SHAPES.length] ?? SHAPES[0];
    this.hasWorkload = index % WORKLOAD_EVERY === 0;
  }

  get sourceName(): string {
    return `${this.name}-source`;
  }

  /** How many versions there may be at most: one for each acknowledged change. */
  get mostVersions(): number {
    const { literals = 0, generators = 0, sources = 0 } = this.acknowledged ?? {};
    return this.acknowledged === undefined ? 0 : 1 + literals + generators + sources;
  }

  /** What each value must be; undefined where MazeVault makes it. */
  expected(key: Key): string | undefined {
    const { literals, sources } = this.acknowledged ?? { literals: 0, sources: 0 };
    if (key === "literal") return this.literal(literals);
    if (key === "sourced") return this.source(sources);
    return undefined;
  }

  get passwordLength(): number {
    return SHORTEST_PASSWORD + (this.acknowledged?.generators ?? 0);
  }

  literal(revision: number): string {
    return `${this.name}-literal-${revision}`;
  }

  source(revision: number): string {
    return `${this.name}-source-${revision}`;
  }

  rendered(literal: string, generated: string): string {
    return `postgres://${literal}:${generated}@db/orders`;
  }

  manifest({ literals, generators }: Revision): object {
    const entry: Readonly<Record<Key, object>> = {
      literal: { literal: this.literal(literals) },
      generated: { generate: { kind: "Password", length: SHORTEST_PASSWORD + generators } },
      sourced: { secretRef: { name: this.sourceName, key: "value" } },
      rendered: { template: this.rendered("{{ literal }}", "{{ generated }}") },
    };
    return {
      apiVersion: "mazevault.io/v1",
      kind: "Secret",
      metadata: { name: this.name, namespace: NAMESPACE },
      spec: {
        projectRef: { name: NAMESPACE },
        environment: "pro",
        entries: this.keys.map((key) => ({ key, ...entry[key] })),
        deliver: this.hasWorkload ? { restart: [{ kind: "Deployment", name: this.name }] } : {},
        // All of them, so that a doubled or missing one shows.
        retention: { versions: 1000 },
      },
    };
  }

  sourceManifest({ sources }: Revision): object {
    return {
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name: this.sourceName, namespace: NAMESPACE },
      stringData: { value: this.source(sources) },
    };
  }
}

const CREATED: Revision = { literals: 0, generators: 0, sources: 0 };

export class Fleet {
  readonly secrets: readonly FleetSecret[];
  readonly #api: ApiClient;
  readonly #random: Random;
  /** Secrets that are not made yet. */
  readonly #waiting: FleetSecret[];
  readonly #made: FleetSecret[] = [];
  readonly #lanes = new Lanes();
  /** Of manifests that the API server acknowledged. */
  acknowledgements = 0;
  edits = 0;

  constructor(count: number, api: ApiClient, random: Random) {
    this.secrets = Array.from({ length: count }, (_, index) => new FleetSecret(index));
    this.#waiting = [...this.secrets];
    this.#api = api;
    this.#random = random;
  }

  /** Hands `count` creations and changes, mixed, to the lanes. */
  release(count: number): void {
    for (let released = 0; released < count; released += 1) {
      const creates = this.#made.length === 0 || (this.#waiting.length > 0 && this.#random.chance(0.5));
      const next = creates ? this.#waiting.shift() : undefined;
      if (next === undefined) {
        const secret = this.#random.pick(this.#made);
        const part = this.#random.pick(secret.keys.filter((key) => key !== "rendered"));
        this.#enqueue(secret, () => this.#edit(secret, EDITS[part]));
      } else {
        this.#made.push(next);
        this.#enqueue(next, () => this.#create(next));
      }
    }
  }

  /** Hands out the creations that are left. */
  releaseRest(): void {
    for (const secret of this.#waiting.splice(0)) {
      this.#made.push(secret);
      this.#enqueue(secret, () => this.#create(secret));
    }
  }

  /** Resolves when everything that was released is acknowledged. */
  acknowledged(): Promise<void> {
    return this.#lanes.done();
  }

  #enqueue(secret: FleetSecret, work: () => Promise<void>): void {
    this.#lanes.enqueue(this.secrets.indexOf(secret), work);
  }

  async #create(secret: FleetSecret): Promise<void> {
    if (secret.keys.includes("sourced")) await this.#write("api/v1", "secrets", secret.sourceManifest(CREATED));
    if (secret.hasWorkload)
      await this.#write("apis/apps/v1", "deployments", consumerManifest(NAMESPACE, secret.name, secret.name));
    await this.#applySecret(secret, CREATED);
  }

  async #edit(secret: FleetSecret, part: keyof Revision): Promise<void> {
    const before = secret.acknowledged;
    if (before === undefined) throw new Error(`${secret.name} was changed before it was made`);
    const revision = { ...before, [part]: before[part] + 1 };
    if (part === "sources") {
      await this.#write("api/v1", "secrets", secret.sourceManifest(revision));
      secret.acknowledged = revision;
    } else await this.#applySecret(secret, revision);
    this.edits += 1;
  }

  async #applySecret(secret: FleetSecret, revision: Revision): Promise<void> {
    const { metadata } = await this.#write("apis/mazevault.io/v1", "secrets", secret.manifest(revision));
    secret.acknowledged = revision;
    secret.acknowledgedGeneration = metadata.generation ?? 0;
  }

  async #write(group: string, plural: string, manifest: object): Promise<KubernetesObject> {
    const { name } = (manifest as KubernetesObject).metadata;
    const written = await this.#api.apply(`/${group}/namespaces/${NAMESPACE}/${plural}/${name}`, manifest);
    this.acknowledgements += 1;
    return written;
  }
}
