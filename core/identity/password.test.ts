import { argon2, argon2Sync } from "node:crypto";
import { promisify } from "node:util";
import { type Argon2, PasswordHasher, type PasswordHasherOptions } from "./password.ts";
import { CHEAP, EMAIL, from, PASSWORD, TestIdentities } from "./testing/installation.ts";

const secret = Buffer.alloc(32, 1);
const hasher = (change: Partial<PasswordHasherOptions> = {}) =>
  new PasswordHasher({ cost: CHEAP, atOnce: 2, waiting: 8, ...change });

/** Real hashes, and how many of them are under way at most. */
function watched() {
  const seen = { running: 0, most: 0, total: 0 };
  const compute: Argon2 = async (algorithm, parameters) => {
    seen.running += 1;
    seen.total += 1;
    seen.most = Math.max(seen.most, seen.running);
    try {
      return await promisify(argon2)(algorithm, parameters);
    } finally {
      seen.running -= 1;
    }
  };
  return { seen, compute };
}

test("a hash is argon2id of RFC 9106 in PHC string format, keyed, and says what it cost", async () => {
  const hash = await hasher({ cost: { memoryKiB: 64, passes: 3, parallelism: 2 } }).hash("pässword", secret);
  const [, nonce = "", tag = ""] = /^\$argon2id\$v=19\$m=64,t=3,p=2\$([^$]{22})\$([^$]{43})$/.exec(hash) ?? [];
  const expected = argon2Sync("argon2id", {
    message: Buffer.from("pässword", "utf8"),
    nonce: Buffer.from(nonce, "base64"),
    secret,
    memory: 64,
    passes: 3,
    parallelism: 2,
    tagLength: 32,
  });
  expect(Buffer.from(tag, "base64")).toEqual(expected);
  expect(await hasher().hash("pässword", secret)).not.toBe(await hasher().hash("pässword", secret));
});

test("only the password itself verifies, by whatever keyboard, and only under the key", async () => {
  const hash = await hasher().hash("pa\u0308ssword", secret);
  const verify = (password: string, key = secret) => hasher().verify(password, hash, key);
  expect(await verify("p\u00e4ssword")).toBe(true);
  expect(await verify("Pässword")).toBe(false);
  expect(await verify("pässword ")).toBe(false);
  expect(await verify("")).toBe(false);
  expect(await verify("pässword", Buffer.alloc(32, 2))).toBe(false);
  expect(await hasher().verify("pässword", undefined, secret)).toBe(false);
});

test("a hash at another cost still verifies, and is told to be outdated", async () => {
  const dear = hasher({ cost: { memoryKiB: 32, passes: 2, parallelism: 1 } });
  const hash = await hasher().hash(PASSWORD, secret);
  expect(await dear.verify(PASSWORD, hash, secret)).toBe(true);
  expect([hasher().outdated(hash), dear.outdated(hash)]).toEqual([false, true]);
});

test("no more hashes are computed at once than were asked for, and no more wait", async () => {
  const { seen, compute } = watched();
  const limited = hasher({ atOnce: 3, waiting: 5, compute, cost: { memoryKiB: 1_024, passes: 1, parallelism: 1 } });
  const outcomes = await Promise.allSettled(Array.from({ length: 100 }, () => limited.verify("x", undefined, secret)));
  const refused = outcomes.filter(({ status }) => status === "rejected");
  expect(refused).toHaveLength(92);
  for (const outcome of refused) {
    expect(outcome).toMatchObject({ reason: { code: "TooManyAttempts", retryAfterMs: expect.any(Number) } });
  }
  expect(seen).toEqual({ running: 0, most: 3, total: 8 });
  expect(await limited.verify("x", undefined, secret)).toBe(false);
});

test("a hash that fails gives its place back", async () => {
  const { compute } = watched();
  let failing = true;
  const limited = hasher({
    atOnce: 1,
    waiting: 0,
    compute: (...given) => (failing ? Promise.reject(new Error("out of memory")) : compute(...given)),
  });
  await expect(limited.hash(PASSWORD, secret)).rejects.toThrow("out of memory");
  failing = false;
  await expect(limited.hash(PASSWORD, secret)).resolves.toBeDefined();
});

test("a refused hash does not count against who logs in", async () => {
  const { compute } = watched();
  let release = () => {};
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  const slow: Argon2 = async (...given) => {
    await held;
    return compute(...given);
  };
  const installation = await TestIdentities.start();
  await installation.create();
  const busy = installation.replica({ hashesAtOnce: 1, hashesWaiting: 0 }, { argon2: slow });
  const first = busy.login(EMAIL, PASSWORD, from);
  for (let count = 0; count < 30; count += 1) {
    await expect(busy.login(EMAIL, PASSWORD, from)).rejects.toMatchObject({ code: "TooManyAttempts" });
  }
  release();
  await expect(first).resolves.toBeDefined();
  await expect(installation.login()).resolves.toBeDefined();
});

test("an unknown user takes as long as a known one: over 200 tries each, the means differ by less than the spread", async () => {
  const endless = { free: 1_000_000, firstMs: 1, mostMs: 1, forgetMs: 1 };
  const installation = await TestIdentities.start({
    // Cheap, so that whatever else differed would show all the more.
    hashCost: { memoryKiB: 512, passes: 1, parallelism: 1 },
    limits: { user: endless, address: endless },
  });
  await installation.create();
  const known: number[] = [];
  const unknown: number[] = [];
  const timed = async (email: string, into: number[]) => {
    const started = performance.now();
    await expect(installation.login(email, "not the right password")).rejects.toMatchObject({
      code: "Unauthenticated",
    });
    into.push(performance.now() - started);
  };
  for (let warm = 0; warm < 20; warm += 1) await timed(EMAIL, []);
  for (let count = 0; count < 200; count += 1) {
    // In turns also within a pair, so that neither is always the one that comes after the other.
    const pair = [() => timed(EMAIL, known), () => timed("nobody@example.com", unknown)];
    for (const one of count % 2 === 0 ? pair : pair.reverse()) await one();
  }
  const mean = (of: readonly number[]) => of.reduce((sum, each) => sum + each, 0) / of.length;
  const spread = (of: readonly number[]) => Math.sqrt(mean(of.map((each) => (each - mean(of)) ** 2)));
  const differ = Math.abs(mean(known) - mean(unknown));
  expect(differ).toBeLessThan(Math.max(spread(known), spread(unknown)));
});
