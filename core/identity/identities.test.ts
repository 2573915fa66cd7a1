import { randomBytes } from "node:crypto";
import { actor } from "../ports/samples.ts";
import { EMAIL, from, PASSWORD, TestIdentities } from "./testing/installation.ts";

const unauthenticated = { code: "Unauthenticated", message: "the credentials are not valid" };
const OTHER = "another long password";

let installation: TestIdentities;
beforeEach(async () => {
  installation = await TestIdentities.start();
});

describe("a login", () => {
  test("gives a token that says who it is, by whatever spelling of the address", async () => {
    const user = await installation.create({ role: "operator" });
    const session = await installation.login(" Alice@EXAMPLE.com ");
    const subject = { kind: "LocalUser", id: user.id, email: EMAIL, role: "operator" };
    expect(session.subject).toEqual(subject);
    const who = await installation.who(session);
    expect(who).toEqual({ subject, via: "Token", id: expect.any(String) });
    expect(session.expiresAt.getTime() - installation.now().getTime()).toBeLessThanOrEqual(600_000);
    expect(session.refreshExpiresAt.getTime() - installation.now().getTime()).toBeGreaterThan(43_000_000);
    expect(installation.actions).toEqual(["UserCreated", "LoginSucceeded"]);
    expect(installation.entries.at(-1)).toMatchObject({
      actor: {
        kind: "Subject",
        subject: `LocalUser ${EMAIL}`,
        via: "Password",
        session: who.id,
        address: from.address,
      },
      subject: { kind: "Session", id: who.id, generation: 1n },
    });
  });

  test("fails for everybody in the same words, and the record says why", async () => {
    const user = await installation.create();
    const disabled = await installation.create({ email: "disabled@example.com" });
    const removed = await installation.create({ email: "removed@example.com" });
    await installation.identities.users.change(actor, disabled.id, { disabled: true });
    await installation.identities.users.remove(actor, removed.id);
    const attempts: readonly [string, string, string, string][] = [
      [EMAIL, OTHER, "WrongPassword", user.id],
      ["nobody@example.com", PASSWORD, "UnknownUser", "unknown"],
      ["not an address", PASSWORD, "UnknownUser", "unknown"],
      ["", "", "UnknownUser", "unknown"],
      ["disabled@example.com", PASSWORD, "UserDisabled", disabled.id],
      ["removed@example.com", PASSWORD, "UnknownUser", "unknown"],
    ];
    for (const [email, password, reason, id] of attempts) {
      await expect(installation.login(email, password)).rejects.toMatchObject(unauthenticated);
      expect(installation.entries.at(-1)).toMatchObject({
        action: "LoginFailed",
        outcome: "Denied",
        subject: { kind: "User", id },
        details: { reason, attempts: 1 },
      });
    }
    expect(JSON.stringify(installation.entries, (_, value) => String(value))).not.toContain("nobody@example.com");
  });

  test("hashes again when the cost has changed, and only then", async () => {
    const user = await installation.create();
    const hash = async () => (await installation.store.findUser(user.id))?.row.password;
    const before = await hash();
    await installation.login();
    expect(await hash()).toBe(before);
    const dearer = installation.replica({ hashCost: { memoryKiB: 16, passes: 2, parallelism: 1 } });
    const session = await dearer.login(EMAIL, PASSWORD, from);
    expect(await hash()).toMatch(/^\$argon2id\$v=19\$m=16,t=2,p=1\$/);
    expect(await dearer.authenticate(session.token)).toMatchObject({ via: "Token" });
    expect(installation.entries.at(-1)).toMatchObject({ action: "UserChanged", details: { passwordRehashed: true } });
    await expect(installation.login()).resolves.toBeDefined();
  });
});

