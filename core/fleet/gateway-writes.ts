/**
 * The primary's side of writes that come through gateways. Each is done once, by its id: what came of it is recorded in the
 * transaction of the version that it makes, so whoever sends it again is told the same.
 *
 * A write whose base is not the current version any more, and whose keys somebody else has set since, is a conflict: the newest
 * wins as in `core/sync/clock.ts`. The write's age is counted by the gateway's clock and that of the current values by the
 * database's, and ages are compared, so that it does not matter how far the two clocks are off. Its keys belong together: it wins
 * when it is newer than each of the values that it would replace, and is kept beside as a whole otherwise.
 */
import type { ReaderSpec, SecretEntry } from "../../crds/secret.ts";
import { SafeError, Stalled, Unavailable, Waiting } from "../errors.ts";
import { failpoint } from "../failpoints.ts";
import type { Actor, AuditEntry } from "../ports/audit-log.ts";
import type { HandledWrite, HandledWrites } from "../ports/handled-writes.ts";
import {
  Conflict,
  type HandledByVersion,
  type Lifecycle,
  type SecretIdentity,
  type SecretRecord,
  UNLED,
} from "../ports/vault-store.ts";
import type { WritePlace } from "../ports/write-queue.ts";
import { Sensitive } from "../sensitive.ts";
import { isNewer } from "../sync/clock.ts";
import { assertAccepted, assertNotApplied, notActive } from "../vault/refusals.ts";
import type { Vault } from "../vault/vault.ts";
import { gatewayActor, gatewayEntry } from "./audit-entries.ts";
import { type FleetKeys, handledMac, sameMac } from "./authenticity.ts";
import type { Member } from "./member.ts";
import type { AnsweredOutcome, GatewayWrite, WriteOutcome, WritesAnswer, WritesRequest } from "./writes.ts";

/** A Secret as far as writing it takes. */
export interface WritableSecret {
  readonly identity: SecretIdentity;
  readonly entries: readonly SecretEntry[];
  readonly readers: readonly ReaderSpec[] | undefined;
  readonly lifecycle: Lifecycle;
  /** The entry that is written along with an applied password, and by nobody else. */
  readonly appliedUsername: string | undefined;
}

export interface WritableSecrets {
  /**
   * Undefined when there is none, or its project does not give its environment to gateways of this one: both are told alike.
   *
   * @throws Waiting, Stalled while it cannot be written; Unavailable while it is not known what there is
   */
  find(place: WritePlace, gatewayEnvironment: string): WritableSecret | undefined;
}

export interface GatewayWritesParts {
  readonly handled: HandledWrites;
  readonly vault: Pick<Vault, "describe" | "put" | "keepBeside" | "heldForMs" | "fingerprintIn">;
  readonly secrets: WritableSecrets;
  readonly keys: FleetKeys;
  /** A restored database was taken over, and what a write is for may not be applied yet: nothing is refused because it is not there. */
  readonly isRecovering: () => boolean;
  /** In milliseconds; never goes back. */
  readonly elapsed: () => number;
  /** Told of failures that nobody has foreseen: the write is to be sent again. */
  readonly onProblem: (error: unknown, id: string) => void;
}

/** Secrets that are written at once for one request. */
const AT_ONCE = 4;
/** What is refused is refused for good, and a Secret may be away for a moment: moved, restored, or not heard of here yet. */
const NOT_FOUND_FOR_MS = 180_000;
/** Places that are remembered as not found; of the ones before them the time begins anew. */
const MOST_NOT_FOUND = 10_000;
/** Refusals that are put on record by one replica in an hour; a row can never be deleted. */
const MOST_TOLD = 1_000;
const TOLD_ANEW_MS = 3_600_000;
/** How often somebody else may be faster before the gateway is asked to come again. */
const CONFLICTS = 10;
/** Longer than gateways keep what was settled. */
const KEPT_MS = 14 * 86_400_000;
const FORGET_BATCH = 1_000;
const LONGEST_DETAIL = 4_096;

/** What is wrong with the write itself; all else may end without another write. */
const REFUSALS: ReadonlySet<string> = new Set([
  "ValueInvalid",
  "SealedValueInvalid",
  "TemplateInvalid",
  "TemplateCycle",
]);

