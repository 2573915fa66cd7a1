import { auditLogContract } from "./audit-log.contract.ts";
import { auditSinkContract, sinkCursorsContract } from "./audit-sink.contract.ts";
import { changeHintsContract } from "./change-hints.contract.ts";
import { FakeAuditLog } from "./fake-audit-log.ts";
import { FakeAuditSink, FakeSinkCursors } from "./fake-audit-sink.ts";
import { FakeChangeHints } from "./fake-change-hints.ts";
import { FakeDatabase } from "./fake-database.ts";
import { FakeIdentityStore } from "./fake-identity-store.ts";
import { FakeKeyStore } from "./fake-key-store.ts";
import { FakeLoginAttempts } from "./fake-login-attempts.ts";
import { FakePkiStore } from "./fake-pki-store.ts";
import { FakeRequestStore } from "./fake-request-store.ts";
import { FakeSyncStore } from "./fake-sync-store.ts";
import { FakeVaultStore } from "./fake-vault-store.ts";
import { identityStoreContract } from "./identity-store.contract.ts";
import { keyStoreContract } from "./key-store.contract.ts";
import { loginAttemptsContract } from "./login-attempts.contract.ts";
import { pkiStoreContract } from "./pki-store.contract.ts";
import { requestStoreContract } from "./request-store.contract.ts";
import { rotationContract } from "./rotation.contract.ts";
import { syncStoreContract } from "./sync-store.contract.ts";
import { vaultStoreContract } from "./vault-store.contract.ts";

describe("FakeVaultStore", () =>
  vaultStoreContract(async () => {
    const database = new FakeDatabase();
    return { store: new FakeVaultStore(database), leadership: database, audit: new FakeAuditLog(database) };
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

describe("FakePkiStore", () =>
  pkiStoreContract(async () => {
    const database = new FakeDatabase();
    const store = new FakePkiStore(database);
    return { store, ocsp: store, leadership: database, audit: new FakeAuditLog(database) };
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
