import type { Authenticated } from "../../core/access/subject.ts";
import { Identities } from "../../core/identity/identities.ts";
import type { Session } from "../../core/identity/sessions.ts";
import { CHEAP, EMAIL, from, PASSWORD } from "../../core/identity/testing/installation.ts";
import type { User } from "../../core/identity/users.ts";
import { actor } from "../../core/ports/samples.ts";
import { withConnection } from "./testing/client.ts";
import { openInstallation, type TestInstallation } from "./testing/installation.ts";
import { startServer, type TestServer } from "./testing/server.ts";

const tampered = { code: "TamperDetected" };
const unauthenticated = { code: "Unauthenticated" };
const OTHER = "another long password";

let server: TestServer;
let installation: TestInstallation;
let identities: Identities;
let user: User;
let session: Session;

const on = ({ stores }: TestInstallation): Identities =>
  new Identities({
    store: stores.identity,
    attempts: stores.loginAttempts,
    keys: stores.keys,
    audit: stores.audit,
    settings: { hashCost: CHEAP },
  });
const sql = (text: string, values: readonly unknown[] = []) =>
  withConnection(installation.database, (client) => client.query(text, [...values]));

beforeAll(async () => {
  server = await startServer();
});
beforeEach(async () => {
  installation = await openInstallation(await server.restored());
  identities = on(installation);
  await identities.rotateKeys({ epoch: await installation.stores.leadership.acquireEpoch("test") });
  user = await identities.users.create(actor, { email: EMAIL, password: PASSWORD, role: "reader" });
  session = await identities.login(EMAIL, PASSWORD, from);
});
afterEach(async () => {
  await identities.close();
  await installation.stores.close();
});
afterAll(() => server.stop());

/** Another replica, which has its own pool and memory. */
async function withReplica(use: (replica: Identities) => Promise<void>): Promise<void> {
  const other = await openInstallation(installation.database, installation.root);
  const replica = on(other);
  try {
    await use(replica);
  } finally {
    await replica.close();
    await other.stores.close();
  }
}

const whoIs = (): Promise<Authenticated> => identities.authenticate(session.token);

describe("what is ended in one replica is refused in another within two seconds:", () => {
  const newKey = () => identities.apiKeys.create(actor, { ownerId: user.id, name: "pipeline", scopes: ["read"] });
  const cases: readonly [string, () => Promise<{ bearer: string; end: () => Promise<unknown> }>][] = [
    [
      "a session by logging out",
      async () => ({ bearer: session.token, end: async () => identities.logout(await whoIs()) }),
    ],
    [
      "a session by being revoked",
      async () => ({ bearer: session.token, end: async () => identities.revokeSession(actor, (await whoIs()).id) }),
    ],
    [
      "a session by a replayed refresh token",
      async () => {
        await identities.refresh(session.refreshToken);
        return { bearer: session.token, end: () => identities.refresh(session.refreshToken).catch(() => {}) };
      },
    ],
    [
      "a session by another password",
      async () => ({
        bearer: session.token,
        end: () => identities.users.change(actor, user.id, { password: OTHER }),
      }),
    ],
    [
      "a session with its user",
      async () => ({ bearer: session.token, end: () => identities.users.remove(actor, user.id) }),
    ],
    [
      "an API key by being revoked",
      async () => {
        const { id, secret } = await newKey();
        return { bearer: secret, end: () => identities.apiKeys.revoke(actor, id) };
      },
    ],
    [
      "an API key with its owner",
      async () => ({
        bearer: (await newKey()).secret,
        end: () => identities.users.change(actor, user.id, { disabled: true }),
      }),
    ],
  ];

  test.each(cases)("%s", async (_, prepare) => {
    const { bearer, end } = await prepare();
    await withReplica(async (replica) => {
      let refused: unknown;
      await replica.authenticate(bearer);
      await end();
      const ended = performance.now();
      await expect(identities.authenticate(bearer)).rejects.toMatchObject(unauthenticated);
      while (refused === undefined) {
        await replica.authenticate(bearer).catch((error: unknown) => {
          refused = error;
        });
      }
      expect(refused).toMatchObject(unauthenticated);
      expect(performance.now() - ended).toBeLessThan(2_000);
    });
  });
});

test("replicas that start at once make one first admin, and can all hand its password over", async () => {
  await sql("TRUNCATE users, sessions, used_refresh_tokens, api_keys");
  const replicas = await Promise.all(
    Array.from({ length: 4 }, () => openInstallation(installation.database, installation.root)),
  );
  const made = await Promise.all(replicas.map((each) => on(each).ensureFirstAdmin()));
  await Promise.all(replicas.map(({ stores }) => stores.close()));
  const [first] = made;
  if (first === undefined) throw new Error("expected an admin");
  expect(made).toEqual([first, first, first, first]);
  expect((await sql("SELECT FROM users")).rowCount).toBe(1);
  const { subject } = await identities.login(first.email, first.password, from);
  expect(subject).toMatchObject({ kind: "LocalUser", role: "admin" });
});

