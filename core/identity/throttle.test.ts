import { argon2 } from "node:crypto";
import { promisify } from "node:util";
import type { Argon2 } from "./password.ts";
import { EMAIL, from, PASSWORD, TestIdentities } from "./testing/installation.ts";
import { networkOf } from "./throttle.ts";

const WRONG = "not the right password";
const refused = { code: "TooManyAttempts", retryAfterMs: expect.any(Number) };
const unauthenticated = { code: "Unauthenticated" };

let installation: TestIdentities;
beforeEach(async () => {
  installation = await TestIdentities.start();
  await installation.create();
});

const fail = async (count: number, email = EMAIL, address = from.address) => {
  const codes: string[] = [];
  for (let tries = 0; tries < count; tries += 1) {
    const attempt = installation.identities.login(email, WRONG, { address });
    codes.push(
      await attempt.then(
        () => "let in",
        ({ code }: { code: string }) => code,
      ),
    );
  }
  return codes;
};

test.each([EMAIL, "nobody@example.com"])(
  "after ten wrong passwords in a row %s waits, longer each time",
  async (email) => {
    expect(await fail(11, email)).toEqual([...Array(10).fill("Unauthenticated"), "TooManyAttempts"]);
    for (const seconds of [1, 2, 4, 8]) {
      const attempt = installation.login(email, PASSWORD);
      await expect(attempt).rejects.toMatchObject(refused);
      const { retryAfterMs } = await attempt.catch((error) => error);
      expect(retryAfterMs).toBeLessThanOrEqual(seconds * 1_000);
      expect(retryAfterMs).toBeGreaterThan(seconds * 1_000 - 900);
      // Neither is another replica of another opinion.
      await expect(installation.replica().login(email, PASSWORD, { address: "198.51.100.9" })).rejects.toMatchObject(
        refused,
      );
      installation.passes(retryAfterMs);
      await expect(installation.login(email, WRONG)).rejects.toMatchObject(unauthenticated);
    }
  },
);

test("who knows the password waits no longer than told, and begins anew", async () => {
  await fail(12);
  installation.passes(1_000);
  await expect(installation.login()).resolves.toBeDefined();
  expect(await fail(10)).toEqual(Array(10).fill("Unauthenticated"));
});

test("an address that tries many users waits, and nobody at another address does", async () => {
  for (let user = 0; user < 50; user += 1) await fail(1, `user${user}@example.com`);
  await expect(installation.login()).rejects.toMatchObject(refused);
  await expect(installation.identities.login(EMAIL, PASSWORD, { address: "198.51.100.9" })).resolves.toBeDefined();
});

test("logging in oneself does not free one's address for more guesses", async () => {
  for (let user = 0; user < 48; user += 1) await fail(1, `user${user}@example.com`);
  for (const guess of ["a@example.com", "b@example.com"]) {
    await expect(installation.login()).resolves.toBeDefined();
    expect(await fail(1, guess)).toEqual(["Unauthenticated"]);
  }
  for (const seconds of [1, 2]) {
    await expect(installation.login()).rejects.toMatchObject(refused);
    installation.passes(seconds * 1_000);
    await expect(installation.login()).resolves.toBeDefined();
    expect(await fail(1, `${seconds}@example.com`)).toEqual(["Unauthenticated"]);
  }
});

test("many guesses at once are no more than the free ones", async () => {
  const outcomes = await Promise.allSettled(Array.from({ length: 40 }, () => installation.login(EMAIL, WRONG)));
  const codes = outcomes.map((outcome) => (outcome.status === "rejected" ? outcome.reason.code : "let in"));
  expect(codes.filter((code) => code === "Unauthenticated")).toHaveLength(10);
  expect(codes.filter((code) => code === "TooManyAttempts")).toHaveLength(30);
});

test.each([
  ["192.0.2.7", "192.0.2.7"],
  ["::ffff:192.0.2.7", "192.0.2.7"],
  ["2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"],
  ["2001:db8:1:2::9", "2001:db8:1:2::/64"],
  ["2001:0DB8:1:0002::9", "2001:db8:1:2::/64"],
  ["2001:db8::9", "2001:db8:0:0::/64"],
  ["::1", "0:0:0:0::/64"],
  ["fe80::1%eth0", "fe80:0:0:0::/64"],
  ["a pipe", "a pipe"],
])("the network of %s is %s", (address, network) => expect(networkOf(address)).toBe(network));

test("100,000 wrong logins are refused, with few hashes, never more at once than allowed, and few audit rows", async () => {
  const seen = { running: 0, most: 0, total: 0 };
  const counted: Argon2 = async (...given) => {
    seen.running += 1;
    seen.total += 1;
    seen.most = Math.max(seen.most, seen.running);
    try {
      return await promisify(argon2)(...given);
    } finally {
      seen.running -= 1;
    }
  };
  const flooded = installation.replica({ hashesAtOnce: 2 }, { argon2: counted });
  const before = installation.entries.length;
  const started = performance.now();
  let refusals = 0;
  const guess = async (n: number) => {
    const email = n % 10 === 0 ? EMAIL : `user${n % 50}@example.com`;
    await flooded
      .login(email, WRONG, { address: `2001:db8:0:${(n % 997).toString(16)}::7` })
      .catch(({ code }: { code: string }) => {
        if (code === "Unauthenticated" || code === "TooManyAttempts") refusals += 1;
      });
  };
  for (let batch = 0; batch < 1_000; batch += 1) {
    await Promise.all(Array.from({ length: 100 }, (_, n) => guess(batch * 100 + n)));
  }
  expect(refusals).toBe(100_000);
  expect(seen.most).toBe(2);
  // Each of 46 names has ten guesses, and one more after 1 s, 3 s, 7 s, ...
  const seconds = (performance.now() - started) / 1_000;
  expect(seen.total).toBeLessThanOrEqual(46 * (10 + Math.ceil(Math.log2(seconds + 1))));
  await flooded.close();
  const rows = installation.entries.slice(before);
  expect(rows.every(({ action }) => action === "LoginFailed")).toBe(true);
  // In each minute the first of a kind is written at once and the others as their number: a thousand kinds, and the rest together.
  expect(rows.length).toBeLessThanOrEqual(2 * 1_001 * Math.ceil(seconds / 60));
  expect(rows.reduce((sum, { details }) => sum + Number(details.attempts), 0)).toBe(100_000);
});
