/** What the leader does besides reconciling: link the audit chain, end what was soft-deleted, find what disappeared. */
import { setTimeout as delay } from "node:timers/promises";
import { Backoff } from "../controllers/runtime/backoff.ts";
import { Fenced, Waiting } from "../core/errors.ts";
import type { AuditLog, CheckpointDue } from "../core/ports/audit-log.ts";
import type { SinkCursors } from "../core/ports/audit-sink.ts";
import type { GatewayCopyOwners, GatewayCopyStore } from "../core/ports/gateway-copy-store.ts";
import type { CertificateHolder, PkiStore } from "../core/ports/pki-store.ts";
import type { SecretLocation, VaultStore, Writer } from "../core/ports/vault-store.ts";
import type { Vault } from "../core/vault/vault.ts";
import type { ObjectMeta } from "../crds/common.ts";
import type { Logger } from "../program/logging.ts";
import type { Caches } from "./caches.ts";

export interface HousekeepingDependencies {
  readonly vault: Pick<Vault, "purgeExpired">;
  readonly store: Pick<VaultStore, "listLocations">;
  readonly pki: Pick<PkiStore, "listHolders">;
  readonly copies: Pick<GatewayCopyStore, "gatewayCopyOwners">;
  readonly audit: Pick<AuditLog, "link" | "checkpoint" | "cut">;
  readonly cursors: Pick<SinkCursors, "list">;
  readonly checkpointDue: CheckpointDue;
  /** After which audit rows are removed; none are when absent. */
  readonly auditRetentionMs: number | undefined;
  /** Rows were linked or a checkpoint was signed. */
  readonly onRecorded: () => void;
  readonly cluster: Pick<
    Caches,
    "held" | "secret" | "certificate" | "certificateRequest" | "namespace" | "auditSinks" | "gateway" | "syncRule"
  >;
  readonly log: Logger;
  /** Has its controller end what is stored for a Secret, by `namespace/name`, that is gone or belongs to another namespace now. */
  readonly endSecret: (key: string) => void;
  /** The same for what is kept for Certificates of that name that are gone. */
  readonly endCertificate: (key: string) => void;
  /** The same for CertificateRequests. */
  readonly endCertificateRequest: (key: string) => void;
  /** Has what a rule delivered through gateways forgotten, by `namespace/name`. */
  readonly endSyncRule: (key: string) => void;
  /** Has a Gateway of that name ended with all that is known of it. */
  readonly endGateway: (name: string) => void;
  /** Forgets how far AuditSinks of that name had come. */
  readonly endAuditSink: (name: string) => Promise<void>;
  /** What is missing may still come: nothing is ended, and nothing removed for good. */
  readonly isRecovering: () => boolean;
  readonly onFenced: (error: Fenced) => void;
  readonly now?: () => Date;
}

const LINK_EVERY_MS = 1_000;
/** Requests wait while the links of a batch are computed. */
const LINK_BATCH = 500;
const RECHECK_MS = 5_000;
const SWEEP_EVERY_MS = 3_600_000;
const PAGE = 1_000;

interface Chore {
  readonly name: string;
  readonly everyMs: number;
  run(): Promise<void>;
}

export class Housekeeping {
  readonly #deps: HousekeepingDependencies;
  #abort: AbortController | undefined;
  #running: Promise<unknown> = Promise.resolve();

  constructor(deps: HousekeepingDependencies) {
    this.#deps = deps;
  }

