/**
 * The primary's side of replicas: for each environment of gateways an index of what those may have, kept current in memory by
 * every process that serves the channel, whoever leads. A gateway says what it has by a digest over it, so no position can be
 * wrong for long: after a restart, a restored database, or on another process it gets the index again where that differs.
 */
import { randomUUID } from "node:crypto";
import { setImmediate } from "node:timers/promises";
import type { Certificate } from "../../crds/certificate.ts";
import type { Secret } from "../../crds/secret.ts";
import { Unavailable } from "../errors.ts";
import type { SecretHead, SecretHeads } from "../ports/secret-heads.ts";
import type { SecretIdentity } from "../ports/vault-store.ts";
import { EnvironmentIndex } from "./environment-index.ts";
import {
  certificateKey,
  type Digested,
  isCertificateKey,
  isValuedKey,
  noDigest,
  type PlaceOfItem,
  secretKey,
} from "./replica-item.ts";
import { LONGEST_WAIT_MS, type ReplicaAnswer, type ReplicaRequest } from "./replica-protocol.ts";
import {
  gatewayEnvironments,
  grantItems,
  type SelectionView,
  secretItem,
  selected,
  selectedCertificate,
} from "./replica-selection.ts";

export interface ReplicaFeedParts {
  readonly view: SelectionView;
  readonly heads: SecretHeads;
  /** Why the view cannot tell yet what there is; undefined once it can. */
  readonly unready: () => string | undefined;
  /** A restored database was taken over, and what is missing may still come: gateways keep what they have of it. */
  readonly isRecovering: () => boolean;
  readonly onProblem: (error: unknown) => void;
}

const PAGE = 1_000;
/** Of any number that is judged anew, so many are at once: whoever serves the channel serves people too. */
const AT_ONCE = 500;
/** What changes together is told together. */
const SETTLE_MS = 25;
/** Finds what no hint told, such as another database in the place of this one. */
const RESCAN_MS = 300_000;
const AGAIN_MS = 1_000;
/** What a gateway says that has nothing. */
const NOTHING = noDigest().toString("hex");

/** An item, and in whose index it belongs. */
interface Standing {
  readonly gatewayEnvironment: string;
  readonly item: Digested;
}

