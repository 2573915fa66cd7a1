import { createSecretKey, randomBytes } from "node:crypto";
import type { RotationApplySpec } from "../../crds/rotation-apply.ts";
import type { RotationSpec, SecretEntry } from "../../crds/secret.ts";
import { FakeAuditLog } from "../ports/fake-audit-log.ts";
import { FakeDatabase } from "../ports/fake-database.ts";
import { FakeKeyStore } from "../ports/fake-key-store.ts";
import { FakeVaultStore } from "../ports/fake-vault-store.ts";
import type { RootKey } from "../ports/key-store.ts";
import { actor, identity, lifecycle } from "../ports/samples.ts";
import {
  type ApplyRecord,
  Conflict,
  type PendingVersion,
  type RotationRecord,
  type SecretRecord,
  UNLED,
  type Writer,
} from "../ports/vault-store.ts";
import { Sensitive } from "../sensitive.ts";
import { type ApplyPlan, appliedKeys, planApply, stateOfVersion } from "./apply.ts";
import { planRotation, type RotationCause } from "./due.ts";
import { open, seal } from "./envelope.ts";
import { KeyRing } from "./keyring.ts";
import { Vault } from "./vault.ts";

const entries: readonly SecretEntry[] = [
  { key: "username", external: {} },
  { key: "password", generate: { kind: "Password" } },
  { key: "host", literal: "db" },
  { key: "url", template: "{{ username }}:{{ password | url_encode }}@{{ host }}" },
];

describe("what is to be done next", () => {
  const job: RotationApplySpec = { job: { cronJobRef: { name: "rotate" } } };
  const postgres: RotationApplySpec = {
    postgres: {
      host: "db",
      admin: { username: "rotator", passwordSecretRef: { name: "rotator", key: "password" } },
      roles: ["a", "b"],
      username: "username",
      password: "password",
    },
  };
  const at = (text: string): Date => new Date(`2026-03-01T${text}Z`);
  const now = at("12:00:00");
  const pending: PendingVersion = { version: 8, base: 7, keys: ["password"], cause: "Request", since: at("11:00:00") };
  const failure = (retryAt: Date, cause: "Timetable" | "Request" = "Timetable") => ({
    version: 8,
    cause,
    message: "why",
    count: 1,
    retryAt,
  });

  interface Case {
    readonly because: string;
    /** `every` makes it due. */
    readonly every?: string;
    readonly windows?: { from: string; to: string }[];
    readonly with?: RotationApplySpec | undefined;
    readonly record?: Partial<ApplyRecord>;
    readonly request?: string;
    readonly overlap?: string;
    readonly lacks?: readonly string[];
    readonly is: object;
  }
  const cases: readonly Case[] = [
    { because: "nothing is due", is: { kind: "Idle" } },
    { because: "it is due", every: "1h", is: { kind: "Propose", keys: ["password"], cause: { kind: "Timetable" } } },
    {
      because: "a person asks",
      request: "now",
      is: { kind: "Propose", keys: ["password"], cause: { kind: "Request", token: "now" } },
    },
    {
      because: "somebody asks by REST",
      record: { asked: true },
      is: { kind: "Propose", keys: ["password"], cause: { kind: "Request" } },
    },
    {
      because: "the role has no name yet",
      with: postgres,
      lacks: ["username", "url"],
      is: { kind: "Propose", keys: ["password"], cause: { kind: "First" } },
    },
    { because: "the roles have their passwords", with: postgres, is: { kind: "Idle" } },
    { because: "nothing has a value yet", request: "now", lacks: ["password"], is: { kind: "Idle" } },
    { because: "a version is pending, and another is due", every: "1h", record: { pending }, is: { kind: "Apply" } },
    { because: "a version is pending, and a person asks", request: "x", record: { pending }, is: { kind: "Apply" } },
    {
      because: "a version is pending that nobody wants",
      with: undefined,
      record: { pending },
      is: { kind: "Abandon" },
    },
    { because: "the former one counts", every: "1h", record: { former: { version: 7 } }, is: { kind: "Confirm" } },
    {
      because: "everything has the present one, and the overlap is not over",
      overlap: "2h",
      record: { former: { version: 7, role: "a", confirmed: at("11:00:00") } },
      is: { kind: "Wait", for: "Overlap", until: at("13:00:00") },
    },
    {
      because: "the overlap is over",
      overlap: "1h",
      record: { former: { version: 7, role: "a", confirmed: at("11:00:00") } },
      is: { kind: "End" },
    },
    {
      because: "the overlap is five minutes where nothing is said",
      record: { former: { version: 7, role: "a", confirmed: at("11:56:00") } },
      is: { kind: "Wait", for: "Overlap", until: at("12:01:00") },
    },
    {
      because: "who asks does not wait for a long overlap",
      overlap: "24h",
      request: "leaked",
      record: { former: { version: 7, role: "a", confirmed: at("11:59:00") } },
      is: { kind: "End" },
    },
    {
      because: "who asks waits for a minute all the same",
      overlap: "24h",
      request: "leaked",
      record: { former: { version: 7, role: "a", confirmed: at("11:59:30") } },
      is: { kind: "Wait", for: "Overlap", until: at("12:00:30") },
    },
    {
      because: "it was confirmed by a clock that was ahead",
      record: { former: { version: 7, role: "a", confirmed: new Date("2031-03-01T00:00:00Z") } },
      is: { kind: "Confirm" },
    },
    {
      because: "another replica's clock is a little ahead",
      record: { former: { version: 7, role: "a", confirmed: at("12:00:20") } },
      is: { kind: "Wait", for: "Overlap", until: at("12:05:20") },
    },
    {
      because: "the last attempt failed by a clock that was ahead",
      every: "1h",
      record: { failure: failure(new Date("2031-03-01T00:00:00Z")) },
      is: { kind: "Propose", cause: { kind: "Timetable" } },
    },
    {
      because: "the last attempt failed a moment ago",
      every: "1h",
      record: { failure: failure(at("12:01:00")) },
      is: { kind: "Wait", for: "Retry", until: at("12:01:00") },
    },
    {
      because: "the pause after the last attempt is over",
      every: "1h",
      record: { failure: failure(at("11:59:00")) },
      is: { kind: "Propose", cause: { kind: "Timetable" } },
    },
    {
      because: "what was asked for failed, and the pause is over",
      record: { failure: failure(at("11:59:00"), "Request") },
      is: { kind: "Propose", cause: { kind: "Request" } },
    },
    {
      because: "a person does not wait for the pause",
      request: "again",
      record: { failure: failure(at("12:30:00")) },
      is: { kind: "Propose", cause: { kind: "Request", token: "again" } },
    },
    {
      because: "the window has closed since the last attempt",
      every: "1h",
      windows: [{ from: "22:00", to: "23:00" }],
      record: { failure: failure(at("12:01:00")) },
      is: { kind: "Wait", for: "Retry", until: at("22:00:00") },
    },
    {
      because: "nobody wants it any more",
      with: undefined,
      record: { failure: failure(now) },
      is: { kind: "Abandon" },
    },
  ];
  test.each(cases)("$because", (given) => {
    const asked = "with" in given ? given.with : job;
    const { every = "720h", windows, overlap, record = {}, request, lacks = [] } = given;
    const spec = {
      entries: [...entries],
      rotation: { every, ...(windows && { windows }), ...(overlap && { overlap }), ...(asked && { apply: asked }) },
    };
    const rotation: RotationRecord = {
      timetable: `every ${every}`,
      since: at("09:00:00"),
      held: [],
      apply: { last: 8, failed: [], ...record },
    };
    const stored = {
      id: "00000000-0000-4000-8000-000000000000",
      entries: entries.flatMap(({ key }) => (lacks.includes(key) ? [] : [{ key, recipe: "", fingerprint: "" }])),
      rotation,
    };
    const due = planRotation(spec, request, stored, now);
    const plan: ApplyPlan = planApply(spec, due, stored, now);
    expect(plan).toMatchObject(given.is);
  });
});