describe("whoever can write into the tables does not get in by", () => {
  const bump = "generation = generation + 1";
  test.each([
    ["another role", "UPDATE users SET role = 'admin'"],
    ["another role in the next generation", `UPDATE users SET role = 'admin', ${bump}`],
    ["another generation", `UPDATE users SET ${bump}`],
    ["another address", "UPDATE users SET email = 'mallory@example.com' WHERE role = 'reader'"],
    ["an epoch that ended", "UPDATE users SET session_epoch = session_epoch - 1"],
    ["a short MAC", "UPDATE users SET mac = ''"],
    [
      "the row of another user",
      "UPDATE users u SET password = o.password, mac = o.mac FROM users o WHERE o.id <> u.id",
    ],
    ["an expiry that is moved", "UPDATE sessions SET expires_at = expires_at + interval '1 day'"],
    [
      "a session that is given to another",
      "UPDATE sessions SET user_id = (SELECT id FROM users WHERE role = 'operator')",
    ],
    ["another refresh token", "UPDATE sessions SET refresh_hash = sha256('mvr_mine')"],
  ])("%s", async (_, change) => {
    await identities.users.create(actor, { email: "operator@example.com", password: OTHER, role: "operator" });
    await sql(change);
    await withReplica(async (replica) => {
      await expect(replica.authenticate(session.token)).rejects.toMatchObject(tampered);
    });
  });

  test("a password that they know, in a row that they copied", async () => {
    const mallory = await identities.users.create(actor, { email: "mallory@example.com", password: OTHER });
    const hash = "(SELECT password FROM users WHERE id = $1)";
    await sql(`UPDATE users SET password = ${hash} WHERE email = $2`, [mallory.id, EMAIL]);
    await expect(identities.login(EMAIL, OTHER, from)).rejects.toMatchObject(tampered);
    await expect(identities.users.list(undefined, 10)).rejects.toMatchObject(tampered);
    await expect(identities.users.change(actor, user.id, { role: "reader" })).rejects.toMatchObject(tampered);
  });

  test("rows of before: a role, an ended session, a revoked key", async () => {
    const key = await identities.apiKeys.create(actor, { ownerId: user.id, name: "pipeline", scopes: ["read"] });
    const before = await sql("SELECT mac, role, generation, session_epoch FROM users");
    await sql("CREATE TABLE kept_sessions AS SELECT * FROM sessions");
    await sql("CREATE TABLE kept_keys AS SELECT * FROM api_keys");
    await identities.apiKeys.revoke(actor, key.id);
    await identities.logout(await whoIs());
    await sql("UPDATE sessions s SET ended_at = NULL, mac = k.mac FROM kept_sessions k WHERE k.id = s.id");
    await sql("UPDATE api_keys s SET revoked_at = NULL, mac = k.mac FROM kept_keys k WHERE k.id = s.id");
    await withReplica(async (replica) => {
      await expect(replica.authenticate(session.token)).rejects.toMatchObject(tampered);
      await expect(replica.refresh(session.refreshToken)).rejects.toMatchObject(tampered);
      await expect(replica.authenticate(key.secret)).rejects.toMatchObject(tampered);
    });
    session = await identities.login(EMAIL, PASSWORD, from);
    await identities.users.change(actor, user.id, { role: null });
    const { mac, role, generation, session_epoch } = before.rows[0];
    await sql("UPDATE users SET mac = $1, role = $2, generation = $3, session_epoch = $4", [
      mac,
      role,
      generation,
      session_epoch,
    ]);
    await withReplica((replica) => expect(replica.authenticate(session.token)).rejects.toMatchObject(tampered));
    await expect(identities.login(EMAIL, PASSWORD, from)).rejects.toMatchObject(tampered);
  });

  test.each([
    ["scopes", "scopes = '{administer}'"],
    ["owner", "owner_id = (SELECT id FROM users WHERE role = 'operator')"],
    ["hash", "hash = sha256('mine')"],
    ["expiry", "expires_at = expires_at + interval '1 day'"],
  ])("other %s of an API key", async (_, change) => {
    await identities.users.create(actor, { email: "operator@example.com", password: OTHER, role: "operator" });
    const key = await identities.apiKeys.create(actor, { ownerId: user.id, name: "pipeline", scopes: ["read"] });
    expect(await identities.authenticate(key.secret)).toMatchObject({ scopes: ["read"] });
    await sql(`UPDATE api_keys SET ${change}`);
    await withReplica((replica) => expect(replica.authenticate(key.secret)).rejects.toMatchObject(tampered));
  });
});

