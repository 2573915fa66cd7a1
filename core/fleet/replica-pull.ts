/**
 * Keeps a gateway's replica in step with its primary; the leader's work. What the primary tells is compared with what is stored, so
 * it goes on from wherever it was left: a page, an answer or a batch that was lost is asked for again, and one that came twice
 * changes nothing.
 */
import { Unavailable } from "../errors.ts";
import { failpoint } from "../failpoints.ts";
import type { AuditEntry } from "../ports/audit-log.ts";
import type { MemberIdentity } from "../ports/membership-store.ts";
import type { PrimaryLink } from "../ports/primary-link.ts";
import type { NewItem, ReplicaState, ReplicaStore } from "../ports/replica-store.ts";
import type { Writer } from "../ports/vault-store.ts";
import type { MembershipStatus } from "./membership.ts";
import type { ReplicaDirectory } from "./replica-directory.ts";
import { type Digested, digested, fold, isValuedKey, noDigest, type ReplicaItem } from "./replica-item.ts";
import {
  LONGEST_WAIT_MS,
  REPLICA,
  REPLICA_VALUES,
  type ReplicaAnswer,
  type ReplicaRequest,
  replicaAnswer,
  replicaValuesAnswer,
  VALUES_PER_REQUEST,
  type ValuesOfItem,
} from "./replica-protocol.ts";
import { type ReplicaKeys, sealValues, stateMac } from "./replica-seal.ts";

export interface ReplicaPullParts {
  readonly store: ReplicaStore;
  readonly directory: ReplicaDirectory;
  readonly keys: ReplicaKeys;
  readonly link: PrimaryLink;
  readonly membership: () => Pick<MembershipStatus, "state" | "identity">;
  readonly offlineLimitMs: number;
  readonly now: () => Date;
  readonly log: { info(message: string): void; warn(fields: object, message: string): void };
}

/** How long `syncedAt` may be behind in the store, where every replica reads it. */
const MOST_BEHIND_MS = 60_000;
const IDLE_MS = 1_000;
/** After the primary said something that did not fit together yet. */
const FIRST_AGAIN_MS = 500;
const LONGEST_AGAIN_MS = 30_000;
const AGAIN_MS = 30_000;
const WITHIN_MS = 40_000;
/** Of `offlineLimit`: so often what is in step is confirmed, and stored, that waiting for the next time never comes near the limit. */
const OF_LIMIT = 1 / 5;

interface Turn {
  readonly writer: Writer;
  readonly signal: AbortSignal;
  readonly identity: MemberIdentity;
}

interface Difference {
  readonly changed: readonly Digested[];
  readonly removed: readonly string[];
}

export class ReplicaPull {
  readonly #parts: ReplicaPullParts;
  #position: { readonly instance: string; readonly sequence: number } | undefined;
  /** When values that the primary did not give are asked for again. */
  #retryAt = Number.NEGATIVE_INFINITY;
  /** Rounds in a row that left something out. */
  #incomplete = 0;
  #startedAt: number | undefined;
  #syncedAt: Date | undefined;

  constructor(parts: ReplicaPullParts) {
    this.#parts = parts;
  }

  /** When the primary last confirmed that all is here, as far as this process knows. */
  get syncedAt(): Date | undefined {
    return this.#syncedAt;
  }

  /** One round, which waits at the primary where there is nothing new; resolves with how long to rest, in milliseconds. */
  async turn(writer: Writer, signal: AbortSignal): Promise<number> {
    const { membership, directory, now } = this.#parts;
    const { state, identity } = membership();
    this.#startedAt ??= now().getTime();
    if (state === "Revoked") {
      await directory.look();
      await this.#wipe(writer, "Revoked");
      return IDLE_MS;
    }
    if (state !== "Confirmed" || identity === undefined) return IDLE_MS;
    await this.#look(writer);
    const held = directory.state;
    if (held !== undefined && (held.gatewayId !== identity.gatewayId || held.environment !== identity.environment))
      await this.#wipe(writer, "PlaceChanged");
    return this.#pull({ writer, signal, identity });
  }

  /** For a new term: what was remembered may be of another one. */
  begin(): void {
    this.#position = undefined;
    this.#startedAt = undefined;
    this.#retryAt = Number.NEGATIVE_INFINITY;
  }

