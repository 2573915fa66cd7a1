import { AuditSigner } from "../../core/audit/signer.ts";
import type { AuditLog } from "../../core/ports/audit-log.ts";
import type { SinkCursors } from "../../core/ports/audit-sink.ts";
import type { IdentityStore } from "../../core/ports/identity-store.ts";
import type { KeyStore, RootKey } from "../../core/ports/key-store.ts";
import type { Leadership } from "../../core/ports/leadership.ts";
import type { LoginAttempts } from "../../core/ports/login-attempts.ts";
import type { PkiStore } from "../../core/ports/pki-store.ts";
import type { RequestStore } from "../../core/ports/request-store.ts";
import type { SyncStore } from "../../core/ports/sync-store.ts";
import type { VaultStore } from "../../core/ports/vault-store.ts";
import { KeyRing } from "../../core/vault/keyring.ts";
import { PostgresAuditLog } from "./audit-log.ts";
import { Database, type DatabaseOptions } from "./database.ts";
import { HintListener, type HintListenerOptions } from "./hint-listener.ts";
import { PostgresIdentityStore } from "./identity-store.ts";
import { PostgresKeyStore } from "./key-store.ts";
import { PostgresLeadership } from "./leadership.ts";
import { PostgresLoginAttempts } from "./login-attempts.ts";
import { OutboxHint, PKI_CHANNEL } from "./outbox-hint.ts";
import { OutboxListener, type OutboxListenerOptions } from "./outbox-listener.ts";
import { PostgresPkiStore } from "./pki-store.ts";
import { PostgresRequestStore } from "./request-store.ts";
import { PostgresSinkCursors } from "./sink-cursors.ts";
import { PostgresSyncStore } from "./sync-store.ts";
import { PostgresVaultStore } from "./vault-store.ts";

export interface Stores {
  readonly vault: VaultStore;
  readonly sync: SyncStore;
  readonly pki: PkiStore;
  readonly identity: IdentityStore;
  readonly loginAttempts: LoginAttempts;
  readonly requests: RequestStore;
  readonly audit: AuditLog;
  readonly sinkCursors: SinkCursors;
  readonly keyStore: KeyStore;
  readonly keys: KeyRing;
  readonly leadership: Leadership;
  /** Hands out outbox rows to a consumer of that name, see `OutboxListener`; close it before the stores. */
  listen(options: Pick<OutboxListenerOptions, "epoch" | "consumer" | "onRows" | "onError">): OutboxListener;
  /** Calls when the PKI's tables changed, or a responder asks for something; stop it before the stores are closed. */
  listenPki(options: Pick<HintListenerOptions, "onHint" | "onError">): HintListener;
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
      sync: new PostgresSyncStore(database, signer),
      pki: new PostgresPkiStore(database, signer, pkiHint),
      identity: new PostgresIdentityStore(database, signer),
      loginAttempts: new PostgresLoginAttempts(database),
      requests: new PostgresRequestStore(database),
      audit,
      sinkCursors: new PostgresSinkCursors(database),
      keys,
      leadership: new PostgresLeadership(database, signer),
      listen(listening) {
        const listener = new OutboxListener({ ...listening, database, store: vault, connection: options });
        listener.start();
        return listener;
      },
      listenPki(listening) {
        const listener = new HintListener({ ...listening, channel: PKI_CHANNEL, connection: options });
        listener.start();
        return listener;
      },
      async close() {
        hint.close();
        pkiHint.close();
        await database.close();
      },
    };
  } catch (error) {
    await database.close();
    throw error;
  }
}