describe("a session", () => {
  test("ends with its time, whatever is refreshed", async () => {
    await installation.create();
    let session = await installation.login();
    installation.passes(601_000);
    installation.passes(5_000);
    await expect(installation.who(session)).rejects.toMatchObject(unauthenticated);
    const ends = session.refreshExpiresAt;
    session = await installation.identities.refresh(session.refreshToken);
    expect(session.refreshExpiresAt).toEqual(ends);
    expect(await installation.who(session)).toMatchObject({ via: "Token" });
    installation.passes(ends.getTime() - installation.now().getTime() - 60_000);
    session = await installation.identities.refresh(session.refreshToken);
    expect(session.expiresAt.getTime()).toBeLessThanOrEqual(ends.getTime());
    installation.passes(60_000);
    await expect(installation.who(session)).rejects.toMatchObject(unauthenticated);
    await expect(installation.identities.refresh(session.refreshToken)).rejects.toMatchObject(unauthenticated);
  });

  test("ends when a refresh token is used twice, for the thief and for the owner, and that is on record", async () => {
    await installation.create();
    const bystander = await installation.login();
    const first = await installation.login();
    const second = await installation.identities.refresh(first.refreshToken);
    const third = await installation.identities.refresh(second.refreshToken);
    await expect(installation.identities.refresh(first.refreshToken, from)).rejects.toMatchObject(unauthenticated);
    expect(installation.entries.at(-1)).toMatchObject({
      action: "RefreshReplayed",
      outcome: "Denied",
      subject: { kind: "Session", generation: 2n },
    });
    for (const { token, refreshToken } of [first, second, third]) {
      await expect(installation.identities.authenticate(token)).rejects.toMatchObject(unauthenticated);
      await expect(installation.identities.refresh(refreshToken)).rejects.toMatchObject(unauthenticated);
    }
    expect(installation.actions.filter((action) => action === "RefreshReplayed")).toHaveLength(1);
    expect(await installation.who(bystander)).toBeDefined();
  });

  test("ends when a refresh token is used twice at once", async () => {
    await installation.create();
    const { refreshToken } = await installation.login();
    const outcomes = await Promise.allSettled([1, 2, 3].map(() => installation.identities.refresh(refreshToken)));
    expect(outcomes.filter(({ status }) => status === "fulfilled").length).toBeLessThanOrEqual(1);
    for (const outcome of outcomes) {
      if (outcome.status === "fulfilled")
        await expect(installation.who(outcome.value)).rejects.toMatchObject(unauthenticated);
    }
    expect(installation.actions.filter((action) => action === "RefreshReplayed")).toHaveLength(1);
  });

  test("is not refreshed by what is no refresh token", async () => {
    await installation.create();
    const { token, refreshToken } = await installation.login();
    const foreign = `mvr_${randomBytes(32).toString("base64url")}`;
    for (const bad of ["", token, refreshToken.slice(4), `${refreshToken}x`, refreshToken.toUpperCase(), foreign]) {
      await expect(installation.identities.refresh(bad)).rejects.toMatchObject(unauthenticated);
    }
    expect(await installation.identities.refresh(refreshToken)).toBeDefined();
  });

  test("ends by logging out, and the others with it only when asked for", async () => {
    await installation.create();
    const [one, two, three] = [await installation.login(), await installation.login(), await installation.login()];
    await installation.identities.logout(await installation.who(one), { from });
    await expect(installation.who(one)).rejects.toMatchObject(unauthenticated);
    await expect(installation.identities.refresh(one.refreshToken)).rejects.toMatchObject(unauthenticated);
    await installation.identities.logout(await installation.who(two), { everywhere: true });
    await expect(installation.who(three)).rejects.toMatchObject(unauthenticated);
    expect(installation.actions.slice(4)).toEqual(["LoggedOut", "LoggedOut", "SessionRevoked"]);
  });

  test("is listed while it goes on, and can be revoked", async () => {
    const user = await installation.create();
    const [one, two] = [await installation.login(), await installation.login()];
    const sessions = await installation.identities.sessions(user.id);
    expect(sessions).toHaveLength(2);
    expect(JSON.stringify(sessions)).not.toContain("refreshHash");
    const { id } = await installation.who(one);
    await installation.identities.revokeSession(actor, id);
    await expect(installation.who(one)).rejects.toMatchObject(unauthenticated);
    expect(await installation.who(two)).toBeDefined();
    expect((await installation.identities.sessions(user.id)).map((session) => session.id)).not.toContain(id);
    await expect(installation.identities.revokeSession(actor, id)).rejects.toMatchObject({ code: "NotFound" });
    expect(installation.actions.at(-1)).toBe("SessionRevoked");
  });

  test.each([
    ["another password", { password: OTHER }],
    ["being disabled", { disabled: true }],
  ])("ends by %s of its user", async (_, change) => {
    const user = await installation.create();
    const session = await installation.login();
    await installation.who(session);
    await installation.identities.users.change(actor, user.id, change);
    await expect(installation.who(session)).rejects.toMatchObject(unauthenticated);
    await expect(installation.identities.refresh(session.refreshToken)).rejects.toMatchObject(unauthenticated);
    await installation.identities.users.change(actor, user.id, { disabled: false });
    await expect(installation.who(session)).rejects.toMatchObject(unauthenticated);
    expect(installation.actions).not.toContain("RefreshReplayed");
  });

  test("has the role that its user has now", async () => {
    const user = await installation.create({ role: "operator" });
    const session = await installation.login();
    await installation.identities.users.change(actor, user.id, { role: "reader" });
    expect(await installation.who(session)).toMatchObject({ subject: { role: "reader" } });
    await installation.identities.users.change(actor, user.id, { role: null });
    expect((await installation.who(session)).subject).not.toHaveProperty("role");
  });

  test("that has expired is not compared with the audit record, which its rows may have left", async () => {
    const user = await installation.create();
    const session = await installation.login();
    const { audit } = installation.database;
    audit.splice(0, audit.length, ...audit.filter(({ entry: { subject } }) => subject.kind !== "Session"));
    await expect(installation.identities.sessions(user.id)).rejects.toMatchObject({ code: "TamperDetected" });
    installation.passes(43_200_000);
    expect(await installation.identities.sessions(user.id)).toEqual([]);
    await expect(installation.identities.refresh(session.refreshToken)).rejects.toMatchObject(unauthenticated);
  });

  test("is forgotten a day after it has expired", async () => {
    const user = await installation.create();
    await installation.login();
    installation.passes(43_200_000 + 86_000_000);
    await installation.identities.forgetExpired();
    expect(await installation.store.listSessions(user.id)).toHaveLength(1);
    installation.passes(1_000_000);
    await installation.identities.forgetExpired();
    expect(await installation.store.listSessions(user.id)).toEqual([]);
  });
});