test("logins leave the record when their time is over, and the sessions that go on stay good", async () => {
  const { audit, sinkCursors, leadership } = installation.stores;
  const epoch = await leadership.acquireEpoch("retention");
  const sign = async () => {
    await audit.link(epoch, 1_000);
    return audit.checkpoint(epoch, { rows: 1, ms: 0 });
  };
  const rows = () => audit.read({ subject: { kind: "Session" } }, undefined, 10);
  await sign();
  const old = await whoIs();
  const later = await identities.login(EMAIL, PASSWORD, from);
  const last = await sign();
  if (last === undefined) throw new Error("expected a checkpoint");
  await sinkCursors.open({ epoch }, "uid", "sink");
  await sinkCursors.move({ epoch }, "uid", { position: last.position, link: last.link, checkpoint: last.number });
  expect(await audit.cut(epoch, new Date(Date.now() + 60_000))).toBeDefined();
  const { id } = await identities.authenticate(later.token);
  expect((await rows()).map(({ entry }) => entry.subject.id)).toEqual([id]);
  await withReplica(async (replica) => {
    expect(await replica.authenticate(later.token)).toMatchObject({ id });
    // Such a cut is only made when they are over; put back as if it went on, it is refused.
    await expect(replica.authenticate(session.token)).rejects.toMatchObject(tampered);
    await sql("UPDATE sessions SET expires_at = now() - interval '1 hour' WHERE id = $1", [old.id]);
    expect((await replica.sessions(user.id)).map((each) => each.id)).toEqual([id]);
  });
  expect(await audit.verify()).toMatchObject({ ok: true });
});

test("nothing that gets anybody in stands in the database, and the record is whole", async () => {
  const key = await identities.apiKeys.create(actor, { ownerId: user.id, name: "pipeline", scopes: ["read"] });
  const next = await identities.refresh(session.refreshToken);
  await identities.authenticate(key.secret);
  await identities.login(EMAIL, "a password that is wrong", from).catch(() => {});
  await identities.close();
  const canaries = [
    PASSWORD,
    "a password that is wrong",
    ...[session, next].flatMap(({ token, refreshToken }) => [token.split(".")[2] ?? "", refreshToken.slice(4)]),
    key.secret.slice(-43),
  ];
  const dump = await withConnection(installation.database, async (client) => {
    const { rows: tables } = await client.query<{ name: string }>(
      "SELECT format('%I.%I', schemaname, tablename) AS name FROM pg_tables WHERE schemaname = 'mazevault'",
    );
    let text = "";
    for (const { name } of tables) {
      const { rows } = await client.query<{ row: string }>(`SELECT t::text AS row FROM ${name} t`);
      text += rows.map(({ row }) => row).join("\n");
    }
    return text.toLowerCase();
  });
  expect(dump).toContain(EMAIL);
  for (const canary of canaries) {
    const bytes = [Buffer.from(canary), Buffer.from(canary, "base64url")].map((each) => each.toString("hex"));
    for (const form of [canary, ...bytes]) expect(dump).not.toContain(form.toLowerCase());
  }
  expect(await installation.stores.audit.verify()).toMatchObject({ ok: true });
  expect((await identities.apiKeys.list(user.id, undefined, 10))[0]?.lastUsedAt).toBeInstanceOf(Date);
});

test("nobody gets in, and nothing changes, when it cannot be put on record", async () => {
  await sql(`CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'full'; END $$`);
  await sql("CREATE TRIGGER refuse BEFORE INSERT ON audit FOR EACH ROW EXECUTE FUNCTION refuse()");
  const failed = { code: "Failed" };
  const who = await whoIs();
  await expect(identities.login(EMAIL, PASSWORD, from)).rejects.toMatchObject(failed);
  await expect(identities.login(EMAIL, OTHER, from)).rejects.toMatchObject(failed);
  await expect(identities.users.change(actor, user.id, { role: "admin" })).rejects.toMatchObject(failed);
  await expect(identities.users.remove(actor, user.id)).rejects.toMatchObject(failed);
  await expect(identities.logout(who)).rejects.toMatchObject(failed);
  await expect(
    identities.apiKeys.create(actor, { ownerId: user.id, name: "pipeline", scopes: ["read"] }),
  ).rejects.toMatchObject(failed);
  const counts = await sql(
    "SELECT (SELECT count(*) FROM sessions WHERE ended_at IS NULL) AS sessions, (SELECT count(*) FROM api_keys) AS keys",
  );
  expect(counts.rows).toEqual([{ sessions: "1", keys: "0" }]);
  expect(await identities.users.find(user.id)).toEqual(user);
});
