import type { AttemptLimit, LoginAttempts } from "./login-attempts.ts";

/** What all who count attempts do. `start` gives one that has counted none. */
export function loginAttemptsContract(start: () => Promise<LoginAttempts>): void {
  let attempts: LoginAttempts;

  beforeEach(async () => {
    attempts = await start();
  });

  const limit = (key: string, free = 3): AttemptLimit => ({
    key,
    free,
    firstMs: 1_000,
    mostMs: 5_000,
    forgetMs: 60_000,
  });
  const at = (ms: number) => new Date(Date.parse("2026-03-01T10:00:00Z") + ms);

  test("the wait grows with every attempt after the free ones, up to its most", async () => {
    const outcomes: (number | undefined)[] = [];
    let now = 0;
    for (let count = 0; count < 7; count += 1) {
      expect(await attempts.begin([limit("user")], at(now))).toBeUndefined();
      const refused = await attempts.begin([limit("user")], at(now));
      const until = refused?.until.getTime();
      outcomes.push(until === undefined ? undefined : until - at(now).getTime());
      if (refused !== undefined) expect(refused.key).toBe("user");
      now = until === undefined ? now : until - at(0).getTime();
    }
    // Free ones are counted as well when they are only looked at: the second of each pair is an attempt, too.
    expect(outcomes).toEqual([undefined, 1_000, 2_000, 4_000, 5_000, 5_000, 5_000]);
  });

  test("of many at once no more are let through than are free", async () => {
    const refused = await Promise.all(Array.from({ length: 30 }, () => attempts.begin([limit("user")], at(0))));
    expect(refused.filter((each) => each === undefined)).toHaveLength(3);
  });

  test("one key that has to wait refuses, and then none is counted", async () => {
    for (const n of [1, 2, 3]) await attempts.begin([limit(`user ${n}`), limit("address")], at(0));
    for (let count = 0; count < 5; count += 1) {
      expect(await attempts.begin([limit("another user"), limit("address")], at(10))).toEqual({
        key: "address",
        until: at(1_000),
      });
    }
    for (let count = 0; count < 3; count += 1) {
      expect(await attempts.begin([limit("another user")], at(20))).toBeUndefined();
    }
  });

  test("keys in any order do not wait for each other", async () => {
    const keys = ["a", "b", "c", "d"];
    const both = keys.flatMap((one) =>
      keys.filter((two) => two !== one).map((two) => [limit(one, 99), limit(two, 99)]),
    );
    await Promise.all([...both, ...both].map((limits) => attempts.begin(limits, at(0))));
    await Promise.all(both.map(([one, two]) => attempts.end([one?.key ?? ""], [two?.key ?? ""], at(0))));
  });

  test("an attempt that was no failure begins anew, or is taken back with the wait that it led to", async () => {
    for (let count = 0; count < 3; count += 1) {
      expect(await attempts.begin([limit("user"), limit("address")], at(count))).toBeUndefined();
    }
    await attempts.end(["user"], ["address"], at(2));
    expect(await attempts.begin([limit("user"), limit("address")], at(3))).toBeUndefined();
    // Two of the address's were failures and this one was not ended: it has to wait, the user has two more.
    expect(await attempts.begin([limit("address")], at(4))).toEqual({ key: "address", until: at(1_003) });
    expect(await attempts.begin([limit("user")], at(4))).toBeUndefined();
  });

  test("taking one back leaves the wait of those after it", async () => {
    for (let count = 0; count < 3; count += 1) await attempts.begin([limit("address")], at(count));
    await attempts.end([], ["address"], at(0));
    expect(await attempts.begin([limit("address")], at(5))).toEqual({ key: "address", until: at(1_002) });
  });

  test("after a time without attempts counting begins anew", async () => {
    for (let count = 0; count < 3; count += 1) await attempts.begin([limit("user")], at(count));
    for (let count = 0; count < 3; count += 1) {
      expect(await attempts.begin([limit("user")], at(60_100 + count))).toBeUndefined();
    }
    expect(await attempts.begin([limit("user")], at(60_110))).toBeDefined();
  });

  test("what is old is forgotten, a batch at a time", async () => {
    for (const key of ["a", "b", "c"]) await attempts.begin([limit(key)], at(0));
    await attempts.begin([limit("young")], at(100));
    expect([await attempts.forget(at(50), 2), await attempts.forget(at(50), 2)]).toEqual([2, 1]);
    expect(await attempts.forget(at(50), 2)).toBe(0);
  });
}