type Outcomes = Map<string, WriteOutcome>;

export class GatewayWrites {
  readonly #parts: GatewayWritesParts;
  /** Since when a secret is not found, by environment, place and id. */
  readonly #notFoundSince = new Map<string, number>();

  /** Refusals that are on record already, of this hour. */
  #told = { hour: 0, refusals: new Set<string>() };

  constructor(parts: GatewayWritesParts) {
    this.#parts = parts;
  }

  /** @throws Unavailable when nothing of it could be done */
  async apply(member: Member, { settled, writes }: WritesRequest): Promise<WritesAnswer> {
    const arrived = performance.now();
    const ids = writes.flatMap(({ id, follows }) => (follows === undefined ? [id] : [id, follows]));
    const outcomes = await this.#outcomes(member, [...new Set([...settled, ...ids])]);
    const forgotten = settled.filter((id) => !outcomes.has(id));
    if (forgotten.length > 0) return { forgotten, outcomes: [] };
    const answers = new Map<string, AnsweredOutcome>();
    const groups = [...Map.groupBy(writes, ({ place }) => `${place.namespace}/${place.name}`).values()];
    const work = async (): Promise<void> => {
      for (let group = groups.shift(); group !== undefined; group = groups.shift())
        await this.#applyInOrder(member, group, arrived, outcomes, answers);
    };
    await Promise.all(Array.from({ length: AT_ONCE }, work));
    return {
      forgotten,
      outcomes: writes.flatMap(({ id }) => {
        const outcome = answers.get(id);
        return outcome === undefined ? [] : [{ id, outcome }];
      }),
    };
  }

  /** Those of these ids that are not known here. */
  async forgotten(member: Member, ids: readonly string[]): Promise<readonly string[]> {
    const outcomes = await this.#outcomes(member, ids);
    return ids.filter((id) => !outcomes.has(id));
  }

