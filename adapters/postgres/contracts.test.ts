import { auditLogContract } from "../../core/ports/audit-log.contract.ts";
import { sinkCursorsContract } from "../../core/ports/audit-sink.contract.ts";
import { identityStoreContract } from "../../core/ports/identity-store.contract.ts";
import { keyStoreContract } from "../../core/ports/key-store.contract.ts";
import { loginAttemptsContract } from "../../core/ports/login-attempts.contract.ts";
import { pkiStoreContract } from "../../core/ports/pki-store.contract.ts";
import { requestStoreContract } from "../../core/ports/request-store.contract.ts";
import { rotationContract } from "../../core/ports/rotation.contract.ts";
import { syncStoreContract } from "../../core/ports/sync-store.contract.ts";
import { vaultStoreContract } from "../../core/ports/vault-store.contract.ts";
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

describe("PostgresPkiStore and PostgresOcspStore", () =>
  pkiStoreContract(async () => {
    const { stores, database } = await start();
    const ocsp = new PostgresOcspStore(database);
    openOcsp.push(ocsp);
    return { store: stores.pki, ocsp, leadership: stores.leadership, audit: stores.audit };
  }));

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
