import { AuditSigner } from "../../core/audit/signer.ts";
import type { AuditLog } from "../../core/ports/audit-log.ts";
import type { SinkCursors } from "../../core/ports/audit-sink.ts";
import type { CallLedger } from "../../core/ports/call-ledger.ts";
import type { CopyStore } from "../../core/ports/copy-store.ts";
import type { EnvironmentStore } from "../../core/ports/environment-store.ts";
import type { FleetStore } from "../../core/ports/fleet-store.ts";
import type { GatewayCopyStore } from "../../core/ports/gateway-copy-store.ts";
import type { HandledWrites } from "../../core/ports/handled-writes.ts";
import type { HomeStore } from "../../core/ports/home-store.ts";
import type { IdentityStore } from "../../core/ports/identity-store.ts";
import type { KeptEntries } from "../../core/ports/kept-entries.ts";
import type { KeyStore, RootKey } from "../../core/ports/key-store.ts";
import type { Leadership } from "../../core/ports/leadership.ts";
import type { LoginAttempts } from "../../core/ports/login-attempts.ts";
import type { MembershipStore } from "../../core/ports/membership-store.ts";
import type { PkiStore } from "../../core/ports/pki-store.ts";
import type { ReplicaStore } from "../../core/ports/replica-store.ts";
import type { RequestStore } from "../../core/ports/request-store.ts";
import type { SecretHeads } from "../../core/ports/secret-heads.ts";
import type { SigningStore } from "../../core/ports/signing-store.ts";
import type { SyncStore } from "../../core/ports/sync-store.ts";
import type { TaskStore } from "../../core/ports/task-store.ts";
import type { VaultHints } from "../../core/ports/vault-hints.ts";
import type { VaultStore } from "../../core/ports/vault-store.ts";
import type { WriteQueue } from "../../core/ports/write-queue.ts";
import { KeyRing } from "../../core/vault/keyring.ts";
import { PostgresAuditLog } from "./audit-log.ts";
import { PostgresCallLedger } from "./call-ledger.ts";
import { PostgresCopyStore } from "./copy-store.ts";
import { Database, type DatabaseOptions } from "./database.ts";
import { PostgresEnvironmentStore } from "./environment-store.ts";
import { FLEET_CHANNEL, PostgresFleetStore } from "./fleet-store.ts";
import { PostgresGatewayCopyStore } from "./gateway-copy-store.ts";
import { PostgresHandledWrites } from "./handled-writes.ts";
import { HintListener, type HintListenerOptions } from "./hint-listener.ts";
import { PostgresHomeStore } from "./home-store.ts";
import { PostgresIdentityStore } from "./identity-store.ts";
import { PostgresKeptEntries } from "./kept-entries.ts";
import { PostgresKeyStore } from "./key-store.ts";
import { PostgresLeadership } from "./leadership.ts";
import { PostgresLoginAttempts } from "./login-attempts.ts";
import { PostgresMembershipStore } from "./membership-store.ts";
import { OutboxHint, PKI_CHANNEL, CHANNEL as SECRETS_CHANNEL } from "./outbox-hint.ts";
import { OutboxListener, type OutboxListenerOptions } from "./outbox-listener.ts";
import { PostgresPkiStore } from "./pki-store.ts";
import { PostgresReplicaStore } from "./replica-store.ts";
import { PostgresRequestStore } from "./request-store.ts";
import { PostgresSecretHeads } from "./secret-heads.ts";
import { PostgresSigningStore } from "./signing-store.ts";
import { PostgresSinkCursors } from "./sink-cursors.ts";
import { PostgresSyncStore } from "./sync-store.ts";
import { PostgresTaskStore, TASK_CHANNEL } from "./task-store.ts";
import { VAULT_CHANNEL, VaultHint } from "./vault-hint.ts";
import { PostgresVaultStore } from "./vault-store.ts";
import { PostgresWriteQueue, WRITES_CHANNEL } from "./write-queue.ts";

export interface Stores {
  readonly vault: VaultStore;
  readonly secretHeads: SecretHeads;
  readonly kept: KeptEntries;
  readonly sync: SyncStore;
  readonly copies: CopyStore;
  readonly gatewayCopies: GatewayCopyStore;
  readonly pki: PkiStore;
  readonly fleet: FleetStore;
  readonly environments: EnvironmentStore;
  readonly home: HomeStore;
  readonly tasks: TaskStore;
  /** In mode primary. */
  readonly signing: SigningStore;
  readonly identity: IdentityStore;
  readonly loginAttempts: LoginAttempts;
  readonly requests: RequestStore;
  readonly audit: AuditLog;
  readonly sinkCursors: SinkCursors;
  readonly keyStore: KeyStore;
  readonly keys: KeyRing;
  readonly leadership: Leadership;
  readonly callLedger: CallLedger;
  /** In mode primary. */
  readonly handledWrites: HandledWrites;
  /** In mode gateway. */
  readonly membership: MembershipStore;
  readonly replica: ReplicaStore;
  /** In mode gateway. */
  readonly writeQueue: WriteQueue;
  /** Hands out outbox rows to a consumer of that name, see `OutboxListener`; close it before the stores. */
  listen(options: Pick<OutboxListenerOptions, "epoch" | "consumer" | "onRows" | "onError">): OutboxListener;
  /** Calls when secrets were written; with `true` when hints may have been lost. Stop it before the stores are closed. */
  listenSecrets(
    options: { readonly onHint: (isAnew: boolean) => void } & Pick<HintListenerOptions, "onError">,
  ): HintListener;
  /** Calls when the PKI's tables changed, or a responder asks for something; stop it before the stores are closed. */
  listenPki(options: Pick<HintListenerOptions, "onHint" | "onError">): HintListener;
  /** Calls when something is asked for or answered in the fleet, or a gateway is revoked; stop it before the stores are closed. */
  listenFleet(options: Pick<HintListenerOptions, "onHint" | "onError">): HintListener;
  /** Calls with `environment NAME` when a task waits there, and `task ID` when one has ended; stop it before the stores are closed. */
  listenTasks(options: Pick<HintListenerOptions, "onHint" | "onError">): HintListener;
  /** Calls when a write is accepted, or was answered by the primary; stop it before the stores are closed. */
  listenWrites(options: Pick<HintListenerOptions, "onHint" | "onError">): HintListener;
  /** To the leader, from whoever is told of changes in vaults. */
  readonly vaultHints: VaultHints;
  /** Calls with the name of a vault in which something changed; stop it before the stores are closed. */
  listenVaults(
    options: { readonly onHint: (vault: string) => void } & Pick<HintListenerOptions, "onError">,
  ): HintListener;
  close(): Promise<void>;
}

