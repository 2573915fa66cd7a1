/** On a real server, as somebody who is no superuser. */
import { readFileSync } from "node:fs";
import type { RoleHolder, RoleLogin, RoleServer } from "../../core/ports/apply-targets.ts";
import { Sensitive } from "../../core/sensitive.ts";
import { scramVerifier } from "../../core/vault/scram.ts";
import { withClient } from "../../lab/postgres/database.ts";
import { startServer, type TestServer } from "../postgres/testing/server.ts";
import { PostgresRoles } from "./database-roles.ts";

let running: TestServer;
let server: RoleServer;
let roles: PostgresRoles;
const admin: RoleLogin = { user: "rotator", password: new Sensitive("the admin's") };
const { signal } = new AbortController();
const DONE = { kind: "Done" };

const sql = <Row extends Record<string, unknown>>(text: string) =>
  withClient(running.postgres.superuser, async (client) => (await client.query<Row>(text)).rows);

beforeAll(async () => {
  running = await startServer();
  const { host, port, database, caFile } = running.postgres.superuser;
  server = { host, port, database, ca: readFileSync(caFile, "utf8") };
  roles = new PostgresRoles({ allowedHosts: ["127.0.0.1"], timeoutMs: 5_000 });
  await sql("CREATE ROLE rotator LOGIN CREATEROLE PASSWORD 'the admin''s'");
  await sql("GRANT pg_signal_backend TO rotator");
});
afterAll(() => running?.stop());

let count = 0;
/** A role that the admin may change. */
async function role(): Promise<string> {
  count += 1;
  const name = `orders-${count}`;
  await sql(`CREATE ROLE "${name}" NOLOGIN`);
  await sql(`GRANT "${name}" TO rotator WITH ADMIN OPTION`);
  return name;
}
const holder = (version: number, change: Partial<RoleHolder> = {}): RoleHolder => ({
  installation: "i",
  namespace: "payments",
  name: "orders-db",
  id: "id",
  version,
  ...change,
});
const set = async (name: string, password: string, of: RoleHolder) => {
  const verifier = await scramVerifier(new Sensitive(password));
  return roles.setPassword(server, admin, { role: name, verifier, holder: of }, signal);
};
const logIn = (user: string, password: string) =>
  roles.logIn(server, { user, password: new Sensitive(password) }, signal);
const end = (name: string, version: number, sessions = false) =>
  roles.end(server, admin, { role: name, holder: holder(version), sessions }, signal);
const commentOf = async (name: string) =>
  (await sql<{ comment: string }>(`SELECT shobj_description('"${name}"'::regrole, 'pg_authid') AS comment`))[0]
    ?.comment;

test("a role logs in by the password that was set, and by no other; what stands there is the verifier", async () => {
  const name = await role();
  expect(await set(name, "p'ss\\word \" 1", holder(1))).toEqual(DONE);
  expect(await logIn(name, "p'ss\\word \" 1")).toEqual(DONE);
  expect(await logIn(name, "another")).toMatchObject({
    kind: "Refused",
    message: expect.stringContaining("password of"),
  });
  const [row] = await sql<{ rolpassword: string }>(`SELECT rolpassword FROM pg_authid WHERE rolname = '${name}'`);
  expect(row?.rolpassword).toMatch(/^SCRAM-SHA-256\$4096:/);
});

test("it is set once for each version, and not for an earlier one, so whoever is late changes nothing", async () => {
  const name = await role();
  expect(await set(name, "two", holder(2))).toEqual(DONE);
  // A repetition has another salt, and would have another password if it were for another version.
  expect(await set(name, "other", holder(2))).toEqual(DONE);
  expect(await logIn(name, "two")).toEqual(DONE);
  expect(await set(name, "one", holder(1))).toMatchObject({
    kind: "Refused",
    message: expect.stringContaining("for version 2 of this Secret, which is later than 1"),
  });
  expect(await end(name, 1)).toEqual(DONE);
  expect(await logIn(name, "two")).toEqual(DONE);
});

