/**
 * Two platforms and people at one vault, each platform with an API server, a database and operators of its own: values are
 * changed on all sides at random, operators die at failpoints over it, and in the end all have the same.
 */
import { readFileSync } from "node:fs";
import { parse } from "yaml";
import { azure } from "../../lab/mazevault.ts";
import { until } from "../../lab/poll.ts";
import { decoded, type KubernetesObject, secretManifest, startWorld, type World } from "../harness.ts";
import { firstAdmin, type RestAnswer, RestClient, type RestRequest } from "../rest-client.ts";
import { ruleManifest, vaultManifests } from "./manifests.ts";
import { Succession } from "./succession.ts";

export const POLICIES = ["NewestWins", "PlatformWins", "TargetWins", "Manual"] as const;
export type Policy = (typeof POLICIES)[number];

/** Of the namespace, the project, and the KeyVault; the rules are called by their policy. */
export const TENANT = "shared";
const KEY = "token";
const RULE = "syncrules.mazevault.io";
const CONFLICT = "syncconflicts.mazevault.io";
const [VAULT] = azure.vaults;
/** Under a rule of its own platform alone, to have something to die over. */
const BAIT = "bait";

const entryNameOf = (secret: string): string => `${secret}--${KEY}`;
const ruleOf = (policy: Policy): string => policy.toLowerCase();

/** A version of an entry in the vault. */
export interface VersionThere {
  readonly value: string;
  readonly intent: string | undefined;
}

export class PlatformUnderTest {
  readonly world: World;
  readonly succession: Succession;
  readonly #rest: RestClient;
  #token: string;
  readonly #bait: string;
  /** The vault's machine. */
  readonly #vault: VaultUnderTest;
  #looks = 0;
  #turn = 0;

  private constructor(parts: {
    world: World;
    succession: Succession;
    rest: RestClient;
    token: string;
    bait: string;
    vault: VaultUnderTest;
  }) {
    this.world = parts.world;
    this.succession = parts.succession;
    this.#rest = parts.rest;
    this.#token = parts.token;
    this.#bait = parts.bait;
    this.#vault = parts.vault;
  }

