import { randomBytes, randomUUID } from "node:crypto";
import { auditLogContract } from "../../core/ports/audit-log.contract.ts";
import { sinkCursorsContract } from "../../core/ports/audit-sink.contract.ts";
import { callLedgerContract } from "../../core/ports/call-ledger.contract.ts";
import { copyStoreContract } from "../../core/ports/copy-store.contract.ts";
import { environmentStoreContract, successionContract } from "../../core/ports/environment-store.contract.ts";
import { fleetStoreContract } from "../../core/ports/fleet-store.contract.ts";
import { gatewayCopyStoreContract } from "../../core/ports/gateway-copy-store.contract.ts";
import { handledWritesContract } from "../../core/ports/handled-writes.contract.ts";
import type { HandledWrite } from "../../core/ports/handled-writes.ts";
import { homeStoreContract } from "../../core/ports/home-store.contract.ts";
import { identityStoreContract } from "../../core/ports/identity-store.contract.ts";
import { keptEntriesContract } from "../../core/ports/kept-entries.contract.ts";
import { keyStoreContract } from "../../core/ports/key-store.contract.ts";
import { loginAttemptsContract } from "../../core/ports/login-attempts.contract.ts";
import { membershipStoreContract } from "../../core/ports/membership-store.contract.ts";
import { pkiStoreContract } from "../../core/ports/pki-store.contract.ts";
import { replicaStoreContract } from "../../core/ports/replica-store.contract.ts";
import { requestStoreContract } from "../../core/ports/request-store.contract.ts";
import { rotationContract } from "../../core/ports/rotation.contract.ts";
import { digest, identity, nextVersion, softDeletion, withPassword } from "../../core/ports/samples.ts";
import { secretHeadsContract } from "../../core/ports/secret-heads.contract.ts";
import { signingStoreContract } from "../../core/ports/signing-store.contract.ts";
import { syncStoreContract } from "../../core/ports/sync-store.contract.ts";
import { taskStoreContract } from "../../core/ports/task-store.contract.ts";
import { vaultStoreContract } from "../../core/ports/vault-store.contract.ts";
import { type NewVersion, type SecretRecord, UNLED, type VaultStore } from "../../core/ports/vault-store.ts";
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
describe("PostgresHomeStore", () => homeStoreContract(async () => (await start()).stores));
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

describe("versions that were made before entries kept when their values were set", () => {
  const [HOUR_MS, DAY_MS] = [3_600_000, 86_400_000];
  const one = identity("one");
  const [password, other] = [digest(), digest()];
  const handled = (ageMs: number): Pick<NewVersion, "handled"> => {
    const outcome: HandledWrite["outcome"] = { kind: "Applied", version: 1, changed: ["password"] };
    return { handled: { write: { environment: "NPR", id: randomUUID(), outcome, mac: randomBytes(32) }, ageMs } };
  };
  const next = (seen: SecretRecord | undefined, fingerprint: string, keep = 9) =>
    withPassword(nextVersion(one, seen, keep), fingerprint);

  test.each<[string, (vault: VaultStore, seen: SecretRecord) => Promise<void>]>([
    ["the next one was made", (vault, seen) => vault.commitVersion(UNLED, next(seen, password, 1))],
    [
      "fewer are kept",
      (vault, { lifecycle, ...seen }) => {
        const fewer = { ...seen, lifecycle: { ...lifecycle, keepVersions: 1 } };
        return vault.changePointer(UNLED, { ...softDeletion(fewer, new Date(), new Date()), state: "Active" });
      },
    ],
  ])("tell since when a value is held, and so it stays when they go since %s", async (_, change) => {
    const { stores, database } = await start();
    const { vault } = stores;
    const seen = async () => {
      const found = await vault.find(one);
      if (found === undefined) throw new Error("expected a stored secret");
      return found.record;
    };
    const heldFor = async (fingerprint = password) => vault.heldForMs((await seen()).id, "password", fingerprint);
    await vault.commitVersion(UNLED, { ...next(undefined, other), ...handled(DAY_MS) });
    await vault.commitVersion(UNLED, { ...next(await seen(), password), ...handled(2 * HOUR_MS) });
    // Kept beside, and failed: both never were current.
    const lost = { ...next(await seen(), other), ...handled(DAY_MS) };
    const between = { ...(await seen()), generation: lost.generation, currentVersion: lost.sealed.version };
    await vault.commitVersions(UNLED, [lost, next(between, password)]);
    const rotation = { since: new Date(), held: [], apply: { last: 5, failed: [5] } };
    await vault.commitVersion(UNLED, { ...next(await seen(), other), rotation, currentVersion: 4 });
    const above = next(await seen(), password);
    await vault.commitVersion(UNLED, { ...above, sealed: { ...above.sealed, version: 6 } });
    await withConnection(database, (client) => client.query("UPDATE entries SET set_at = NULL"));
    expect(await heldFor()).toBeGreaterThanOrEqual(2 * HOUR_MS);
    expect(await heldFor()).toBeLessThan(DAY_MS);
    expect(await heldFor(other)).toBeUndefined();

    await change(vault, await seen());
    expect(await vault.listVersions((await seen()).id)).toHaveLength(1);
    expect(await heldFor()).toBeGreaterThanOrEqual(2 * HOUR_MS);
    expect(await heldFor()).toBeLessThan(DAY_MS);
  });
});