export class ReplicaFeed {
  readonly #parts: ReplicaFeedParts;
  readonly #instance = randomUUID();
  readonly #indexes = new Map<string, EnvironmentIndex>();
  readonly #heads = new Map<string, SecretHead>();
  /** In which index a secret or a certificate stands, by its key. */
  readonly #standing = new Map<string, string>();
  /** Places whose items may be others now. */
  readonly #dirty = new Map<string, PlaceOfItem>();
  #allDirty = true;
  #grantsDirty = true;
  #position: bigint | undefined;
  #everRead = false;
  /** Everything was looked at once. */
  #isWhole = false;
  #hinted = true;
  #working: Promise<void> | undefined;
  #timer: NodeJS.Timeout | undefined;
  #rescan: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(parts: ReplicaFeedParts) {
    this.#parts = parts;
  }

  start(): void {
    this.#rescan = setInterval(() => this.forget(), RESCAN_MS).unref();
    this.#soon();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearInterval(this.#rescan);
    clearTimeout(this.#timer);
    for (const index of this.#indexes.values()) index.wake();
    await this.#working;
  }

  /** Something was written to the vault. */
  hint(): void {
    this.#hinted = true;
    this.#soon();
  }

  /** Hints may have been lost. */
  forget(): void {
    this.#position = undefined;
    this.hint();
  }

  secretChanged({ metadata: { namespace = "", name } }: Pick<Secret, "metadata">): void {
    const place = { namespace, name };
    this.#dirty.set(secretKey(place), place);
    this.#soon();
  }

  certificateChanged({ metadata: { namespace = "", name } }: Pick<Certificate, "metadata">): void {
    const place = { namespace, name };
    this.#dirty.set(certificateKey(place), place);
    this.#soon();
  }

  grantsChanged(): void {
    this.#grantsDirty = true;
    this.#soon();
  }

  /** Projects and namespaces decide about everything in them. */
  tenantsChanged(): void {
    this.#allDirty = true;
    this.grantsChanged();
  }

  /**
   * What a gateway of this environment lacks; waits for it where there is nothing.
   *
   * @throws Unavailable ReplicaNotReady while it cannot be told: a gateway must not take that for nothing
   */
  async changes(environment: string, request: ReplicaRequest, signal: AbortSignal): Promise<ReplicaAnswer> {
    const { instance, sequence, digest, after, waitMs } = request;
    const index = this.#index(environment);
    const seen = instance === this.#instance ? sequence : undefined;
    if (after !== undefined) return this.#page(index, after);
    const answer = this.#answer(index, seen, digest);
    if (answer.kind !== "Same" || waitMs === 0) return answer;
    await index.moved(answer.sequence, Math.min(waitMs, LONGEST_WAIT_MS), signal);
    return this.#answer(this.#index(environment), answer.sequence, digest);
  }

  /** The item of a gateway of this environment, as it is known now. */
  item(environment: string, key: string): Digested | undefined {
    return this.#index(environment).get(key);
  }

  #index(environment: string): EnvironmentIndex {
    const unready = this.#stopped ? "it is being ended" : (this.#parts.unready() ?? this.#unread);
    if (unready !== undefined)
      throw new Unavailable("ReplicaNotReady", `what gateways may have is not known yet: ${unready}`);
    return this.#indexOf(environment);
  }

  get #unread(): string | undefined {
    return this.#isWhole ? undefined : "the vault has not been read";
  }

  #indexOf(environment: string): EnvironmentIndex {
    const known = this.#indexes.get(environment);
    if (known !== undefined) return known;
    const index = new EnvironmentIndex();
    this.#indexes.set(environment, index);
    return index;
  }

  #answer(index: EnvironmentIndex, seen: number | undefined, digest: string): ReplicaAnswer {
    const position = { instance: this.#instance, sequence: index.sequence };
    if (index.digest === digest) return { kind: "Same", ...position };
    if (this.#parts.isRecovering() && digest !== NOTHING) return this.#additions(index, seen);
    const changes = seen === undefined ? undefined : index.since(seen);
    // Who has all changes and still something else, has lost something.
    if (changes === undefined || changes.sequence === seen) return this.#page(index, undefined);
    const isAll = changes.sequence === index.sequence;
    return { kind: "Changes", instance: this.#instance, ...changes, ...(isAll && { digest: index.digest }) };
  }

  /**
   * What is there and a gateway may lack, and nothing that takes from it: it has more than can be seen here. Grants are made of Projects
   * and namespaces, of which each may be missing, so that those which it has count on.
   */
  #additions(index: EnvironmentIndex, seen = 0): ReplicaAnswer {
    const changes = index.since(seen);
    if (changes === undefined)
      throw new Unavailable(
        "ReplicaNotReady",
        "more has changed than is remembered; it is told when the recovery is settled",
      );
    const position = { instance: this.#instance, sequence: changes.sequence };
    const changed = changes.changed.filter(({ key }) => isValuedKey(key));
    return changed.length === 0 && changes.sequence === index.sequence
      ? { kind: "Same", ...position }
      : { kind: "Changes", ...position, changed, removed: [] };
  }

  #page(index: EnvironmentIndex, after: string | undefined): ReplicaAnswer {
    return { kind: "Index", instance: this.#instance, sequence: index.sequence, ...index.page(after) };
  }

  #soon(afterMs = SETTLE_MS): void {
    if (this.#stopped || this.#timer !== undefined) return;
    this.#timer = setTimeout(() => {
      this.#timer = undefined;
      // One at a time; what comes meanwhile asks for the next.
      if (this.#working !== undefined) {
        this.#soon();
        return;
      }
      this.#working = this.#work()
        .catch((error: unknown) => {
          this.#parts.onProblem(error);
          this.#soon(AGAIN_MS);
        })
        .finally(() => {
          this.#working = undefined;
        });
    }, afterMs);
    this.#timer.unref();
  }

  async #work(): Promise<void> {
    const failure = this.#hinted ? await this.#readHeads().catch((error: unknown) => ({ error })) : undefined;
    // What the caches lack, or was never read, would look as if it had been deleted.
    if (this.#parts.unready() !== undefined) this.#soon(AGAIN_MS);
    else if (this.#everRead) {
      if (await this.#refreshDirty()) {
        if (this.#grantsDirty) this.#refreshGrants();
        this.#isWhole = true;
      } else this.#soon(AGAIN_MS);
    }
    if (failure !== undefined) throw failure.error;
  }

  async #readHeads(): Promise<void> {
    const { heads } = this.#parts;
    this.#hinted = false;
    try {
      const changed = this.#position === undefined ? undefined : await heads.changedSince(this.#position);
      if (changed === undefined) await this.#readAll();
      else {
        for (const head of changed.heads) this.#remember(head);
        this.#position = changed.position;
      }
    } catch (error) {
      this.#hinted = true;
      throw error;
    }
  }

  async #readAll(): Promise<void> {
    const { heads } = this.#parts;
    const position = await heads.position();
    const gone = new Map(this.#heads);
    let after: string | undefined;
    for (;;) {
      const page = await heads.list(after, PAGE);
      for (const head of page) {
        gone.delete(identityText(head.identity));
        this.#remember(head);
      }
      after = page.at(-1)?.id;
      if (after === undefined) break;
    }
    for (const [text, { identity }] of gone) {
      this.#heads.delete(text);
      this.#dirty.set(secretKey(identity), identity);
    }
    this.#position = position;
    this.#everRead = true;
  }

  #remember(head: SecretHead): void {
    this.#heads.set(identityText(head.identity), head);
    this.#dirty.set(secretKey(head.identity), head.identity);
  }

  /** Whether all could be judged: what the view lacks meanwhile is judged when it has it again. */
  async #refreshDirty(): Promise<boolean> {
    const { view, unready } = this.#parts;
    if (this.#allDirty) {
      for (const { metadata } of view.secrets()) {
        const place = { namespace: metadata.namespace ?? "", name: metadata.name };
        this.#dirty.set(secretKey(place), place);
      }
      for (const { metadata } of view.certificates()) {
        const place = { namespace: metadata.namespace ?? "", name: metadata.name };
        this.#dirty.set(certificateKey(place), place);
      }
      for (const key of this.#standing.keys()) this.#dirty.set(key, placeOf(key));
      this.#allDirty = false;
    }
    const dirty = [...this.#dirty];
    this.#dirty.clear();
    for (let from = 0; from < dirty.length; from += AT_ONCE) {
      if (from > 0) await setImmediate();
      if (this.#stopped || unready() !== undefined) {
        for (const [key, place] of dirty.slice(from)) this.#dirty.set(key, place);
        return false;
      }
      for (const [key, place] of dirty.slice(from, from + AT_ONCE))
        this.#refresh(key, isCertificateKey(key) ? this.#certificate(place) : this.#secret(place));
    }
    return true;
  }

  #refresh(key: string, may: Standing | undefined): void {
    const before = this.#standing.get(key);
    if (before !== undefined && before !== may?.gatewayEnvironment) {
      this.#indexOf(before).remove(key);
      this.#standing.delete(key);
    }
    if (may === undefined) return;
    this.#indexOf(may.gatewayEnvironment).put(may.item);
    this.#standing.set(key, may.gatewayEnvironment);
  }

  #secret({ namespace, name }: PlaceOfItem): Standing | undefined {
    const secret = this.#parts.view.secret(namespace, name);
    const may = secret && selected(this.#parts.view, secret);
    if (secret === undefined || may === undefined) return undefined;
    const head = this.#heads.get(identityText(may.identity));
    if (head?.state !== "Active") return undefined;
    return { gatewayEnvironment: may.gatewayEnvironment, item: secretItem(secret, head) };
  }

  #certificate({ namespace, name }: PlaceOfItem): Standing | undefined {
    const certificate = this.#parts.view.certificate(namespace, name);
    return certificate && selectedCertificate(this.#parts.view, certificate);
  }

  #refreshGrants(): void {
    const { view } = this.#parts;
    this.#grantsDirty = false;
    for (const environment of new Set([...gatewayEnvironments(view), ...this.#indexes.keys()])) {
      const index = this.#indexOf(environment);
      const items = grantItems(view, environment);
      const wanted = new Set(items.map(({ key }) => key));
      for (const key of index.keys()) if (!isValuedKey(key) && !wanted.has(key)) index.remove(key);
      for (const item of items) index.put(item);
    }
  }
}

const identityText = ({ project, environment, namespace, namespaceUid, name }: SecretIdentity): string =>
  JSON.stringify([project, environment, namespace, namespaceUid, name]);

function placeOf(key: string): PlaceOfItem {
  const [, namespace = "", name = ""] = key.split("/");
  return { namespace, name };
}