describe("users", () => {
  test.each([
    ["EmailInvalid", { email: "alice" }],
    ["EmailInvalid", { email: "álice@example.com" }],
    ["EmailInvalid", { email: `${"a".repeat(250)}@x.de` }],
    ["PasswordTooShort", { password: "elevenchars" }],
    ["PasswordTooShort", { password: "😀😀😀😀😀😀" }],
    ["PasswordTooLong", { password: "x".repeat(1_025) }],
    ["PasswordIsEmail", { email: "alice.liddell@example.com", password: "Alice.Liddell@example.com" }],
    ["PasswordIsEmail", { email: "alice.liddell@example.com", password: "alice.liddell" }],
  ])("are refused with %s: %j", async (code, change) => {
    await expect(installation.create(change)).rejects.toMatchObject({ code });
    expect(installation.actions).toEqual([]);
  });

  test("keep their address for ever, also when they are removed", async () => {
    const user = await installation.create();
    await expect(installation.create({ email: "ALICE@example.com" })).rejects.toMatchObject({ code: "EmailTaken" });
    await installation.identities.users.remove(actor, user.id);
    await expect(installation.create()).rejects.toMatchObject({ code: "EmailTaken" });
    expect(await installation.identities.users.find(user.id)).toBeUndefined();
    await expect(installation.identities.users.change(actor, user.id, { disabled: false })).rejects.toMatchObject({
      code: "NotFound",
    });
    expect(installation.actions).toEqual(["UserCreated", "UserRemoved"]);
  });

  test("change only where something changes, and the record says what, never a password", async () => {
    const user = await installation.create({ role: "reader" });
    await installation.identities.users.change(actor, user.id, { role: "reader", disabled: false });
    expect(installation.actions).toEqual(["UserCreated"]);
    const changed = await installation.identities.users.change(actor, user.id, { role: "auditor", password: OTHER });
    expect(changed).toEqual({ ...user, role: "auditor" });
    expect(installation.entries.at(-1)).toMatchObject({
      action: "UserChanged",
      subject: { kind: "User", id: user.id, generation: 2n, name: EMAIL },
      details: { role: "auditor", passwordChanged: true, sessionsEnded: true },
    });
    expect(JSON.stringify(installation.entries, (_, value) => String(value))).not.toContain(OTHER);
    await expect(installation.login()).rejects.toMatchObject(unauthenticated);
    await expect(installation.login(EMAIL, OTHER)).resolves.toBeDefined();
  });

  test("that change at once all get their change", async () => {
    const user = await installation.create();
    const replicas = Array.from({ length: 4 }, () => installation.replica());
    await Promise.all(
      replicas.map(({ users }, n) =>
        users.change(actor, user.id, n % 2 === 0 ? { role: "reader" } : { disabled: true }),
      ),
    );
    expect(await installation.identities.users.find(user.id)).toMatchObject({ role: "reader", disabled: true });
    expect((await installation.store.findUser(user.id))?.row.generation).toBe(3n);
  });

  test("cannot be without an admin", async () => {
    const admin = await installation.create({ role: "admin" });
    const { users } = installation.identities;
    for (const attempt of [
      users.change(actor, admin.id, { role: "reader" }),
      users.change(actor, admin.id, { disabled: true }),
      users.remove(actor, admin.id),
    ]) {
      await expect(attempt).rejects.toMatchObject({ code: "LastAdmin" });
    }
    await installation.create({ email: "second@example.com", role: "admin" });
    await users.remove(actor, admin.id);
    expect(await users.list(undefined, 10)).toHaveLength(1);
  });

  test("change their own password by saying the one they have", async () => {
    await installation.create();
    const session = await installation.login();
    const who = await installation.who(session);
    const change = (current: string, next: string) =>
      installation.identities.changePassword(who, { current, next }, from);
    await expect(change(OTHER, "a third long password")).rejects.toMatchObject(unauthenticated);
    await expect(change(PASSWORD, "short")).rejects.toMatchObject({ code: "PasswordTooShort" });
    await change(PASSWORD, OTHER);
    await expect(installation.who(session)).rejects.toMatchObject(unauthenticated);
    await expect(installation.login(EMAIL, OTHER)).resolves.toBeDefined();
    expect(installation.entries.findLast(({ action }) => action === "UserChanged")?.actor).toMatchObject({
      subject: `LocalUser ${EMAIL}`,
      via: "Token",
      session: who.id,
    });
  });
});