  /** `host`: the platform whose machine the vault is on. */
  static async start(
    world: World,
    { host, name }: { readonly host: PlatformUnderTest | undefined; readonly name: string },
  ): Promise<PlatformUnderTest> {
    const azureOfHost = host && (parse(readFileSync(host.succession.leader.configFile, "utf8")).azure as object);
    const config = azureOfHost ? { azure: { ...azureOfHost } } : {};
    const succession = await Succession.begin(world, config);
    const rest = RestClient.of(world, await world.mazevault.startRest({ config }));
    await world.tenant(TENANT);
    await world.apply(
      ...vaultManifests((host?.world ?? world).mazevault, TENANT),
      ...POLICIES.map((policy) => {
        const rule = ruleManifest(TENANT, {
          direction: "Bidirectional",
          conflictPolicy: policy,
          secrets: { selector: { matchLabels: { policy } } },
          target: { keyVault: { ref: { name: TENANT } } },
        }) as { metadata: object };
        return { ...rule, metadata: { ...rule.metadata, name: ruleOf(policy) } };
      }),
    );
    const token = await login(world, rest);
    const vault = host?.vault ?? new VaultUnderTest(world);
    const platform = new PlatformUnderTest({ world, succession, rest, token, bait: `${BAIT}-${name}`, vault });
    await platform.add([{ secret: platform.#bait, policy: "PlatformWins" }]);
    await platform.write(platform.#bait, "bait");
    return platform;
  }

  get vault(): VaultUnderTest {
    return this.#vault;
  }

  async add(secrets: readonly { readonly secret: string; readonly policy: Policy }[]): Promise<void> {
    await this.world.apply(
      ...secrets.map(({ secret, policy }) => {
        const manifest = secretManifest(TENANT, secret, {
          entries: [{ key: KEY, external: {} }],
          deliver: {},
          retention: { versions: 100 },
        }) as { metadata: object };
        return { ...manifest, metadata: { ...manifest.metadata, labels: { policy } } };
      }),
    );
  }

  /** Until it is acknowledged, whoever dies meanwhile. */
  async write(secret: string, value: string): Promise<void> {
    const { status } = await this.#ask("PUT", `secrets/${secret}/values`, { body: { values: { [KEY]: value } } });
    if (status !== 200) throw new Error(`writing ${secret} was answered with ${status}`);
  }

  /** All values that the entry had here, oldest first. */
  async history(secret: string): Promise<readonly string[]> {
    const { status } = await this.world.get("secret.mazevault.io", secret, TENANT);
    const values: string[] = [];
    for (let version = 1; version <= Number(status?.version ?? 0); version += 1) {
      const answer = await this.#ask("GET", `secrets/${secret}/values?key=${KEY}&version=${version}`);
      if (answer.status !== 200) throw new Error(`version ${version} of ${secret} was answered with ${answer.status}`);
      values.push(answer.body.values[KEY]);
    }
    return values;
  }

  /** By Secret, what is delivered. */
  async values(): Promise<ReadonlyMap<string, string | undefined>> {
    const delivered = await this.world.list("secret", TENANT);
    return new Map(delivered.map((each) => [each.metadata.name, decoded(each)[KEY]]));
  }

  async versions(): Promise<Readonly<Record<string, unknown>>> {
    const all = await this.world.list("secrets.mazevault.io", TENANT);
    return Object.fromEntries(all.map(({ metadata, status }) => [metadata.name, status?.version]));
  }

  /** Asks the rules to look at the vault; what they were asked by. */
  async askToLook(): Promise<string> {
    this.#looks += 1;
    const asked = `${this.#looks}`;
    await this.world.kubectl("-n", TENANT, "annotate", "--overwrite", RULE, "--all", `mazevault.io/sync-now=${asked}`);
    return asked;
  }

  async look(): Promise<void> {
    const asked = await this.askToLook();
    const handled = async () =>
      (await this.world.list(RULE, TENANT)).every(({ status }) => status?.lastHandledSyncNow === asked);
    await until("all rules have looked", handled, { timeoutMs: 60_000 });
  }

  /** What the rules tell of entries that they cannot bring into step. */
  /** Secrets whose entry in the vault is somebody else's, and deleted: the status asks people what is to become of it. */
  async deletedByOthers(): Promise<readonly string[]> {
    const failures = (await this.world.list(RULE, TENANT)).flatMap(
      ({ status }) => (status?.failures ?? []) as readonly { readonly reason: string; readonly secret: string }[],
    );
    return failures.filter(({ reason }) => reason === "TargetNotOwned").map(({ secret }) => secret);
  }

  async failures(): Promise<readonly unknown[]> {
    return (await this.world.list(RULE, TENANT)).map(({ metadata, status }) => [metadata.name, status?.failures]);
  }

  conflicts(): Promise<readonly KubernetesObject[]> {
    return this.world.list(CONFLICT, TENANT);
  }

  /** As a person does who sees it. One that is over by then is nobody's. */
  async resolve({ metadata: { name } }: KubernetesObject, resolution: "KeepPlatform" | "KeepTarget"): Promise<void> {
    const patch = JSON.stringify({ spec: { resolution } });
    await this.world
      .kubectl("-n", TENANT, "patch", CONFLICT, name, "--type=merge", "-p", patch)
      .catch((error: unknown) => {
        if (!/NotFound/.test(String(error))) throw error;
      });
  }

  /** The leader dies at the failpoint, over `work` or over what leads there in the end. */
  async dies(failpoint: string, work: () => Promise<unknown>): Promise<void> {
    const over = new AbortController();
    const { process } = this.succession.leader;
    let working: Promise<unknown> = Promise.resolve();
    let baiting: Promise<unknown> = Promise.resolve();
    try {
      await this.succession.dies(failpoint, async () => {
        working = work();
        // Its failure is told when it is waited for.
        working.catch(() => {});
        baiting = until("nobody is left", () => this.#baited(failpoint, () => process.pid === undefined), {
          timeoutMs: 60_000,
          intervalMs: 300,
          signal: over.signal,
        }).catch(() => {});
      });
    } finally {
      over.abort();
      await baiting;
    }
    await working;
  }

  /** Which side is looked at first is chance, so it may take several. */
  async #baited(failpoint: string, isOver: () => boolean): Promise<boolean> {
    if (isOver()) return true;
    this.#turn += 1;
    const value = `bait-${this.#turn}`;
    const inVault = /Take|Agreement|Keep/.test(failpoint);
    if (inVault) await this.#vault.edit(this.#bait, `${value}-there`);
    if (!inVault || /Keep/.test(failpoint)) await this.write(this.#bait, value);
    else await this.askToLook();
    return isOver();
  }

  async stop(): Promise<void> {
    await this.#rest.close();
    await this.world.stop();
  }

  /** Until there is an answer. */
  async #ask(method: string, path: string, request: RestRequest = {}): Promise<RestAnswer> {
    let answer: RestAnswer | undefined;
    const answered = async () => {
      answer = await this.#rest.send(method, `/api/v1/namespaces/${TENANT}/${path}`, {
        token: this.#token,
        ...request,
      });
      // A token counts for ten minutes.
      if (answer.status === 401) this.#token = await login(this.world, this.#rest);
      return (
        answer.status !== 401 &&
        answer.status < 500 &&
        answer.status !== 409 &&
        answer.status !== 404 &&
        answer.status !== 429
      );
    };
    await until(`an answer to ${method} ${path}`, answered, { timeoutMs: 60_000, intervalMs: 200 });
    if (answer === undefined) throw new Error("no answer");
    return answer;
  }
}

