import { auditLogContract } from "./audit-log.contract.ts";
import { auditSinkContract, sinkCursorsContract } from "./audit-sink.contract.ts";
import { callLedgerContract } from "./call-ledger.contract.ts";
import { changeHintsContract } from "./change-hints.contract.ts";
import { copyStoreContract } from "./copy-store.contract.ts";
import { environmentStoreContract } from "./environment-store.contract.ts";
import { FakeAuditLog } from "./fake-audit-log.ts";
import { FakeAuditSink, FakeSinkCursors } from "./fake-audit-sink.ts";
import { FakeCallLedger } from "./fake-call-ledger.ts";
import { FakeChangeHints } from "./fake-change-hints.ts";
import { FakeCopyStore } from "./fake-copy-store.ts";
import { FakeDatabase } from "./fake-database.ts";
import { FakeEnvironmentStore } from "./fake-environment-store.ts";
import { FakeFleetStore } from "./fake-fleet-store.ts";
import { FakeGatewayCopyStore } from "./fake-gateway-copy-store.ts";
import { FakeHandledWrites } from "./fake-handled-writes.ts";
import { FakeHomeStore } from "./fake-home-store.ts";
import { FakeIdentityStore } from "./fake-identity-store.ts";
import { FakeKeptEntries } from "./fake-kept-entries.ts";
import { FakeKeyStore } from "./fake-key-store.ts";
import { FakeLoginAttempts } from "./fake-login-attempts.ts";
import { FakeMembershipStore } from "./fake-membership-store.ts";
import { FakePkiStore } from "./fake-pki-store.ts";
import { FakeReplicaStore } from "./fake-replica-store.ts";
import { FakeRequestStore } from "./fake-request-store.ts";
import { FakeSigningStore } from "./fake-signing-store.ts";
import { FakeSyncStore } from "./fake-sync-store.ts";
import { FakeTaskStore } from "./fake-task-store.ts";
import { FakeVaultStore } from "./fake-vault-store.ts";
import { FakeWriteQueue } from "./fake-write-queue.ts";
import { fleetStoreContract } from "./fleet-store.contract.ts";
import { gatewayCopyStoreContract } from "./gateway-copy-store.contract.ts";
import { handledWritesContract } from "./handled-writes.contract.ts";
import { homeStoreContract } from "./home-store.contract.ts";
import { identityStoreContract } from "./identity-store.contract.ts";
import { keptEntriesContract } from "./kept-entries.contract.ts";
import { keyStoreContract } from "./key-store.contract.ts";
import { loginAttemptsContract } from "./login-attempts.contract.ts";
import { membershipStoreContract } from "./membership-store.contract.ts";
import { pkiStoreContract } from "./pki-store.contract.ts";
import { replicaStoreContract } from "./replica-store.contract.ts";
import { requestStoreContract } from "./request-store.contract.ts";
import { rotationContract } from "./rotation.contract.ts";
import { secretHeadsContract } from "./secret-heads.contract.ts";
import { signingStoreContract } from "./signing-store.contract.ts";
import { syncStoreContract } from "./sync-store.contract.ts";
import { taskStoreContract } from "./task-store.contract.ts";
import { vaultStoreContract } from "./vault-store.contract.ts";
import { writeQueueContract } from "./write-queue.contract.ts";

describe("FakeVaultStore", () =>
  vaultStoreContract(async () => {
    const database = new FakeDatabase();
    return { store: new FakeVaultStore(database), leadership: database, audit: new FakeAuditLog(database) };
  }));

describe("FakeReplicaStore", () =>
  replicaStoreContract(async () => {
    const database = new FakeDatabase();
    return {
      replica: new FakeReplicaStore(database),
      leadership: database,
      audit: new FakeAuditLog(database),
    };
  }));

describe("FakeVaultStore as SecretHeads", () =>
  secretHeadsContract(async () => {
    const database = new FakeDatabase();
    const store = new FakeVaultStore(database);
    return { heads: store, store, leadership: database };
  }));

describe("FakeKeptEntries", () =>
  keptEntriesContract(async () => {
    const database = new FakeDatabase();
    const store = new FakeVaultStore(database);
    return { store, entries: new FakeKeptEntries(database, store), leadership: database };
  }));

describe("FakeHomeStore", () =>
  homeStoreContract(async () => {
    const database = new FakeDatabase();
    return { home: new FakeHomeStore(database), leadership: database, audit: new FakeAuditLog(database) };
  }));

describe("FakeAuditSink", () =>
  auditSinkContract(async () => {
    const sink = new FakeAuditSink();
    const refuse = async (refusing: boolean) => {
      sink.refuses = refusing;
    };
    return { sink, received: async () => sink.received, refuse };
  }));

