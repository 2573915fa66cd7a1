import { auditLogContract } from "../../core/ports/audit-log.contract.ts";
import { sinkCursorsContract } from "../../core/ports/audit-sink.contract.ts";
import { callLedgerContract } from "../../core/ports/call-ledger.contract.ts";
import { copyStoreContract } from "../../core/ports/copy-store.contract.ts";
import { environmentStoreContract, successionContract } from "../../core/ports/environment-store.contract.ts";
import { fleetStoreContract } from "../../core/ports/fleet-store.contract.ts";
import { gatewayCopyStoreContract } from "../../core/ports/gateway-copy-store.contract.ts";
import { handledWritesContract } from "../../core/ports/handled-writes.contract.ts";
import { identityStoreContract } from "../../core/ports/identity-store.contract.ts";
import { keptEntriesContract } from "../../core/ports/kept-entries.contract.ts";
import { keyStoreContract } from "../../core/ports/key-store.contract.ts";
import { loginAttemptsContract } from "../../core/ports/login-attempts.contract.ts";
import { membershipStoreContract } from "../../core/ports/membership-store.contract.ts";
import { pkiStoreContract } from "../../core/ports/pki-store.contract.ts";
import { replicaStoreContract } from "../../core/ports/replica-store.contract.ts";
import { requestStoreContract } from "../../core/ports/request-store.contract.ts";
import { rotationContract } from "../../core/ports/rotation.contract.ts";
import { secretHeadsContract } from "../../core/ports/secret-heads.contract.ts";
import { signingStoreContract } from "../../core/ports/signing-store.contract.ts";
import { syncStoreContract } from "../../core/ports/sync-store.contract.ts";
import { taskStoreContract } from "../../core/ports/task-store.contract.ts";
import { vaultStoreContract } from "../../core/ports/vault-store.contract.ts";
import { writeQueueContract } from "../../core/ports/write-queue.contract.ts";
import { PostgresOcspStore } from "./ocsp-store.ts";
import { withConnection } from "./testing/client.ts";
import { openInstallation, type TestInstallation } from "./testing/installation.ts";
import { startServer, type TestServer } from "./testing/server.ts";

let server: TestServer;
const open: TestInstallation[] = [];
const openOcsp: PostgresOcspStore[] = [];

beforeAll(async () => {
  server = await startServer();
});
afterEach(async () => {
  for (const ocsp of openOcsp.splice(0)) await ocsp.close();
  for (const installation of open.splice(0)) await installation.stores.close();
});
afterAll(() => server.stop());

async function start(): Promise<TestInstallation> {
  const installation = await openInstallation(await server.restored());
  open.push(installation);
  return installation;
}

test("the server is the one that this run is about", async () => {
  const version = await withConnection(await server.database({ migrated: false }), async (client) => {
    const { rows } = await client.query<{ version: string }>("SELECT current_setting('server_version_num') AS version");
    return Number(rows[0]?.version);
  });
  expect(Math.floor(version / 10_000)).toBe(globalThis.postgresPrograms?.major ?? 18);
});

describe("PostgresVaultStore", () =>
  vaultStoreContract(async () => {
    const { stores } = await start();
    return { store: stores.vault, leadership: stores.leadership, audit: stores.audit };
  }));

describe("PostgresKeptEntries", () =>
  keptEntriesContract(async () => {
    const { stores } = await start();
    return { store: stores.vault, entries: stores.kept, leadership: stores.leadership };
  }));

describe("PostgresAuditLog", () => auditLogContract(async () => (await start()).stores));

describe("PostgresSinkCursors", () =>
  sinkCursorsContract(async () => {
    const { stores } = await start();
    return { cursors: stores.sinkCursors, leadership: stores.leadership };
  }));

describe("PostgresKeyStore", () =>
  keyStoreContract(async () => {
    const { stores } = await start();
    return { store: stores.keyStore, leadership: stores.leadership };
  }));

describe("PostgresKeyStore and PostgresVaultStore", () =>
  rotationContract(async () => {
    const { stores } = await start();
    const { keyStore: keys, vault, leadership, audit } = stores;
    return { keys, vault, leadership, audit };
  }));

describe("PostgresSyncStore", () => syncStoreContract(async () => (await start()).stores));

describe("PostgresCopyStore", () => copyStoreContract(async () => (await start()).stores));

describe("PostgresGatewayCopyStore", () =>
  gatewayCopyStoreContract(async () => {
    const { stores } = await start();
    return { ...stores, copies: stores.gatewayCopies };
  }));

describe("PostgresPkiStore and PostgresOcspStore", () =>
  pkiStoreContract(async () => {
    const { stores, database } = await start();
    const ocsp = new PostgresOcspStore(database);
    openOcsp.push(ocsp);
    return { store: stores.pki, ocsp, leadership: stores.leadership, audit: stores.audit };
  }));

describe("PostgresFleetStore", () =>
  fleetStoreContract(async () => {
    const { stores } = await start();
    return { store: stores.fleet, pki: stores.pki, leadership: stores.leadership, audit: stores.audit };
  }));

describe("PostgresEnvironmentStore", () => {
  environmentStoreContract(async () => (await start()).stores);
  successionContract(async () => (await start()).stores);
});
describe("PostgresTaskStore", () => taskStoreContract(async () => (await start()).stores));
describe("PostgresSigningStore", () => signingStoreContract(async () => (await start()).stores));

describe("PostgresIdentityStore", () =>
  identityStoreContract(async () => {
    const { stores } = await start();
    return { store: stores.identity, audit: stores.audit };
  }));

describe("PostgresRequestStore", () =>
  requestStoreContract(async () => {
    const { stores } = await start();
    return { store: stores.requests, audit: stores.audit };
  }));

describe("PostgresLoginAttempts", () => loginAttemptsContract(async () => (await start()).stores.loginAttempts));

describe("PostgresCallLedger", () => callLedgerContract(async () => (await start()).stores.callLedger));

describe("PostgresReplicaStore", () => replicaStoreContract(async () => (await start()).stores));

describe("PostgresSecretHeads", () =>
  secretHeadsContract(async () => {
    const { stores } = await start();
    return { heads: stores.secretHeads, store: stores.vault, leadership: stores.leadership };
  }));

describe("PostgresMembershipStore", () => membershipStoreContract(async () => (await start()).stores));

describe("PostgresWriteQueue", () => writeQueueContract(async () => (await start()).stores));

describe("PostgresHandledWrites", () => handledWritesContract(async () => (await start()).stores));