test("two at once set one password, whole", async () => {
  const name = await role();
  const versions = [1, 2, 3, 4, 5, 6];
  const answers = await Promise.all(versions.map((version) => set(name, `p${version}`, holder(version))));
  expect(answers.at(-1)).toEqual(DONE);
  expect(await logIn(name, "p6")).toEqual(DONE);
  expect(await commentOf(name)).toBe("[mazevault i/payments/orders-db/id/6]");
});

test("it belongs to one Secret, and to the one that took its place", async () => {
  const name = await role();
  await sql(`COMMENT ON ROLE "${name}" IS 'of the orders team'`);
  expect(await set(name, "one", holder(7))).toEqual(DONE);
  expect(await commentOf(name)).toBe("of the orders team [mazevault i/payments/orders-db/id/7]");
  for (const [change, says] of [
    [{ name: "other-db" }, /is used by Secret payments\/orders-db; name other roles/],
    [{ installation: "j" }, /of another installation/],
  ] as const) {
    expect(await set(name, "two", holder(9, change))).toMatchObject({ message: expect.stringMatching(says) });
  }
  expect(await logIn(name, "one")).toEqual(DONE);
  expect(await set(name, "two", holder(1, { id: "made anew" }))).toEqual(DONE);
  expect(await commentOf(name)).toBe("of the orders team [mazevault i/payments/orders-db/made anew/1]");
});

test("it ends, with its sessions where that is asked for, and can begin anew", async () => {
  const name = await role();
  await set(name, "one", holder(1));
  const { host, port, database, ca } = server;
  const { default: pg } = await import("pg");
  const session = new pg.Client({ host, port, database, user: name, password: "one", ssl: { ca } });
  const told: Error[] = [];
  const ended = new Promise((resolve) => session.once("end", resolve));
  session.on("error", (error) => told.push(error));
  await session.connect();
  expect(await end(name, 2)).toEqual(DONE);
  expect(await logIn(name, "one")).toMatchObject({ kind: "Refused" });
  expect((await session.query("SELECT 1")).rowCount).toBe(1);
  expect(await end(name, 2, true)).toEqual(DONE);
  await ended;
  expect(told).toContainEqual(expect.objectContaining({ code: "57P01" }));
  expect(await set(name, "three", holder(3))).toEqual(DONE);
  expect(await logIn(name, "three")).toEqual(DONE);
});

describe("a role that ends", () => {
  test("may be gone", async () => {
    const name = await role();
    await set(name, "one", holder(1));
    await sql(`DROP ROLE "${name}"`);
    expect(await end(name, 2, true)).toEqual(DONE);
  });

  test("logs in no more, although its sessions cannot be ended", async () => {
    const name = await role();
    await set(name, "one", holder(1));
    const { host, port, database, ca } = server;
    const { default: pg } = await import("pg");
    const session = new pg.Client({ host, port, database, user: name, password: "one", ssl: { ca } });
    session.on("error", () => {});
    await session.connect();
    // Who inherits from a role may end its sessions.
    await sql("CREATE ROLE unsignalling LOGIN NOINHERIT CREATEROLE PASSWORD 'u'");
    await sql(`GRANT "${name}" TO unsignalling WITH ADMIN OPTION`);
    const login = { user: "unsignalling", password: new Sensitive("u") };
    const answer = await roles.end(server, login, { role: name, holder: holder(2), sessions: true }, signal);
    expect(answer).toEqual({
      kind: "Refused",
      message: expect.stringContaining("unsignalling lacks pg_signal_backend"),
    });
    expect(await logIn(name, "one")).toMatchObject({ kind: "Refused" });
    await session.end();
  });
});