describe("FakeSinkCursors", () =>
  sinkCursorsContract(async () => {
    const database = new FakeDatabase();
    return { cursors: new FakeSinkCursors(database), leadership: database };
  }));

describe("FakeAuditLog", () =>
  auditLogContract(async () => {
    const database = new FakeDatabase();
    return { audit: new FakeAuditLog(database), leadership: database, sinkCursors: new FakeSinkCursors(database) };
  }));

describe("FakeKeyStore", () =>
  keyStoreContract(async () => {
    const database = new FakeDatabase();
    return { store: new FakeKeyStore(database), leadership: database };
  }));

describe("FakeKeyStore and FakeVaultStore", () =>
  rotationContract(async () => {
    const database = new FakeDatabase();
    const vault = new FakeVaultStore(database);
    return { keys: new FakeKeyStore(database), vault, leadership: database, audit: new FakeAuditLog(database) };
  }));

describe("FakeSyncStore", () =>
  syncStoreContract(async () => {
    const database = new FakeDatabase();
    const vault = new FakeVaultStore(database);
    return { sync: new FakeSyncStore(database, vault), vault, leadership: database };
  }));

describe("FakeCopyStore", () =>
  copyStoreContract(async () => {
    const database = new FakeDatabase();
    const vault = new FakeVaultStore(database);
    const audit = new FakeAuditLog(database);
    return { copies: new FakeCopyStore(database, vault), vault, leadership: database, audit };
  }));

describe("FakeGatewayCopyStore", () =>
  gatewayCopyStoreContract(async () => {
    const database = new FakeDatabase();
    const vault = new FakeVaultStore(database);
    const audit = new FakeAuditLog(database);
    return { copies: new FakeGatewayCopyStore(database, vault), vault, leadership: database, audit };
  }));

describe("FakePkiStore", () =>
  pkiStoreContract(async () => {
    const database = new FakeDatabase();
    const store = new FakePkiStore(database);
    return { store, ocsp: store, leadership: database, audit: new FakeAuditLog(database) };
  }));

describe("FakeFleetStore", () =>
  fleetStoreContract(async () => {
    const database = new FakeDatabase();
    const pki = new FakePkiStore(database);
    return { store: new FakeFleetStore(database, pki), pki, leadership: database, audit: new FakeAuditLog(database) };
  }));

describe("FakeEnvironmentStore", () =>
  environmentStoreContract(async () => {
    const database = new FakeDatabase();
    const environments = new FakeEnvironmentStore(database);
    return { environments, leadership: database, audit: new FakeAuditLog(database) };
  }));

describe("FakeTaskStore", () =>
  taskStoreContract(async () => {
    const database = new FakeDatabase();
    const fleet = new FakeFleetStore(database, new FakePkiStore(database));
    return { tasks: new FakeTaskStore(fleet), fleet };
  }));

describe("FakeSigningStore", () =>
  signingStoreContract(async () => {
    const database = new FakeDatabase();
    const fleet = new FakeFleetStore(database, new FakePkiStore(database));
    return { signing: new FakeSigningStore(database), fleet, leadership: database };
  }));

describe("FakeIdentityStore", () =>
  identityStoreContract(async () => {
    const database = new FakeDatabase();
    return { store: new FakeIdentityStore(database), audit: new FakeAuditLog(database) };
  }));

describe("FakeRequestStore", () =>
  requestStoreContract(async () => {
    const database = new FakeDatabase();
    return { store: new FakeRequestStore(database), audit: new FakeAuditLog(database) };
  }));

describe("FakeChangeHints", () =>
  changeHintsContract(async () => {
    const first = new FakeChangeHints();
    return [first, new FakeChangeHints(first), new FakeChangeHints(first)];
  }));

describe("FakeLoginAttempts", () => loginAttemptsContract(async () => new FakeLoginAttempts()));

describe("FakeCallLedger", () => callLedgerContract(async () => new FakeCallLedger()));

describe("FakeMembershipStore", () =>
  membershipStoreContract(async () => {
    const database = new FakeDatabase();
    return { membership: new FakeMembershipStore(database), leadership: database, audit: new FakeAuditLog(database) };
  }));

describe("FakeWriteQueue", () =>
  writeQueueContract(async () => {
    const database = new FakeDatabase();
    return { writeQueue: new FakeWriteQueue(database), leadership: database, audit: new FakeAuditLog(database) };
  }));

describe("FakeHandledWrites", () =>
  handledWritesContract(async () => {
    const database = new FakeDatabase();
    const vault = new FakeVaultStore(database);
    return { handledWrites: new FakeHandledWrites(database, vault), vault, audit: new FakeAuditLog(database) };
  }));