describe("the first admin", () => {
  test("is made once by many replicas, which all get its password until it is changed", async () => {
    const replicas = Array.from({ length: 5 }, () => installation.replica());
    const made = await Promise.all(replicas.map((replica) => replica.ensureFirstAdmin()));
    const [first] = made;
    if (first === undefined) throw new Error("expected an admin");
    expect(made).toEqual(replicas.map(() => first));
    expect(installation.actions).toEqual(["UserCreated"]);
    const { subject } = await installation.login(first.email, first.password);
    expect(subject).toMatchObject({ role: "admin" });
    expect(await installation.replica().ensureFirstAdmin()).toEqual(first);
    if (subject.kind !== "LocalUser") throw new Error("expected a user");
    await installation.identities.users.change(actor, subject.id, { password: OTHER });
    expect(await installation.replica().ensureFirstAdmin()).toBeUndefined();
    expect(await installation.identities.users.list(undefined, 10)).toHaveLength(1);
  });

  test("is not made where there are users, and has another password in every installation", async () => {
    const other = await TestIdentities.start();
    const [one, two] = [await installation.identities.ensureFirstAdmin(), await other.identities.ensureFirstAdmin()];
    expect(one?.password).not.toBe(two?.password);
    expect(one?.password).toHaveLength(24);
    const third = await TestIdentities.start();
    await third.create({ role: "admin" });
    expect(await third.identities.ensureFirstAdmin()).toBeUndefined();
  });
});

