/**
 * Secrets whose values change through REST all the time, and which are pushed to a Key Vault by gateways; and the verdict on who
 * has written what there, from the vault's own log and its versions.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { Control, LoggedCall, StoredSecret } from "../lab/keyvault/control.ts";
import { azure } from "../lab/mazevault.ts";
import { until } from "../lab/poll.ts";
import { ruleManifest } from "./chaos/manifests.ts";
import { secretManifest, type World } from "./harness.ts";
import type { RestClient } from "./rest-client.ts";

const [VAULT] = azure.vaults;
const URL = `https://${VAULT}.vault.azure.net/`;
/** Of the first a value follows on the other without regard to the vault; of the second the next one waits until it is there. */
const TENANTS = [
  { name: "hurried", secrets: 24, direction: "Push" },
  { name: "patient", secrets: 12, direction: "Bidirectional" },
] as const;
type Tenant = (typeof TENANTS)[number]["name"];
/** Between two writes, of all secrets together. */
const APART_MS = 150;

interface Changing {
  readonly tenant: Tenant;
  readonly secret: string;
  /** In the vault. */
  readonly entry: string;
  /** Acknowledged by the primary, oldest first. */
  readonly values: string[];
}

export interface VaultLoadParts {
  readonly primary: World;
  readonly rest: RestClient;
  readonly session: string;
  /** Of the stand-in that the gateways reach. */
  readonly vault: Control;
  /** Whose task it is. */
  readonly gateway: string;
}

