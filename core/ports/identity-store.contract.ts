import { randomBytes, randomUUID } from "node:crypto";
import type { AuditEntry, AuditLog } from "./audit-log.ts";
import type { ApiKeyRow, Authentic, IdentityStore, SessionRow, UserRow } from "./identity-store.ts";
import { actor } from "./samples.ts";

const authentic = <Row>(row: Row): Authentic<Row> => ({ row, mac: randomBytes(32) });

const audited = (
  action: AuditEntry["action"],
  kind: AuditEntry["subject"]["kind"],
  id: string,
  generation: bigint,
): readonly AuditEntry[] => [
  { action, actor, subject: { kind, id, generation, name: "sample" }, outcome: "Success", details: {} },
];

const newUser = (email: string, change: Partial<UserRow> = {}): UserRow => ({
  id: randomUUID(),
  email,
  state: "Active",
  password: "$argon2id$sample",
  sessionEpoch: 1,
  generation: 1n,
  createdAt: new Date("2026-03-01T10:00:00.123Z"),
  ...change,
});

const newSession = (userId: string, change: Partial<SessionRow> = {}): SessionRow => ({
  id: randomUUID(),
  userId,
  sessionEpoch: 1,
  address: "192.0.2.7",
  refreshHash: randomBytes(32),
  createdAt: new Date("2026-03-01T10:00:00.123Z"),
  expiresAt: new Date("2026-03-01T22:00:00.123Z"),
  ...change,
});

const newApiKey = (ownerId: string, change: Partial<ApiKeyRow> = {}): ApiKeyRow => ({
  id: randomUUID(),
  ownerId,
  name: "pipeline",
  hash: randomBytes(32),
  scopes: ["read", "list"],
  createdAt: new Date("2026-03-01T10:00:00.123Z"),
  expiresAt: new Date("2026-06-01T10:00:00.456Z"),
  ...change,
});