async function login(world: World, rest: RestClient): Promise<string> {
  const { email, password } = await firstAdmin(world);
  return rest.login(email, password);
}

/** What people do in the portal. */
export class VaultUnderTest {
  readonly #world: World;

  constructor(world: World) {
    this.#world = world;
  }

  async edit(secret: string, value: string, tags: Readonly<Record<string, string>> = {}): Promise<boolean> {
    return this.#tried(() => this.#control.setSecret(VAULT, entryNameOf(secret), value, { tags }));
  }

  /** With whatever tags it has. */
  async editKeepingTags(secret: string, value: string): Promise<boolean> {
    const found = (await this.#all()).get(entryNameOf(secret));
    return this.edit(secret, value, found?.at(-1)?.tags ?? {});
  }

  async delete(secret: string): Promise<boolean> {
    return this.#tried(() => this.#control.deleteSecret(VAULT, entryNameOf(secret)));
  }

  async recover(secret: string): Promise<boolean> {
    return this.#tried(() => this.#control.recoverSecret(VAULT, entryNameOf(secret)));
  }

  async versions(): Promise<ReadonlyMap<string, readonly VersionThere[]>> {
    const all = await this.#all();
    return new Map(
      [...all].map(([name, versions]) => [
        name.slice(0, -`--${KEY}`.length),
        versions.map(({ value, tags }) => ({ value, intent: tags?.["mazevault-intent"] })),
      ]),
    );
  }

  async writes(): Promise<number> {
    return (await this.#control.counters()).vaults[VAULT]?.writes ?? 0;
  }

  get #control() {
    return this.#world.mazevault.keyVault.control;
  }

  async #all() {
    const all = await this.#control.secrets(VAULT);
    return new Map(all.map(({ name, versions }) => [name, versions]));
  }

  /** False: the entry is not there, or deleted. */
  async #tried(act: () => Promise<unknown>): Promise<boolean> {
    try {
      await act();
      return true;
    } catch (error) {
      if (/(404|409|NotFound|Conflict|deleted|deleting|recover)/i.test(String(error))) return false;
      throw error;
    }
  }
}

export async function startBoth(): Promise<readonly [PlatformUnderTest, PlatformUnderTest]> {
  const worlds = await Promise.all([startWorld(), startWorld()]);
  const first = await PlatformUnderTest.start(worlds[0], { host: undefined, name: "one" });
  return [first, await PlatformUnderTest.start(worlds[1], { host: first, name: "two" })];
}