export class VaultLoad {
  readonly #parts: VaultLoadParts;
  readonly #changing: readonly Changing[] = TENANTS.flatMap(({ name: tenant, secrets }) =>
    Array.from({ length: secrets }, (_, at) => {
      const secret = `secret-${at}`;
      return { tenant, secret, entry: `${tenant}-${secret}--token`, values: [] };
    }),
  );
  #ended = false;
  #running: Promise<void> = Promise.resolve();

  constructor(parts: VaultLoadParts) {
    this.#parts = parts;
  }

  /** Resolves when the first value of each is in the vault and their changes have begun. */
  async start(): Promise<void> {
    const { primary } = this.#parts;
    for (const { name } of TENANTS) await this.#tenant(name);
    for (const { tenant, secret } of this.#changing) {
      const entries = [{ key: "token", external: {} }];
      await primary.apply(secretManifest(tenant, secret, { environment: "dev", entries, deliver: {} }));
    }
    for (const each of this.#changing) {
      await until(`${each.secret} takes a value`, () => this.#change(each), { timeoutMs: 60_000, intervalMs: 100 });
    }
    await this.arrived();
    this.#running = this.#run();
    // Whoever stops it is told.
    this.#running.catch(() => {});
  }

  /** @throws what a write was answered when it was not acknowledged */
  async stop(): Promise<void> {
    this.#ended = true;
    await this.#running;
  }

  /** Resolves when the last value of each is the current one of the vault. */
  async arrived(): Promise<void> {
    const { vault } = this.#parts;
    const missing = async () => {
      const there = currentOf(await vault.secrets(VAULT));
      return this.#changing.filter(({ entry, values }) => there.get(entry) !== values.at(-1));
    };
    await until("the last values are there", async () => (await missing()).length === 0, {
      timeoutMs: 150_000,
      intervalMs: 250,
    });
  }

  /** By whom the vault was called, and what it answered; the calls of a challenge, which show no identity and do nothing, left out. */
  async calls(caller: string): Promise<readonly LoggedCall[]> {
    return (await this.#parts.vault.calls(VAULT)).filter((call) => call.caller === caller);
  }

  async verdict(former: string, next: string): Promise<Verdict> {
    const stored = await this.#parts.vault.secrets(VAULT);
    const [ofFormer, ofNext] = [await this.calls(former), await this.calls(next)];
    const made = [...ofFormer, ...ofNext].filter(isSet).map(({ version = "" }) => version);
    const inVault = stored.flatMap(({ versions }) => versions.map(({ version }) => version));
    const told = this.#changing.map((each) => compared(each, stored));
    return {
      doubled: told.flatMap(({ doubled }) => doubled),
      strange: told.flatMap(({ strange }) => strange),
      lost: told.flatMap(({ lost }) => lost),
      unlogged: inVault.filter((version) => !made.includes(version)),
      lastOfFormer: Math.max(...ofFormer.map(({ answeredAt }) => answeredAt)),
      firstOfNext: Math.min(...ofNext.map(({ arrivedAt }) => arrivedAt)),
      figures: {
        values: this.#changing.reduce((sum, { values }) => sum + values.length, 0),
        versions: inVault.length,
        "calls of the former": ofFormer.length,
        "calls of the next": ofNext.length,
        "longest time without a version, in seconds": longestGap([...ofFormer, ...ofNext].filter(isSet)) / 1_000,
      },
    };
  }

  async #run(): Promise<void> {
    while (!this.#ended) {
      const there = currentOf(await this.#parts.vault.secrets(VAULT));
      for (const each of this.#changing) {
        if (this.#ended) return;
        if (each.tenant === "patient" && there.get(each.entry) !== each.values.at(-1)) continue;
        if (!(await this.#change(each))) throw new Error(`${each.tenant}/${each.secret} took no value`);
        await delay(APART_MS);
      }
    }
  }

  async #change({ tenant, secret, values }: Changing): Promise<boolean> {
    const { rest, session } = this.#parts;
    const token = `value ${values.length + 1} of ${tenant}/${secret}`;
    const path = `/api/v1/namespaces/${tenant}/secrets/${secret}/values`;
    const { status } = await rest.send("PUT", path, { token: session, body: { values: { token } } });
    if (status === 200) values.push(token);
    return status === 200;
  }

  async #tenant(name: Tenant): Promise<void> {
    const { primary, gateway } = this.#parts;
    const projectRef = { name };
    await primary.apply(
      { apiVersion: "v1", kind: "Namespace", metadata: { name } },
      {
        apiVersion: "mazevault.io/v1",
        kind: "Project",
        metadata: { name },
        spec: {
          keyVaults: [URL],
          environments: [{ name: "dev", gatewayEnvironment: "NPR" }],
          namespaces: [{ name, environments: ["dev"] }],
        },
      },
    );
    await primary.waitReady("projects.mazevault.io", name);
    const { direction } = TENANTS.find((each) => each.name === name) ?? TENANTS[0];
    await primary.apply(
      {
        apiVersion: "mazevault.io/v1",
        kind: "KeyVault",
        metadata: { name, namespace: name },
        // Each gateway with the managed identity of its own settings.
        spec: { projectRef, vaultUrl: URL, auth: { gateway: { ref: { name: gateway } } } },
      },
      ruleManifest(name, {
        direction,
        ...(direction === "Bidirectional" && { conflictPolicy: "PlatformWins" }),
        environment: "dev",
        interval: "1h",
        target: { keyVault: { ref: { name }, name: `${name}-{secret}--{key}` } },
      }),
    );
  }
}

export interface Verdict {
  /** Values that are there as more than one version. */
  readonly doubled: readonly string[];
  /** Versions that nobody asked for, or in another order than was asked for. */
  readonly strange: readonly string[];
  /** Values that are not there: the last one of each entry, and of a patient one any. */
  readonly lost: readonly string[];
  /** Versions of which the log does not know who made them. */
  readonly unlogged: readonly string[];
  /** Milliseconds since 1970; answered, and arrived. */
  readonly lastOfFormer: number;
  readonly firstOfNext: number;
  readonly figures: Readonly<Record<string, number>>;
}

export const isSet = ({ operation, version }: LoggedCall): boolean =>
  operation === "SecretSet" && version !== undefined;

function compared({ tenant, entry, values }: Changing, stored: readonly StoredSecret[]) {
  const versions = stored.find(({ name }) => name === entry)?.versions.map(({ value }) => value) ?? [];
  const once = [...new Set(versions)];
  const expected = tenant === "patient" ? values : values.slice(-1);
  const order = values.filter((value) => once.includes(value));
  return {
    doubled: versions.filter((value, at) => versions.indexOf(value) < at),
    strange: once.filter((value, at) => order[at] !== value),
    lost: [
      ...expected.filter((value) => !once.includes(value)),
      ...(versions.at(-1) === values.at(-1) ? [] : [`current of ${entry}`]),
    ],
  };
}

const currentOf = (stored: readonly StoredSecret[]): ReadonlyMap<string, string | undefined> =>
  new Map(stored.map(({ name, versions }) => [name, versions.at(-1)?.value]));

function longestGap(sets: readonly LoggedCall[]): number {
  const times = sets.map(({ answeredAt }) => answeredAt).toSorted((one, other) => one - other);
  return Math.max(0, ...times.slice(1).map((time, at) => time - (times[at] ?? time)));
}