/** What every identity store does. `start` gives an empty one. */
export function identityStoreContract(start: () => Promise<{ store: IdentityStore; audit: AuditLog }>): void {
  let store: IdentityStore;
  let audit: AuditLog;

  beforeEach(async () => {
    ({ store, audit } = await start());
  });

  const auditRows = async (): Promise<number> => {
    const verdict = await audit.verify();
    if (!verdict.ok) throw new Error(`audit record: ${verdict.fault}`);
    return verdict.linked + verdict.unlinked;
  };
  const create = async (row: UserRow): Promise<Authentic<UserRow>> => {
    const user = authentic(row);
    expect(await store.createUser(user, audited("UserCreated", "User", row.id, row.generation))).toBe("Created");
    return user;
  };
  const change = (row: UserRow) =>
    store.changeUser(authentic(row), audited("UserChanged", "User", row.id, row.generation));
  const begin = async (row: SessionRow): Promise<Authentic<SessionRow>> => {
    const session = authentic(row);
    await store.createSession(session, audited("LoginSucceeded", "Session", row.id, 1n));
    return session;
  };
  const end = (row: SessionRow) =>
    store.endSession(
      authentic({ ...row, endedAt: new Date("2026-03-01T11:00:00Z") }),
      audited("LoggedOut", "Session", row.id, 2n),
    );

  describe("users", () => {
    test("are found by id and address as they were written", async () => {
      const plain = await create(newUser("plain@example.com"));
      const admin = await create(newUser("admin@example.com", { role: "admin", state: "Disabled" }));
      for (const user of [plain, admin]) {
        expect(await store.findUser(user.row.id)).toEqual({ ...user, auditedGeneration: 1n });
        expect(await store.findUserByEmail(user.row.email)).toEqual({ ...user, auditedGeneration: 1n });
      }
      expect(await store.findUser(randomUUID())).toBeUndefined();
      expect(await store.findUserByEmail("absent@example.com")).toBeUndefined();
    });

    test("of many who make one with the same address one wins, and the address is never free again", async () => {
      const before = await auditRows();
      const rows = Array.from({ length: 6 }, () => newUser("one@example.com"));
      const outcomes = await Promise.all(
        rows.map((row) => store.createUser(authentic(row), audited("UserCreated", "User", row.id, 1n))),
      );
      expect(outcomes.filter((outcome) => outcome === "Created")).toHaveLength(1);
      expect(outcomes.filter((outcome) => outcome === "EmailTaken")).toHaveLength(5);
      expect(await auditRows()).toBe(before + 1);
      const made = await store.findUserByEmail("one@example.com");
      if (made === undefined) throw new Error("expected a user");
      const { row } = made;
      const { password: _, ...removed } = { ...row, state: "Removed" as const, generation: 2n };
      expect(await change(removed)).toBe("Changed");
      expect((await store.findUser(row.id))?.row).toEqual(removed);
      expect(await store.createUser(authentic(newUser("one@example.com")), [])).toBe("EmailTaken");
      expect(await store.listUsers(undefined, 10)).toEqual([]);
    });

    test("the first one is made once, and not where there was one before", async () => {
      const rows = Array.from({ length: 6 }, (_, n) => newUser(`admin${n}@example.com`, { role: "admin" }));
      const outcomes = await Promise.all(
        rows.map((row) =>
          store.createUser(authentic(row), audited("UserCreated", "User", row.id, 1n), { first: true }),
        ),
      );
      expect(outcomes.filter((outcome) => outcome === "Created")).toHaveLength(1);
      expect(outcomes.filter((outcome) => outcome === "NotFirst")).toHaveLength(5);
      expect(await store.listUsers(undefined, 10)).toHaveLength(1);
    });

    test("come by address in pages", async () => {
      for (const name of ["b", "_", "a.b", "ab", "z"]) await create(newUser(`${name}@example.com`));
      const first = await store.listUsers(undefined, 3);
      const rest = await store.listUsers(first.at(-1)?.row.email, 3);
      expect([...first, ...rest].map(({ row }) => row.email.split("@")[0])).toEqual(["_", "a.b", "ab", "b", "z"]);
    });

    test("of two changes of the same generation one wins, and the other leaves no trace", async () => {
      const { row } = await create(newUser("one@example.com"));
      const before = await auditRows();
      const outcomes = await Promise.all([
        change({ ...row, role: "reader", generation: 2n }),
        change({ ...row, role: "operator", generation: 2n }),
      ]);
      expect([...outcomes].sort()).toEqual(["Changed", "Conflict"]);
      expect(await auditRows()).toBe(before + 1);
      expect(await store.findUser(row.id)).toMatchObject({ row: { generation: 2n }, auditedGeneration: 2n });
    });

    test("the last active admin stays one, also when two demote each other at once", async () => {
      const [a, b] = [newUser("a@example.com", { role: "admin" }), newUser("b@example.com", { role: "admin" })];
      await create(a);
      await create(b);
      await create(newUser("c@example.com", { role: "admin", state: "Disabled" }));
      const outcomes = await Promise.all([
        change({ ...a, state: "Disabled", generation: 2n }),
        change({ ...b, role: "reader", generation: 2n }),
      ]);
      expect([...outcomes].sort()).toEqual(["Changed", "LastAdmin"]);
      const [last] = (await store.listUsers(undefined, 10)).filter(
        ({ row }) => row.role === "admin" && row.state === "Active",
      );
      if (last === undefined) throw new Error("expected an admin");
      expect(await change({ ...last.row, password: "$argon2id$other", generation: 2n })).toBe("Changed");
    });
  });

  describe("sessions", () => {
    let user: Authentic<UserRow>;
    beforeEach(async () => {
      user = await create(newUser("one@example.com"));
    });

    test("are found with their user", async () => {
      const session = await begin(newSession(user.row.id));
      expect(await store.findSession(session.row.id)).toEqual({
        session: { ...session, auditedGeneration: 1n },
        user: { ...user, auditedGeneration: 1n },
      });
      expect(await store.findSession(randomUUID())).toBeUndefined();
    });

    test("go on with another refresh token, and remember those that were used", async () => {
      const { row } = await begin(newSession(user.row.id));
      const next = { ...row, refreshHash: randomBytes(32) };
      const other = { ...row, refreshHash: randomBytes(32) };
      const outcomes = await Promise.all(
        [next, other].map((each) => store.refreshSession(authentic(each), row.refreshHash)),
      );
      expect([...outcomes].sort()).toEqual([false, true]);
      const [won, lost] = outcomes[0] ? [next, other] : [other, next];
      const find = (hash: Buffer) => store.findRefreshToken(hash);
      expect(await find(won.refreshHash)).toEqual({ sessionId: row.id, used: false });
      expect(await find(row.refreshHash)).toEqual({ sessionId: row.id, used: true });
      expect(await find(lost.refreshHash)).toBeUndefined();
      expect(await store.refreshSession(authentic(next), row.refreshHash)).toBe(false);
    });

    test("end once, and are not refreshed any more", async () => {
      const { row } = await begin(newSession(user.row.id));
      const before = await auditRows();
      expect(await end({ ...row, refreshHash: randomBytes(32) })).toBe(false);
      expect([...(await Promise.all([end(row), end(row)]))].sort()).toEqual([false, true]);
      expect(await auditRows()).toBe(before + 1);
      expect(await store.refreshSession(authentic({ ...row, refreshHash: randomBytes(32) }), row.refreshHash)).toBe(
        false,
      );
      expect(await store.findSession(row.id)).toMatchObject({
        session: { row: { endedAt: new Date("2026-03-01T11:00:00Z") }, auditedGeneration: 2n },
      });
    });

    test("are listed while they go on, newest first", async () => {
      const old = await begin(newSession(user.row.id));
      const ended = await begin(newSession(user.row.id));
      const young = await begin(newSession(user.row.id, { createdAt: new Date("2026-03-01T12:00:00Z") }));
      await end(ended.row);
      const listed = await store.listSessions(user.row.id);
      expect(listed.map(({ row }) => row.id)).toEqual([young.row.id, old.row.id]);
      expect(await store.listSessions(randomUUID())).toEqual([]);
    });

    test("are forgotten with their tokens when they have expired, a batch at a time", async () => {
      const { row } = await begin(newSession(user.row.id));
      await store.refreshSession(authentic({ ...row, refreshHash: randomBytes(32) }), row.refreshHash);
      await begin(newSession(user.row.id));
      await begin(newSession(user.row.id, { expiresAt: new Date("2026-03-03T00:00:00Z") }));
      const before = new Date("2026-03-02T00:00:00Z");
      expect([await store.forgetSessions(before, 1), await store.forgetSessions(before, 5)]).toEqual([1, 1]);
      expect(await store.forgetSessions(before, 5)).toBe(0);
      expect(await store.findRefreshToken(row.refreshHash)).toBeUndefined();
      expect(await store.listSessions(user.row.id)).toHaveLength(1);
    });
  });

  describe("API keys", () => {
    let owner: Authentic<UserRow>;
    beforeEach(async () => {
      owner = await create(newUser("one@example.com"));
    });
    const createKey = async (row: ApiKeyRow): Promise<Authentic<ApiKeyRow>> => {
      const key = authentic(row);
      await store.createApiKey(key, audited("ApiKeyCreated", "ApiKey", row.id, 1n));
      return key;
    };

    test("are found with their owner, and listed by owner in pages", async () => {
      const other = await create(newUser("two@example.com"));
      const keys = [];
      for (const { row } of [owner, owner, other]) keys.push(await createKey(newApiKey(row.id)));
      const [first] = keys;
      if (first === undefined) throw new Error("expected a key");
      expect(await store.findApiKey(first.row.id)).toEqual({
        key: { ...first, auditedGeneration: 1n },
        owner: { ...owner, auditedGeneration: 1n },
      });
      expect(await store.findApiKey(randomUUID())).toBeUndefined();
      const sorted = keys.map(({ row }) => row.id).sort();
      const page = await store.listApiKeys(undefined, undefined, 2);
      const rest = await store.listApiKeys(undefined, page.at(-1)?.key.row.id, 2);
      expect([...page, ...rest].map(({ key }) => key.row.id)).toEqual(sorted);
      expect(await store.listApiKeys(owner.row.id, undefined, 10)).toHaveLength(2);
    });

    test("are revoked once", async () => {
      const { row } = await createKey(newApiKey(owner.row.id));
      const before = await auditRows();
      const revoke = () =>
        store.revokeApiKey(
          authentic({ ...row, revokedAt: new Date("2026-03-05T00:00:00Z") }),
          audited("ApiKeyRevoked", "ApiKey", row.id, 2n),
        );
      expect([...(await Promise.all([revoke(), revoke()]))].sort()).toEqual([false, true]);
      expect(await auditRows()).toBe(before + 1);
      expect(await store.findApiKey(row.id)).toMatchObject({
        key: { row: { revokedAt: new Date("2026-03-05T00:00:00Z") }, auditedGeneration: 2n },
      });
    });

    test("keep the latest of their uses", async () => {
      const { row } = await createKey(newApiKey(owner.row.id));
      const [early, late] = [new Date("2026-03-02T00:00:00.001Z"), new Date("2026-03-03T00:00:00.002Z")];
      await store.recordUses(new Map([[row.id, late]]));
      await store.recordUses(
        new Map([
          [row.id, early],
          [randomUUID(), late],
        ]),
      );
      expect(await store.findApiKey(row.id)).toMatchObject({ lastUsedAt: late });
    });
  });
}