  start(writer: Writer): void {
    const abort = new AbortController();
    this.#abort = abort;
    const chores: readonly Chore[] = [
      { name: "link audit rows", everyMs: LINK_EVERY_MS, run: () => this.#link(writer) },
      { name: "remove old audit rows", everyMs: SWEEP_EVERY_MS, run: () => this.#cutAudit(writer, abort.signal) },
      { name: "purge expired secrets", everyMs: SWEEP_EVERY_MS, run: () => this.#purge(writer) },
      { name: "end vanished secrets", everyMs: SWEEP_EVERY_MS, run: () => this.#endSecrets(abort.signal) },
      { name: "end vanished certificates", everyMs: SWEEP_EVERY_MS, run: () => this.#endCertificates(abort.signal) },
      { name: "end vanished requests", everyMs: SWEEP_EVERY_MS, run: () => this.#endRequests(abort.signal) },
      { name: "end copies of vanished rules and gateways", everyMs: SWEEP_EVERY_MS, run: () => this.#endCopies() },
      { name: "end vanished audit sinks", everyMs: SWEEP_EVERY_MS, run: () => this.#endSinks() },
    ];
    this.#running = Promise.all(chores.map((chore) => this.#repeat(chore, abort.signal)));
  }

  async stop(): Promise<void> {
    this.#abort?.abort();
    await this.#running;
  }

  async #repeat({ name, everyMs, run }: Chore, signal: AbortSignal): Promise<void> {
    // A term begins with everything asking PostgreSQL at once, over connections that are still being made: what gets none in
    // time asks again soon.
    const backoff = new Backoff();
    while (!signal.aborted) {
      let pauseMs = everyMs;
      try {
        await run();
        backoff.reset(name);
      } catch (error) {
        if (error instanceof Fenced) this.#deps.onFenced(error);
        this.#deps.log.warn({ chore: name, error }, "housekeeping failed");
        pauseMs = error instanceof Waiting ? error.afterMs : Math.min(everyMs, backoff.next(name));
      }
      await delay(pauseMs, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }

  async #link({ epoch }: Writer): Promise<void> {
    const { audit, checkpointDue, onRecorded } = this.#deps;
    let linked: number;
    do {
      linked = await audit.link(epoch, LINK_BATCH);
      const signed = await audit.checkpoint(epoch, checkpointDue);
      if (linked > 0 || signed !== undefined) onRecorded();
    } while (linked === LINK_BATCH);
  }

  async #cutAudit({ epoch }: Writer, signal: AbortSignal): Promise<void> {
    const { audit, cursors, cluster, auditRetentionMs: retentionMs, now = () => new Date() } = this.#deps;
    if (retentionMs === undefined || this.#deps.isRecovering()) return;
    // A sink that was made while nobody led has no cursor yet, and lacks everything.
    const known = new Set((await cursors.list()).map(({ uid }) => uid));
    for (const { metadata } of cluster.auditSinks()) if (!known.has(metadata.uid)) throw notYet(metadata.name);
    const before = new Date(now().getTime() - retentionMs);
    while (!signal.aborted && (await audit.cut(epoch, before)) !== undefined);
  }

  async #purge(writer: Writer): Promise<void> {
    if (this.#deps.isRecovering()) return;
    while ((await this.#deps.vault.purgeExpired(writer, { kind: "Controller", name: "housekeeping" }, PAGE)) === PAGE);
  }

  /**
   * Objects that were deleted, or whose namespace was made anew, while nobody watched. It only finds them: their controller
   * ends each in its turn, so never while it works on a new object of that name, and until it succeeds.
   */
  async #endSecrets(signal: AbortSignal): Promise<void> {
    const { store, cluster, endSecret } = this.#deps;
    const vanished = ({ identity, state }: SecretLocation): string | undefined => {
      const { namespace, name } = identity;
      const secret = cluster.secret(namespace, name);
      const same =
        secret !== undefined &&
        secret.spec.projectRef.name === identity.project &&
        secret.spec.environment === identity.environment &&
        cluster.namespace(namespace)?.metadata.uid === identity.namespaceUid;
      return state === "Active" && !same ? `${namespace}/${name}` : undefined;
    };
    await sweep(
      (after) => store.listLocations(after, PAGE),
      ({ id }) => id,
      vanished,
      endSecret,
      signal,
    );
  }

  #endCertificates(signal: AbortSignal): Promise<void> {
    const { cluster, endCertificate } = this.#deps;
    return this.#endHolders(
      "Certificate",
      (namespace, name) => cluster.certificate(namespace, name),
      endCertificate,
      signal,
    );
  }

  #endRequests(signal: AbortSignal): Promise<void> {
    const { cluster, endCertificateRequest } = this.#deps;
    const find = (namespace: string, name: string) => cluster.certificateRequest(namespace, name);
    return this.#endHolders("CertificateRequest", find, endCertificateRequest, signal);
  }

  async #endCopies(): Promise<void> {
    const { copies, cluster, endSyncRule, endGateway } = this.#deps;
    const owners = await copies.gatewayCopyOwners();
    const once = (of: keyof GatewayCopyOwners): ReadonlySet<string> => new Set(owners.map((owner) => owner[of]));
    for (const key of once("rule")) if (cluster.syncRule(key) === undefined) endSyncRule(key);
    for (const name of once("gateway")) if (cluster.gateway(name) === undefined) endGateway(name);
  }

  async #endSinks(): Promise<void> {
    if (this.#deps.isRecovering()) return;
    const { cursors, cluster, endAuditSink } = this.#deps;
    const held = await cursors.list();
    // Read later: one that was made in between is among them.
    const standing = new Set([...cluster.auditSinks()].map(({ metadata }) => metadata.name));
    for (const { name } of held) if (!standing.has(name)) await endAuditSink(name);
  }

  #endHolders(
    kind: CertificateHolder["kind"],
    find: (namespace: string, name: string) => { readonly metadata: ObjectMeta } | undefined,
    end: (key: string) => void,
    signal: AbortSignal,
  ): Promise<void> {
    const vanished = (holder: CertificateHolder): string | undefined => {
      const { uid, namespace, name } = holder;
      if (holder.kind !== kind) return undefined;
      const found = find(namespace, name);
      const same = found !== undefined && this.#deps.cluster.held.of(kind, found.metadata) === uid;
      return same ? undefined : `${namespace}/${name}`;
    };
    return sweep(
      (after) => this.#deps.pki.listHolders(after, PAGE),
      ({ uid }) => uid,
      vanished,
      end,
      signal,
    );
  }
}

const notYet = (sink: string): Waiting =>
  new Waiting("Failed", `audit rows stay until AuditSink ${sink} is known in the database`, RECHECK_MS);

/** Looks at every row, and has what vanished ended. */
async function sweep<Row>(
  list: (after: string | undefined) => Promise<readonly Row[]>,
  idOf: (row: Row) => string,
  vanished: (row: Row) => string | undefined,
  end: (key: string) => void,
  signal: AbortSignal,
): Promise<void> {
  let after: string | undefined;
  do {
    const page = await list(after);
    for (const key of new Set(page.map(vanished))) if (key !== undefined) end(key);
    const last = page.at(-1);
    after = page.length === PAGE && last !== undefined ? idOf(last) : undefined;
  } while (after !== undefined && !signal.aborted);
}