/**
 * All stores on one pool, and the key ring opened, on a database that `migrate` has brought up to date. Throws
 * `Unavailable` with DatabaseUnavailable or KeyUnavailable; calling again is harmless.
 *
 * @param previous the root key that is being replaced
 */
export async function openStores(options: DatabaseOptions, root: RootKey, previous?: RootKey): Promise<Stores> {
  const database = new Database(options);
  const signer = new AuditSigner();
  const hint = new OutboxHint(database);
  const pkiHint = new OutboxHint(database, PKI_CHANNEL);
  const fleetHint = new OutboxHint(database, FLEET_CHANNEL);
  const writesHint = new OutboxHint(database, WRITES_CHANNEL);
  const vaultHint = new VaultHint(database);
  const keyStore: KeyStore = new PostgresKeyStore(database, signer);
  const audit = new PostgresAuditLog(database, signer);
  try {
    const keys = await KeyRing.open(keyStore, root, previous);
    signer.useKeys(keys.auditKey, keys);
    await audit.append(keys.created);
    const vault = new PostgresVaultStore(database, signer, hint);
    return {
      vault,
      keyStore,
      secretHeads: new PostgresSecretHeads(database),
      kept: new PostgresKeptEntries(database),
      sync: new PostgresSyncStore(database, signer),
      copies: new PostgresCopyStore(database, signer),
      gatewayCopies: new PostgresGatewayCopyStore(database, signer),
      pki: new PostgresPkiStore(database, signer, pkiHint),
      fleet: new PostgresFleetStore(database, signer, fleetHint),
      environments: new PostgresEnvironmentStore(database, signer),
      home: new PostgresHomeStore(database, signer),
      tasks: new PostgresTaskStore(database),
      signing: new PostgresSigningStore(database, fleetHint),
      identity: new PostgresIdentityStore(database, signer),
      loginAttempts: new PostgresLoginAttempts(database),
      requests: new PostgresRequestStore(database),
      audit,
      sinkCursors: new PostgresSinkCursors(database),
      keys,
      leadership: new PostgresLeadership(database, signer),
      callLedger: new PostgresCallLedger(database),
      handledWrites: new PostgresHandledWrites(database, signer),
      membership: new PostgresMembershipStore(database, signer),
      writeQueue: new PostgresWriteQueue(database, signer, writesHint),
      replica: new PostgresReplicaStore(database, signer),
      listen(listening) {
        const listener = new OutboxListener({ ...listening, database, store: vault, connection: options });
        listener.start();
        return listener;
      },
      listenSecrets({ onHint, onError }) {
        const listener = new HintListener({
          connection: options,
          channel: SECRETS_CHANNEL,
          onHint: (says) => onHint(says === undefined),
          ...(onError && { onError }),
        });
        listener.start();
        return listener;
      },
      listenPki(listening) {
        const listener = new HintListener({ ...listening, channel: PKI_CHANNEL, connection: options });
        listener.start();
        return listener;
      },
      listenFleet(listening) {
        const listener = new HintListener({ ...listening, channel: FLEET_CHANNEL, connection: options });
        listener.start();
        return listener;
      },
      listenTasks(listening) {
        const listener = new HintListener({ ...listening, channel: TASK_CHANNEL, connection: options });
        listener.start();
        return listener;
      },
      listenWrites(listening) {
        const listener = new HintListener({ ...listening, channel: WRITES_CHANNEL, connection: options });
        listener.start();
        return listener;
      },
      vaultHints: vaultHint,
      listenVaults({ onHint, onError }) {
        const listener = new HintListener({
          connection: options,
          channel: VAULT_CHANNEL,
          onHint: (vault = "") => vault !== "" && onHint(vault),
          ...(onError && { onError }),
        });
        listener.start();
        return listener;
      },
      async close() {
        vaultHint.close();
        hint.close();
        pkiHint.close();
        fleetHint.close();
        writesHint.close();
        await database.close();
      },
    };
  } catch (error) {
    await database.close();
    throw error;
  }
}
