/** The engine and the real SDK together, in front of the stand-in. */
import { FakeAuditLog } from "../../core/ports/fake-audit-log.ts";
import { FakeDatabase } from "../../core/ports/fake-database.ts";
import { FakeSyncStore } from "../../core/ports/fake-sync-store.ts";
import { FakeVaultStore } from "../../core/ports/fake-vault-store.ts";
import type { VaultEntryProperties } from "../../core/ports/target-vault.ts";
import { decidePush } from "../../core/sync/plan.ts";
import { push } from "../../core/sync/push.ts";
import { INSTALLATION, named, RULE } from "../../core/sync/testing/entries.ts";
import { access, StandIn, sensitive, VAULT_NAME, VAULT_URL } from "./testing/stand-in.ts";
import type { KeyVaults } from "./vaults.ts";

const standIn = new StandIn();
const signal = new AbortController().signal;
const KEYS = Array.from({ length: 60 }, (_, at) => `key-${String(at).padStart(2, "0")}`);
const database = new FakeDatabase();
const store = new FakeSyncStore(database, new FakeVaultStore(database));
let vaults: KeyVaults;
let version = 0;

beforeAll(() => standIn.start());
afterAll(() => standIn.stop());
beforeEach(async () => {
  vaults = standIn.vaults();
  await standIn.lab.control.setFaults([]);
  await standIn.lab.control.resetCounters();
});

const value = (key: string, of: number): string => `${key} of version ${of}`;

/** One reconcile: looks when asked to, and pushes what is due. */
async function reconcile({ look = false, callsPer10Seconds = 4_000 } = {}) {
  const vault = vaults.open(access({ callsPer10Seconds }), look ? "Look" : "Change");
  const items = await store.items(RULE);
  const target: VaultEntryProperties[] = [];
  if (look) for await (const page of vault.list(signal)) target.push(...page);
  const entries = KEYS.map((key) => named({ key, entryName: key, version, fingerprint: value(key, version) }));
  const shared = { entries, items, holders: [], vaultUrl: VAULT_URL, installation: INSTALLATION };
  const plan = decidePush({ ...shared, ...(look && { target }) });
  const result = await push(plan.push, {
    vault,
    store,
    audit: new FakeAuditLog(database),
    writer: { epoch: await database.acquireEpoch("test") },
    ruleUid: RULE,
    actor: { kind: "Controller", name: "test" },
    installation: INSTALLATION,
    open: async (_, of, key) => sensitive(value(key, of)),
    assertLeading: () => undefined,
    signal,
  });
  return { plan, result };
}

const counters = async () => (await standIn.lab.control.counters()).vaults[VAULT_NAME];
const versionsOf = async () => (await standIn.lab.control.secrets(VAULT_NAME)).map((each) => each.versions.length);

describe("pushing into Key Vault", () => {
  it("writes each entry once; an idle look reads no value and writes nothing", async () => {
    version = 1;
    expect((await reconcile()).result).toMatchObject({ written: 60, failed: 0 });
    await standIn.lab.control.resetCounters();
    const { plan } = await reconcile({ look: true });
    expect(plan).toMatchObject({ inSync: 60, push: [] });
    expect(await counters()).toMatchObject({ calls: 3, valueReads: 0, writes: 0 });
  });

  it("makes one version of each change, although every second answer is lost after the work was done", async () => {
    version = 2;
    await standIn.lab.control.setFaults([
      {
        vault: VAULT_NAME,
        operation: "SecretSet",
        probability: 0.5,
        effect: { kind: "process-then-status", status: 503 },
      },
    ]);
    await reconcile();
    await standIn.lab.control.setFaults([]);
    vaults = standIn.vaults();
    await reconcile({ look: true });
    expect(new Set(await versionsOf())).toEqual(new Set([2]));
    expect((await reconcile({ look: true })).plan.inSync).toBe(60);
  });

  it("stays in the budget, and the rest follows", async () => {
    version = 3;
    vaults = standIn.vaults({ budgetWaitMs: 100 });
    const { result } = await reconcile({ callsPer10Seconds: 30 });
    expect(result).toMatchObject({ failed: 0, stopped: { code: "BudgetExhausted" } });
    expect(result.untried).toBeGreaterThan(40);
    expect((await counters())?.peakCallsIn10Seconds).toBe(30);
    vaults = standIn.vaults();
    await reconcile();
    expect(new Set(await versionsOf())).toEqual(new Set([3]));
  });

  it("stops at the first 429, since the pause is the vault's and not the entry's", async () => {
    version = 4;
    await standIn.lab.control.setFaults([
      { vault: VAULT_NAME, operation: "SecretSet", effect: { kind: "status", status: 429, retryAfterSeconds: 30 } },
    ]);
    const { result } = await reconcile();
    expect(result).toMatchObject({ written: 0, failed: 0, stopped: { code: "VaultThrottled" } });
    expect(result.retryAfterMs).toBeGreaterThan(25_000);
    expect((await counters())?.operations.SecretSet?.["429"]).toBeLessThanOrEqual(8);
    await standIn.lab.control.setFaults([]);
    vaults = standIn.vaults();
    expect((await reconcile()).result).toMatchObject({ written: 60 });
  });

  it("recovers what somebody deleted, and repairs what somebody wrote", async () => {
    const { control } = standIn.lab;
    await control.deleteSecret(VAULT_NAME, "key-00");
    await control.setSecret(VAULT_NAME, "key-01", "by hand", { tags: { note: "urgent" } });
    expect((await reconcile({ look: true })).result).toMatchObject({ written: 1, waiting: 1 });
    expect((await reconcile({ look: true })).result).toMatchObject({ confirmed: 1 });
    const secrets = await control.secrets(VAULT_NAME);
    const repaired = secrets.find((each) => each.name === "key-01")?.versions.at(-1);
    expect(repaired).toMatchObject({ value: value("key-01", 4), tags: { note: "urgent" } });
    expect(secrets.find((each) => each.name === "key-00")?.state).toBe("active");
    expect((await reconcile({ look: true })).plan.inSync).toBe(60);
  });
});