test.each<[string, object, readonly string[]]>([
  ["nothing without apply", { every: "720h" }, []],
  ["what is generated", { every: "720h", apply: { job: { cronJobRef: { name: "rotate" } } } }, ["password"]],
  [
    "what is named, and the name of the role",
    { every: "720h", keys: ["password"], apply: { postgres: { username: "username" } } },
    ["password", "username"],
  ],
])("of what is applied nobody else brings values: %s", (_, rotation, keys) => {
  const spec = { entries: [...entries], rotation: rotation as RotationSpec };
  expect([...appliedKeys(spec)].sort()).toEqual(keys);
});

describe("versions that are applied first", () => {
  const key = createSecretKey(randomBytes(32));
  const root: RootKey = {
    id: "root",
    source: "the root key",
    wrap: async (plaintext, context) => seal(key, plaintext, context),
    unwrap: async (wrapped, context) => open(key, wrapped, context) ?? Buffer.alloc(0),
  };
  let database: FakeDatabase;
  let vault: Vault;
  let writer: Writer;
  let now: Date;
  let record: SecretRecord;
  const cause: RotationCause = { kind: "Request", token: "now" };

  beforeEach(async () => {
    database = new FakeDatabase();
    now = new Date("2026-03-01T00:00:00Z");
    const keys = await KeyRing.open(new FakeKeyStore(database), root);
    const store = new FakeVaultStore(database);
    vault = new Vault({ store, keys, audit: new FakeAuditLog(database), now: () => now });
    writer = { epoch: await database.acquireEpoch("test") };
    record = await stored(undefined);
  });

  const stored = async (seen: SecretRecord | undefined, host = "db", keepVersions = 3): Promise<SecretRecord> => {
    const changed = entries.map((entry) => (entry.key === "host" ? { key: "host", literal: host } : entry));
    const request = { identity: identity("one"), seen, entries: changed, sources: new Map(), actor };
    return (await vault.store(writer, { ...request, lifecycle: { ...lifecycle, keepVersions } })).record;
  };
  const propose = async (role: string): Promise<SecretRecord> => {
    const values = new Map([["username", new Sensitive(role)]]);
    const done = await vault.applied.propose(writer, record, { entries, keys: ["password"], values, cause, actor });
    return done.record;
  };
  const promote = (seen: SecretRecord, formerRole?: string): Promise<SecretRecord> =>
    vault.applied.promote(writer, seen, { entries, overlapMs: 60_000, formerRole, actor });
  const values = async (seen: SecretRecord, version?: number): Promise<Record<string, string>> => {
    const opened = await vault.open(seen, { actor, purpose: "Test", ...(version !== undefined && { version }) });
    return Object.fromEntries([...opened.values].map(([name, value]) => [name, value.revealText()]));
  };
  const described = async (): Promise<SecretRecord> => {
    const found = await vault.describe(identity("one"));
    if (found === undefined) throw new Error("it is gone");
    return found;
  };
  const audited = () =>
    database.audit
      .map(({ entry }) => entry)
      .filter(({ action }) => action.startsWith("Secret") && action !== "SecretRead");

  test("are not current before they are promoted, and then are, with the record of it", async () => {
    const proposed = await propose("a");
    expect(proposed).toEqual(await described());
    expect(proposed).toMatchObject({ currentVersion: 1, entries: record.entries });
    expect(await values(proposed)).not.toHaveProperty("username");
    const made = await values(proposed, 2);
    expect(made).toMatchObject({ username: "a", url: `a:${encodeURIComponent(made.password ?? "")}@db` });
    expect([1, 2].map((version) => stateOfVersion(proposed, version))).toEqual(["Current", "Pending"]);

    now = new Date("2026-03-01T00:05:00Z");
    record = await promote(proposed, "b");
    expect(record).toEqual(await described());
    expect(await values(record)).toEqual(made);
    expect(record.rotation).toMatchObject({
      at: now,
      request: "now",
      held: [{ version: 1 }],
      apply: { last: 2, former: { version: 1, role: "b" }, failed: [] },
    });
    expect(record.rotation?.apply).not.toHaveProperty("pending");
    expect(audited().map(({ action, details }) => [action, details.version, details.pending])).toEqual([
      ["SecretVersionCreated", 1, undefined],
      ["SecretVersionCreated", 2, true],
      ["SecretRotated", 2, undefined],
    ]);
    await expect(promote(proposed)).rejects.toThrow(Conflict);

    record = await vault.applied.confirm(writer, record, actor);
    expect(record.rotation?.apply?.former).toEqual({ version: 1, role: "b", confirmed: now });
    record = await vault.applied.endFormer(writer, record, actor);
    expect(record.rotation?.apply).toEqual({ last: 2, failed: [] });
    expect(record).toEqual(await described());
  });

  test("leave the role before as it is, and say so, where nothing says any more how it ends", async () => {
    record = await vault.applied.promote(writer, await propose("a"), { entries, formerRole: "b", overlapMs: 0, actor });
    record = await vault.applied.abandonFormer(writer, await vault.applied.requestApply(UNLED, record, actor), actor);
    expect(record.rotation?.apply).toEqual({ last: 2, failed: [], asked: true });
    expect(record).toEqual(await described());
    const rows = audited();
    expect(rows.map(({ action }) => action)).not.toContain("SecretFormerEnded");
    expect(rows.at(-1)).toMatchObject({
      action: "SecretRotationChanged",
      details: { former: 1, role: "b", reason: "spec.rotation.apply.postgres was removed before the role ended" },
    });
  });

  test("become values over what is current by then, where that has changed", async () => {
    const proposed = await propose("a");
    const changed = await stored(proposed, "other");
    expect(changed.currentVersion).toBe(3);
    const made = await values(changed, 2);
    const changedEntries = entries.map((entry) => (entry.key === "host" ? { key: "host", literal: "other" } : entry));
    record = await vault.applied.promote(writer, changed, { entries: changedEntries, overlapMs: 0, actor });
    expect(record.currentVersion).toBe(4);
    expect(await values(record)).toEqual({
      ...made,
      host: "other",
      url: `a:${encodeURIComponent(made.password ?? "")}@other`,
    });
    expect(record.rotation?.apply).toEqual({ last: 3, failed: [], former: { version: 3 } });
  });

  test("are over where the current one has none of their entries any more: the pointer never goes back", async () => {
    const proposed = await propose("a");
    const renamed: readonly SecretEntry[] = [
      { key: "login", external: {} },
      { key: "passphrase", generate: { kind: "Password" } },
      { key: "host", literal: "db" },
    ];
    const request = { identity: identity("one"), seen: proposed, entries: renamed, sources: new Map(), actor };
    const changed = (await vault.store(writer, { ...request, lifecycle: { ...lifecycle, keepVersions: 3 } })).record;
    expect(changed.currentVersion).toBe(3);
    const before = await values(changed);

    record = await vault.applied.promote(writer, changed, { entries: renamed, overlapMs: 0, formerRole: "b", actor });
    expect(record).toEqual(await described());
    expect(record.currentVersion).toBe(3);
    expect(await values(record)).toEqual(before);
    expect(record.rotation?.apply).toEqual({ last: 3, failed: [] });
    const next = { entries: renamed, keys: ["passphrase"], cause, actor };
    record = (await vault.applied.propose(writer, record, next)).record;
    expect(record.rotation?.apply?.pending?.version).toBe(4);
  });

  test("are over where the current one has their values already", async () => {
    const proposed = await propose("a");
    const made = await vault.open(proposed, { version: 2, keys: ["username", "password"], actor, purpose: "Test" });
    const request = { identity: identity("one"), seen: proposed, entries, readers: undefined, lifecycle, actor };
    const changed = (await vault.put(writer, { ...request, values: made.values, alsoGenerated: true })).record;
    expect(changed.currentVersion).toBe(3);

    record = await promote(changed, "b");
    expect(record).toEqual(await described());
    expect(record).toMatchObject({ currentVersion: 3, entries: changed.entries });
    expect(record.rotation?.apply).toEqual({ last: 3, failed: [] });
    expect((await propose("b")).rotation?.apply?.pending?.version).toBe(4);
  });

  test("are kept, but never current, where they are discarded; the next ones have another number and come later", async () => {
    let discarded = await vault.applied.discard(writer, await propose("a"), "it was refused", actor);
    expect(discarded).toEqual(await described());
    expect(discarded).toMatchObject({ currentVersion: 1, entries: record.entries });
    expect(discarded.rotation?.apply?.failure).toEqual({
      version: 2,
      cause: "Request",
      message: "it was refused",
      count: 1,
      retryAt: new Date("2026-03-01T00:01:00Z"),
    });
    expect(await values(discarded, 2)).toMatchObject({ username: "a" });
    expect(stateOfVersion(discarded, 2)).toBe("Failed");
    for (const minutes of [2, 4, 8, 16, 32, 60, 60]) {
      record = discarded;
      discarded = await vault.applied.discard(writer, await propose("a"), "again", actor);
      expect(discarded.rotation?.apply?.failure?.retryAt).toEqual(new Date(now.getTime() + minutes * 60_000));
    }
    // However long it fails, no more of them stay than retention keeps.
    const kept = async () => (await vault.versions(record)).map(({ version }) => version);
    record = discarded;
    expect(await kept()).toEqual([9, 8, 7, 1]);
    record = await promote(await propose("a"));
    expect(record.currentVersion).toBe(10);
    expect(record.rotation?.apply).not.toHaveProperty("failure");
    expect(await kept()).toEqual([10, 9, 8, 1]);
    const expired = audited().filter(({ action }) => action === "SecretVersionExpired");
    expect(expired.map(({ details: { from, through } }) => [from, through])).toEqual(
      [2, 3, 4, 5, 6, 7].map((version) => [version, version]),
    );
  });

  test("are nothing to roll back to where they never were current", async () => {
    const proposed = await propose("a");
    const back = (seen: SecretRecord, version: number) => vault.rollback(UNLED, seen, { version, entries, actor });
    await expect(back(proposed, 2)).rejects.toMatchObject({ name: "Stalled", code: "Applying" });
    record = await vault.applied.discard(writer, proposed, "it was refused", actor);
    await expect(back(record, 2)).rejects.toMatchObject({ name: "Stalled", code: "ApplyFailed" });
    expect(await described()).toEqual(record);
  });

  test("are one at a time", async () => {
    record = await propose("a");
    await expect(propose("b")).rejects.toThrow(Conflict);
    record = await vault.applied.abandonApply(writer, record, actor);
    expect(stateOfVersion(record, 2)).toBe("Failed");
    expect((await propose("b")).rotation?.apply?.pending?.version).toBe(3);
  });

  test("can be asked for by who does not lead, until they are there", async () => {
    record = await vault.applied.requestApply(UNLED, record, actor);
    expect(record.rotation?.apply).toEqual({ last: 0, failed: [], asked: true });
    expect((await propose("a")).rotation?.apply).not.toHaveProperty("asked");
  });
});