  /** Writes of one secret: behind one that has to come again, all do. */
  async #applyInOrder(
    member: Member,
    writes: readonly GatewayWrite[],
    arrived: number,
    outcomes: Outcomes,
    answers: Map<string, AnsweredOutcome>,
  ): Promise<void> {
    let later: AnsweredOutcome | undefined;
    for (const write of writes) {
      const age = () => write.ageMs + Math.round(performance.now() - arrived);
      const outcome = later ?? (await this.#once(member, write, age, outcomes));
      answers.set(write.id, outcome);
      if (outcome.kind === "Later") later = outcome;
      else outcomes.set(write.id, outcome);
    }
  }

  async #once(member: Member, write: GatewayWrite, age: () => number, outcomes: Outcomes): Promise<AnsweredOutcome> {
    const { onProblem } = this.#parts;
    try {
      for (let attempt = 1; attempt <= CONFLICTS; attempt++) {
        const known = outcomes.get(write.id);
        if (known !== undefined) return known;
        try {
          return await this.#perform(member, write, age, outcomes);
        } catch (error) {
          if (!(error instanceof Conflict)) throw error;
        }
        // Somebody has written the secret in the same moment, and it may have been this very write.
        for (const [id, outcome] of await this.#outcomes(member, [write.id])) outcomes.set(id, outcome);
      }
      return later("Progressing", "others write the secret all the time");
    } catch (error) {
      if (error instanceof Waiting || error instanceof Stalled || error instanceof Unavailable)
        return later(error.code, error.message);
      onProblem(error, write.id);
      return later("Failed", error instanceof SafeError ? error.message : "the log of the primary has more");
    }
  }

  async #perform(member: Member, write: GatewayWrite, age: () => number, outcomes: Outcomes): Promise<AnsweredOutcome> {
    const { place, author, id } = write;
    const secret = this.#parts.secrets.find(place, member.environment);
    const seen = secret && (await this.#parts.vault.describe(secret.identity));
    // Another one at the same place is none that its author has ever seen.
    if (secret === undefined || seen === undefined || !isMeant(secret.identity, seen, write))
      return this.#notFound(member, write);
    this.#notFoundSince.delete(notFoundKey(member, write));
    const { identity, entries, readers, lifecycle, appliedUsername } = secret;
    const values = decoded(write);
    const details = { onBehalfOf: author.subject, onBehalfOfVia: author.via, gatewayWrite: id };
    try {
      assertAccepted({ entries, readers, values });
      assertNotApplied(appliedUsername, values);
      const request = { identity, seen, entries, readers, values, lifecycle, actor: actorOf(member), details };
      if (await this.#isOvertaken(member, write, seen, age, outcomes))
        return await this.#keepBeside(member, write, seen, request, age);
      return await this.#put(member, write, request, age);
    } catch (error) {
      if (!(error instanceof Stalled && REFUSALS.has(error.code))) throw error;
      return await this.#refuse(member, write, error.code, error.message, "Failure");
    } finally {
      for (const value of values.values()) value.dispose();
    }
  }

  async #notFound(member: Member, write: GatewayWrite): Promise<AnsweredOutcome> {
    const { elapsed, isRecovering } = this.#parts;
    const { namespace, name } = write.place;
    const notNow = later("NotFound", `there is no such Secret ${namespace}/${name} now`);
    const key = notFoundKey(member, write);
    if (isRecovering()) {
      this.#notFoundSince.delete(key);
      return notNow;
    }
    const since = this.#notFoundSince.get(key) ?? elapsed();
    if (elapsed() - since < NOT_FOUND_FOR_MS) {
      remember(this.#notFoundSince, key, since, MOST_NOT_FOUND);
      return notNow;
    }
    return this.#refuse(member, write, "NotFound", `there is no such Secret ${namespace}/${name}`, "Denied");
  }

  /** Whether somebody has set one of its keys since its base, and more lately. */
  async #isOvertaken(
    { name, environment }: Member,
    { follows, baseVersion, values }: GatewayWrite,
    record: SecretRecord,
    age: () => number,
    outcomes: Outcomes,
  ): Promise<boolean> {
    const { vault, keys } = this.#parts;
    const before = follows === undefined ? undefined : outcomes.get(follows);
    if (record.state !== "Active") throw notActive(record);
    if (record.currentVersion === baseVersion) return false;
    for (const { key, fingerprint } of record.entries) {
      if (values[key] === undefined) continue;
      if ((await vault.fingerprintIn(record, baseVersion, key)) === fingerprint) continue;
      // What the write before it has set it has seen, whatever clocks say; not what others had set below that.
      const isOfBefore = before?.kind === "Applied" && before.changed.includes(key);
      if (isOfBefore && (await vault.fingerprintIn(record, before.version, key)) === fingerprint) continue;
      const heldForMs = await vault.heldForMs(record.id, key, fingerprint);
      // Another value is current by now.
      if (heldForMs === undefined) throw new Conflict(record.id);
      const written = { at: -age(), by: `${environment}/${name}` };
      if (!isNewer(written, { at: -heldForMs, by: keys.installationId })) return true;
    }
    return false;
  }

  async #put(
    member: Member,
    write: GatewayWrite,
    request: Omit<Parameters<Vault["put"]>[1], "handled">,
    age: () => number,
  ): Promise<WriteOutcome> {
    let outcome: WriteOutcome | undefined;
    const handled = (version: number, made: readonly string[]): HandledByVersion => {
      const written = made.filter((key) => request.values.has(key));
      outcome = { kind: "Applied", version, changed: written };
      return { write: this.#handledBy(member, write, outcome), ageMs: age() };
    };
    failpoint("gatewaywrites.beforeCommit");
    const { record, created } = await this.#parts.vault.put(UNLED, { ...request, handled });
    failpoint("gatewaywrites.afterCommit");
    if (created && outcome !== undefined) return outcome;
    return this.#record(member, write, { kind: "Applied", version: record.currentVersion, changed: [] }, []);
  }

  async #keepBeside(
    member: Member,
    write: GatewayWrite,
    seen: SecretRecord,
    request: Omit<Parameters<Vault["keepBeside"]>[2], "handled">,
    age: () => number,
  ): Promise<WriteOutcome> {
    let outcome: WriteOutcome | undefined;
    const handled = (version: number): HandledByVersion => {
      outcome = { kind: "KeptBeside", version };
      return { write: this.#handledBy(member, write, outcome), ageMs: age() };
    };
    failpoint("gatewaywrites.beforeCommit");
    await this.#parts.vault.keepBeside(UNLED, seen, { ...request, handled });
    failpoint("gatewaywrites.afterCommit");
    return outcome ?? (await this.#record(member, write, { kind: "KeptBeside" }, []));
  }

  async #refuse(
    member: Member,
    write: GatewayWrite,
    code: string,
    message: string,
    result: "Denied" | "Failure",
  ): Promise<WriteOutcome> {
    const { namespace, name } = write.place;
    const details = { secret: `${namespace}/${name}`, code, onBehalfOf: write.author.subject, gatewayWrite: write.id };
    const entry = gatewayEntry(
      "GatewayWriteRefused",
      { id: member.gatewayId, name: member.name },
      actorOf(member),
      details,
      result,
    );
    return this.#record(
      member,
      write,
      { kind: "Refused", code, detail: message.slice(0, LONGEST_DETAIL) },
      this.#isTold(member, write, code) ? [] : [entry],
    );
  }

  /** Once for each gateway, place, code and hour: a gateway may send as many writes as it likes. */
  #isTold({ gatewayId }: Member, { place: { namespace, name } }: GatewayWrite, code: string): boolean {
    const hour = Math.floor(this.#parts.elapsed() / TOLD_ANEW_MS);
    if (hour !== this.#told.hour) this.#told = { hour, refusals: new Set() };
    const { refusals } = this.#told;
    const key = [gatewayId, namespace, name, code].join("/");
    if (refusals.has(key) || refusals.size >= MOST_TOLD) return true;
    refusals.add(key);
    return false;
  }

  /** Where no version comes of it; what was recorded before is what counts. */
  async #record(
    member: Member,
    write: GatewayWrite,
    outcome: WriteOutcome,
    audit: readonly AuditEntry[],
  ): Promise<WriteOutcome> {
    if (await this.#parts.handled.record(this.#handledBy(member, write, outcome), audit)) return outcome;
    return (await this.#outcomes(member, [write.id])).get(write.id) ?? outcome;
  }

  #handledBy({ environment }: Member, { id }: GatewayWrite, outcome: WriteOutcome): HandledWrite {
    const handled = { environment, id, outcome };
    return { ...handled, mac: handledMac(this.#parts.keys, handled) };
  }

  async #outcomes({ environment }: Member, ids: readonly string[]): Promise<Outcomes> {
    if (ids.length === 0) return new Map();
    const { handled, keys } = this.#parts;
    const found = await handled.find(environment, ids);
    for (const each of found)
      if (!sameMac(each.mac, handledMac(keys, each)))
        throw new Unavailable("TamperDetected", `what came of write ${each.id} of a gateway does not match its MAC`);
    return new Map(found.map(({ id, outcome }) => [id, outcome]));
  }
}

/** What came of writes longer ago than any gateway asks for; for the leader, from time to time. */
export async function forgetHandledWrites(handled: Pick<HandledWrites, "forget">): Promise<void> {
  while ((await handled.forget(KEPT_MS, FORGET_BATCH)) === FORGET_BATCH);
}

const later = (code: string, detail: string): AnsweredOutcome => ({
  kind: "Later",
  code,
  detail: detail.slice(0, LONGEST_DETAIL),
});

/** The oldest go first. */
function remember<T>(map: Map<string, T>, key: string, value: T, most: number): void {
  map.set(key, value);
  const [oldest] = map.keys();
  if (map.size > most && oldest !== undefined) map.delete(oldest);
}

const notFoundKey = ({ environment }: Member, { place, secret }: GatewayWrite): string =>
  [environment, place.namespace, place.name, secret.id].join("/");

const isMeant = (identity: SecretIdentity, { id }: SecretRecord, { secret }: GatewayWrite): boolean =>
  id === secret.id &&
  identity.project === secret.project &&
  identity.environment === secret.environment &&
  identity.namespaceUid === secret.namespaceUid;

const actorOf = ({ name, serialNumber }: Member): Actor => gatewayActor(name, serialNumber);

const decoded = ({ values }: GatewayWrite): Map<string, Sensitive> =>
  new Map(Object.entries(values).map(([key, value]) => [key, new Sensitive(Buffer.from(value, "base64"))]));