  /** What was tampered with is no replica: it is pulled anew, from nothing. */
  async #look(writer: Writer): Promise<void> {
    const { directory, log } = this.#parts;
    try {
      await directory.look();
    } catch (error) {
      if (!(error instanceof Unavailable) || error.code !== "TamperDetected") throw error;
      log.warn({ error }, "the replica was tampered with; it is wiped, and pulled anew");
      await this.#wipe(writer, "TamperDetected", true);
    }
  }

  async #wipe(writer: Writer, reason: string, always = false): Promise<void> {
    const { store, directory } = this.#parts;
    this.#position = undefined;
    this.#syncedAt = undefined;
    if (directory.state === undefined && !always) return;
    await store.wipe(writer, [entry("ReplicaWiped", this.#parts.membership().identity, { reason })]);
    await directory.look();
  }

  async #pull(turn: Turn): Promise<number> {
    const { directory, now } = this.#parts;
    const askedAt = now();
    const unvalued = this.#unvalued();
    const due = unvalued.length > 0 && askedAt.getTime() >= this.#retryAt;
    const digest = (directory.state?.digest ?? noDigest()).toString("hex");
    const longestMs = Math.min(LONGEST_WAIT_MS, Math.floor(this.#parts.offlineLimitMs * OF_LIMIT));
    const waitMs = due || this.#syncedAt === undefined ? 0 : longestMs;
    const answer = await this.#ask(turn, { ...this.#position, digest, waitMs });
    const position = { instance: answer.instance, sequence: answer.sequence };
    if (answer.kind === "Same") {
      // It was the same when the answer left, which is not before it was asked for.
      this.#position = position;
      if (due) await this.#fill(turn, unvalued);
      await this.#confirm(turn, askedAt);
      return 0;
    }
    const difference =
      answer.kind === "Changes" ? this.#judge(answer.changed, answer.removed) : await this.#index(turn, answer);
    const isWhole = await this.#apply(turn, difference);
    this.#position = position;
    this.#incomplete = isWhole ? 0 : this.#incomplete + 1;
    // While something changes all the time, nothing is ever the same.
    const isAll = answer.kind === "Changes" && answer.digest === directory.state?.digest.toString("hex");
    if (isAll) await this.#confirm(turn, askedAt);
    return isWhole ? 0 : Math.min(LONGEST_AGAIN_MS, FIRST_AGAIN_MS * 2 ** (this.#incomplete - 1));
  }

  async #ask({ signal }: Pick<Turn, "signal">, request: ReplicaRequest): Promise<ReplicaAnswer> {
    const { status, body } = await this.#parts.link.ask(REPLICA, request, { signal, withinMs: WITHIN_MS });
    if (status !== 200) throw refused(status, body);
    const read = replicaAnswer.safeParse(body);
    if (!read.success) throw notUnderstood();
    return read.data;
  }

  async #index(turn: Turn, first: Extract<ReplicaAnswer, { kind: "Index" }>): Promise<Difference> {
    const items = [...first.items];
    const digest = noDigest().toString("hex");
    for (let after = first.next; after !== undefined; ) {
      const page = await this.#ask(turn, { digest, after, waitMs: 0 });
      if (page.kind !== "Index") throw notUnderstood();
      if (page.instance !== first.instance)
        throw new Unavailable(
          "PrimaryUnreachable",
          "another replica of the primary answers in the middle of its index",
        );
      items.push(...page.items);
      after = page.next;
    }
    const named = new Set(items.map(({ key }) => key));
    const removed = [...this.#parts.directory.items().keys()].filter((key) => !named.has(key));
    return this.#judge(items, removed);
  }

  /** What is not here already. */
  #judge(items: readonly ReplicaItem[], gone: readonly string[]): Difference {
    const held = this.#parts.directory.items();
    const changed = items
      .map(({ key, body }) => digested(key, body))
      .filter(({ key, digest }) => !held.get(key)?.item.digest.equals(digest));
    return { changed, removed: gone.filter((key) => held.has(key)) };
  }

  /** Whether all of it is here now. */
  async #apply(turn: Turn, { changed, removed }: Difference): Promise<boolean> {
    // First what takes away: a value or a grant that is no more.
    const grants = changed.filter(({ key }) => !isValuedKey(key));
    if (grants.length > 0 || removed.length > 0) await this.#write(turn, grants, removed);
    return this.#fill(
      turn,
      changed.filter(({ key }) => isValuedKey(key)),
    );
  }

  #unvalued(): readonly Digested[] {
    return [...this.#parts.directory.items().values()]
      .filter(({ item, valued }) => !valued && isValuedKey(item.key))
      .map(({ item }) => item);
  }

  /** Fetches values and stores them with their items; whether none is left out. */
  async #fill(turn: Turn, items: readonly Digested[]): Promise<boolean> {
    const waiting = [...items];
    let isWhole = true;
    while (waiting.length > 0) {
      const batch = waiting.splice(0, VALUES_PER_REQUEST);
      const told = await this.#askValues(turn, batch);
      const later = batch.filter((_item, at) => told[at]?.kind === "Later");
      if (later.length === batch.length) throw notUnderstood();
      waiting.unshift(...later);
      const put = await this.#sealed(turn, batch, told);
      // What has moved on comes with the next changes, and what is gone goes with them.
      if (put.length + later.length < batch.length) isWhole = false;
      if (put.length > 0) await this.#write(turn, put, []);
    }
    if (!isWhole) this.#retryAt = this.#parts.now().getTime() + AGAIN_MS;
    return isWhole;
  }

  async #askValues({ signal }: Turn, batch: readonly Digested[]): Promise<readonly ValuesOfItem[]> {
    const items = batch.map(({ key, digest }) => ({ key, digest: digest.toString("hex") }));
    const { status, body } = await this.#parts.link.ask(REPLICA_VALUES, { items }, { signal, withinMs: WITHIN_MS });
    if (status !== 200) throw refused(status, body);
    const read = replicaValuesAnswer.safeParse(body);
    if (!read.success || read.data.items.length !== batch.length) throw notUnderstood();
    return read.data.items;
  }

  async #sealed(
    { writer }: Turn,
    batch: readonly Digested[],
    told: readonly ValuesOfItem[],
  ): Promise<readonly NewItem[]> {
    const { keys, directory, now, log } = this.#parts;
    const pki = await keys.pki(writer);
    const put: NewItem[] = [];
    let unavailable = 0;
    for (const [at, item] of batch.entries()) {
      const values = told[at];
      const { key, body } = item;
      if (values?.kind === "Values")
        put.push({ key, body, values: await sealValues(writer, pki, keys.installationId, item, values.values) });
      if (values?.kind !== "Unavailable") continue;
      unavailable += 1;
      // Values of before are not those of this version, so there are none until they come; unless that is known already.
      put.push({ key, body });
    }
    if (unavailable > 0) {
      this.#retryAt = now().getTime() + AGAIN_MS;
      log.warn({ items: unavailable }, "the primary cannot open values of some items; they are asked for again");
    }
    const held = directory.items();
    return put.filter(
      ({ key, body, values }) =>
        values !== undefined || held.get(key)?.valued !== false || held.get(key)?.item.body !== body,
    );
  }

  async #write({ writer, identity }: Turn, put: readonly NewItem[], remove: readonly string[]): Promise<void> {
    const { directory } = this.#parts;
    const held = directory.items();
    const digest = Buffer.from(directory.state?.digest ?? noDigest());
    for (const key of [...remove, ...put.map((item) => item.key)]) {
      const before = held.get(key);
      if (before !== undefined) fold(digest, before.item);
    }
    for (const { key, body } of put) fold(digest, digested(key, body));
    const details = { stored: put.length, removed: remove.length };
    const audit = [entry("ReplicaChanged", identity, details)];
    failpoint("replica.beforeWrite");
    await this.#store(writer, identity, { digest, syncedAt: directory.state?.syncedAt }, { put, remove }, audit);
    failpoint("replica.afterWrite");
  }

  /** Stored seldom, and not at a start, so that a gateway at rest writes hardly anything. */
  async #confirm({ writer, identity }: Turn, at: Date): Promise<void> {
    const { directory, offlineLimitMs, log } = this.#parts;
    if (this.#syncedAt === undefined) log.info(`The replica is in step with the primary: ${directory.secrets} secrets`);
    this.#syncedAt = at;
    const { state } = directory;
    const everyMs = Math.min(MOST_BEHIND_MS, offlineLimitMs * OF_LIMIT);
    const stored = state?.syncedAt?.getTime();
    const behindMs = stored === undefined ? Number.POSITIVE_INFINITY : Math.abs(at.getTime() - stored);
    const isNew = at.getTime() - (this.#startedAt ?? 0) < everyMs;
    if (behindMs < everyMs || (isNew && behindMs < offlineLimitMs / 2)) return;
    const digest = state?.digest ?? noDigest();
    await this.#store(writer, identity, { digest, syncedAt: at }, { put: [], remove: [] }, []);
  }

  async #store(
    writer: Writer,
    { gatewayId, environment }: MemberIdentity,
    next: Pick<ReplicaState, "digest" | "syncedAt">,
    change: Parameters<ReplicaStore["write"]>[2],
    audit: readonly AuditEntry[],
  ): Promise<void> {
    const { store, keys, directory } = this.#parts;
    const revision = (directory.state?.revision ?? (await store.revision())) + 1n;
    const state = { revision, gatewayId, environment, ...next };
    await store.write(writer, { ...state, mac: stateMac(keys, state) }, change, audit);
    await directory.look();
  }
}

function refused(status: number, body: unknown): Unavailable {
  const { code } = (typeof body === "object" && body !== null ? body : {}) as { readonly code?: unknown };
  const why = typeof code === "string" && /^[A-Za-z]{1,64}$/.test(code) ? ` (${code})` : "";
  return new Unavailable("PrimaryUnreachable", `the primary answered a question for the replica with ${status}${why}`);
}

const notUnderstood = (): Unavailable =>
  new Unavailable(
    "PrimaryUnreachable",
    "the primary answered a question for the replica with what is not understood here",
  );

const entry = (
  action: "ReplicaChanged" | "ReplicaWiped",
  identity: MemberIdentity | undefined,
  details: AuditEntry["details"],
): AuditEntry => ({
  action,
  actor: { kind: "Controller", name: "replica" },
  subject: { kind: "Installation", id: identity?.gatewayId ?? "replica", name: identity?.name ?? "replica" },
  outcome: "Success",
  details: { ...(identity !== undefined && { environment: identity.environment }), ...details },
});