describe("an API key", () => {
  const create = async (change = {}) => {
    const owner = await installation.create({ role: "operator" });
    const key = await installation.identities.apiKeys.create(actor, {
      ownerId: owner.id,
      name: "pipeline",
      scopes: ["read", "list", "read"],
      ...change,
    });
    return { owner, key };
  };
  const use = (secret: string) => installation.identities.authenticate(secret);

  test("stands for its owner within its scopes", async () => {
    const { owner, key } = await create();
    expect(key.secret).toMatch(/^mvk_[0-9a-f]{32}_[A-Za-z0-9_-]{43}$/);
    expect(await use(key.secret)).toEqual({
      subject: { kind: "LocalUser", id: owner.id, email: EMAIL, role: "operator" },
      via: "ApiKey",
      scopes: ["read", "list"],
      id: key.id,
    });
    expect(installation.entries.at(-1)).toMatchObject({
      action: "ApiKeyCreated",
      subject: { kind: "ApiKey", id: key.id, generation: 1n, name: "pipeline" },
      details: { owner: owner.id, scopes: "read list" },
    });
  });

  test("is refused when anything about it is another", async () => {
    const { key } = await create();
    const [, id = "", secret = ""] = /^mvk_(\w{32})_(.*)$/.exec(key.secret) ?? [];
    const turned = secret.startsWith("A") ? `B${secret.slice(1)}` : `A${secret.slice(1)}`;
    const foreign = randomBytes(16).toString("hex");
    for (const bad of [
      `mvk_${id}_${turned}`,
      `mvk_${foreign}_${secret}`,
      `mvk_${id}_`,
      `mvk_${id}`,
      `mvk_${key.id}_${secret}`,
      `${key.secret}A`,
      "mvk_",
    ]) {
      await expect(use(bad)).rejects.toMatchObject(unauthenticated);
    }
    expect(await use(key.secret)).toBeDefined();
  });

  test("ends by being revoked, by its time, and with its owner", async () => {
    const { owner, key } = await create();
    await use(key.secret);
    await installation.identities.users.change(actor, owner.id, { disabled: true });
    await expect(use(key.secret)).rejects.toMatchObject(unauthenticated);
    await installation.identities.users.change(actor, owner.id, { disabled: false, password: OTHER });
    expect(await use(key.secret)).toBeDefined();
    await installation.identities.apiKeys.revoke(actor, key.id);
    await installation.identities.apiKeys.revoke(actor, key.id);
    await expect(use(key.secret)).rejects.toMatchObject(unauthenticated);
    expect(installation.actions.filter((action) => action === "ApiKeyRevoked")).toHaveLength(1);
    const { id, secret } = await installation.identities.apiKeys.create(actor, {
      ownerId: owner.id,
      name: "short",
      scopes: ["read"],
      expiresAt: new Date(installation.now().getTime() + 60_000),
    });
    expect(await use(secret)).toMatchObject({ id });
    installation.passes(60_000);
    await expect(use(secret)).rejects.toMatchObject(unauthenticated);
  });

  test.each([
    ["ScopesMissing", { scopes: [] }],
    ["ExpiryInvalid", { expiresAt: new Date(0) }],
    ["ExpiryInvalid", { expiresAt: new Date(Number.NaN) }],
    ["ExpiryInvalid", { expiresAt: new Date("2999-01-01T00:00:00Z") }],
    ["NotFound", { ownerId: "6f2b6b7e-5a53-4e0f-8a0e-1f1d0c9f3b55" }],
  ])("is refused with %s: %j", async (code, change) => {
    await expect(create(change)).rejects.toMatchObject({ code });
    expect(installation.actions).toEqual(["UserCreated"]);
  });

  test("is listed with its last use, never with its hash, and uses are written together", async () => {
    const written: number[] = [];
    const record = installation.store.recordUses.bind(installation.store);
    installation.store.recordUses = async (uses) => {
      written.push(uses.size);
      await record(uses);
    };
    const { owner, key } = await create();
    const other = await installation.identities.apiKeys.create(actor, {
      ownerId: owner.id,
      name: "other",
      scopes: ["read"],
    });
    for (let count = 0; count < 50; count += 1) await Promise.all([use(key.secret), use(other.secret)]);
    expect(written).toEqual([]);
    await installation.identities.close();
    expect(written).toEqual([2]);
    const listed = await installation.identities.apiKeys.list(owner.id, undefined, 10);
    expect(listed).toHaveLength(2);
    for (const each of listed) {
      expect(each.lastUsedAt).toBeInstanceOf(Date);
      expect(each).not.toHaveProperty("hash");
    }
  });
});