describe("which role is in use is asked of the server", () => {
  const unused = (names: readonly string[], of: Partial<RoleHolder> = {}, failed: readonly number[] = []) =>
    roles.unused(server, admin, { roles: names, holder: holder(0, of), failed }, signal);
  const chosen = (name: string | undefined) => ({ kind: "Unused", role: name });

  test("the one that cannot log in is taken, also by a Secret that was made anew", async () => {
    const names = [await role(), await role()] as const;
    expect(await unused(names)).toEqual(chosen(names[0]));
    await set(names[0], "handed out", holder(2));
    expect(await unused(names)).toEqual(chosen(names[1]));
    expect(await unused(names, { id: "made anew" })).toEqual(chosen(names[1]));
    await sql(`ALTER ROLE "${names[1]}" LOGIN`);
    expect(await unused(names)).toEqual(chosen(names[1]));
    expect(await logIn(names[0], "handed out")).toEqual(DONE);
  });

  test("none is taken while both log in by passwords of ours, but for one that was handed to nobody", async () => {
    const names = [await role(), await role()] as const;
    await set(names[0], "two", holder(2));
    await set(names[1], "three", holder(3));
    expect(await unused(names)).toEqual({
      kind: "Refused",
      message: expect.stringMatching(/both log in by passwords .* end the one that nobody uses, with: ALTER ROLE/),
    });
    expect(await unused(names, {}, [3])).toEqual(chosen(names[1]));
    expect(await unused(names, { id: "made anew" }, [3])).toMatchObject({ kind: "Refused" });
    expect(await unused(names, { name: "other-db" })).toMatchObject({
      kind: "Refused",
      message: expect.stringContaining("is used by Secret payments/orders-db"),
    });
    await end(names[0], 3);
    expect(await unused(names)).toEqual(chosen(names[0]));
    expect(await unused([names[1], "nobody"])).toMatchObject({
      message: "there is no role nobody; create it with: CREATE ROLE nobody NOLOGIN",
    });
  });
});

describe("what is wrong is told", () => {
  test("there is no such role", async () => {
    expect(await set("nobody", "x", holder(1))).toMatchObject({
      kind: "Refused",
      message: "there is no role nobody; create it with: CREATE ROLE nobody NOLOGIN",
    });
  });

  test("the admin lacks the right", async () => {
    await sql("CREATE ROLE weak LOGIN PASSWORD 'weak'");
    const name = await role();
    const weak = { user: "weak", password: new Sensitive("weak") };
    const verifier = await scramVerifier(new Sensitive("x"));
    expect(await roles.setPassword(server, weak, { role: name, verifier, holder: holder(1) }, signal)).toMatchObject({
      kind: "Refused",
      message: expect.stringContaining("ADMIN OPTION"),
    });
  });

  test("the role may not connect to the database", async () => {
    const name = await role();
    await set(name, "one", holder(1));
    await sql("CREATE DATABASE closed");
    await sql("REVOKE CONNECT ON DATABASE closed FROM PUBLIC");
    const login = { user: name, password: new Sensitive("one") };
    expect(await roles.logIn({ ...server, database: "closed" }, login, signal)).toEqual({
      kind: "Refused",
      message: expect.stringContaining(`GRANT CONNECT ON DATABASE "closed" TO "${name}"`),
    });
  });

  test.each<[string, Partial<RoleServer>, object]>([
    ["there is no such database", { database: "none" }, { kind: "Refused", message: /has no database none/ }],
    ["nobody listens", { port: 1 }, { kind: "Unreachable", message: /:1 does not answer \(ECONNREFUSED\)/ }],
    [
      "the host is not allowed",
      { host: "localhost" },
      { kind: "Refused", message: /rotation.allowedHosts allows 127/ },
    ],
    ["its certificate is of nobody we trust", { ca: undefined }, { kind: "Unreachable", message: /does not answer/ }],
  ])("%s", async (_, change, { kind, message }: { kind?: string; message?: RegExp }) => {
    const answer = await roles.logIn({ ...server, ...change }, admin, signal);
    expect(answer).toEqual({ kind, message: expect.stringMatching(message ?? /./) });
    expect(JSON.stringify(answer)).not.toContain("the admin's");
  });

  test("its certificate has another name", async () => {
    const named = new PostgresRoles({ allowedHosts: ["127.0.0.2"], timeoutMs: 5_000 });
    const answer = await named.logIn({ ...server, host: "127.0.0.2" }, admin, signal);
    expect(answer).toMatchObject({ kind: "Unreachable" });
  });
});
