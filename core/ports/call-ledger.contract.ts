import type { CallLedger } from "./call-ledger.ts";

const LONG_MS = 600_000;

/** What every ledger does. `start` gives an empty one. */
export function callLedgerContract(start: () => Promise<CallLedger>): void {
  let ledger: CallLedger;

  beforeEach(async () => {
    ledger = await start();
  });

  test("no more is booked than the limit, and what is left of it is given to who wants more", async () => {
    expect(await ledger.book("one", "a", 10, 4, LONG_MS)).toMatchObject({ calls: 4 });
    expect(await ledger.book("one", "a", 10, 8, LONG_MS)).toMatchObject({ calls: 6 });
    const refused = await ledger.book("one", "a", 10, 1, LONG_MS);
    expect(refused).toEqual({ calls: 0, waitMs: expect.any(Number), contended: false });
    expect(refused.waitMs).toBeGreaterThan(LONG_MS - 60_000);
    expect(refused.waitMs).toBeLessThanOrEqual(LONG_MS);
  });

  test("a holder is told of another one, as long as that one's calls count", async () => {
    const { id = "", contended } = await ledger.book("one", "a", 10, 4, LONG_MS);
    expect(contended).toBe(false);
    expect((await ledger.book("one", "a", 10, 4, LONG_MS)).contended).toBe(false);
    expect((await ledger.book("other", "a", 10, 1, LONG_MS)).contended).toBe(true);
    expect((await ledger.book("other", "b", 10, 1, LONG_MS)).contended).toBe(false);
    await ledger.settle(id, 0, LONG_MS);
    expect((await ledger.book("one", "a", 10, 1, LONG_MS)).contended).toBe(true);
  });

  test("who was refused is known to wait, and takes nothing by that", async () => {
    const { id = "" } = await ledger.book("one", "a", 10, 10, LONG_MS);
    await ledger.book("other", "a", 10, 1, LONG_MS);
    await ledger.settle(id, 0, LONG_MS);
    expect(await ledger.book("one", "a", 10, 10, LONG_MS)).toMatchObject({ calls: 10, contended: true });
  });

  test("each vault has its own", async () => {
    await ledger.book("one", "a", 5, 5, LONG_MS);
    expect(await ledger.book("one", "b", 5, 5, LONG_MS)).toMatchObject({ calls: 5 });
  });

  test("of many at once no more get any than there are", async () => {
    const booked = await Promise.all(Array.from({ length: 30 }, () => ledger.book("one", "a", 50, 3, LONG_MS)));
    expect(booked.reduce((sum, { calls }) => sum + calls, 0)).toBe(50);
  });

  test("who wants less than before is refused while more counts, and never gets less than nothing", async () => {
    await ledger.book("one", "a", 10, 10, LONG_MS);
    expect(await ledger.book("one", "a", 5, 5, LONG_MS)).toMatchObject({ calls: 0 });
  });

  test("what was not made is free at once, what was made counts for its time", async () => {
    const { id = "" } = await ledger.book("one", "a", 10, 10, LONG_MS);
    await ledger.settle(id, 3, LONG_MS);
    expect(await ledger.book("one", "a", 10, 10, LONG_MS)).toMatchObject({ calls: 7 });
    const { id: other = "" } = await ledger.book("one", "b", 10, 10, LONG_MS);
    await ledger.settle(other, 0, LONG_MS);
    expect(await ledger.book("one", "b", 10, 10, LONG_MS)).toMatchObject({ calls: 10 });
  });

  test("what was settled, and what nobody ever settles, is free after its time", async () => {
    const { id = "" } = await ledger.book("one", "a", 4, 2, LONG_MS);
    await ledger.book("one", "a", 4, 2, 50);
    await ledger.settle(id, 2, 50);
    let free = 0;
    while (free < 4) {
      const { calls, waitMs } = await ledger.book("one", "a", 4, 4, LONG_MS);
      free += calls;
      expect(waitMs).toBeLessThanOrEqual(50);
    }
    expect(free).toBe(4);
  });

  test("a booking that is over is settled without a word", async () => {
    const { id = "" } = await ledger.book("one", "a", 4, 4, 1);
    while ((await ledger.book("one", "a", 4, 4, 1)).calls === 0);
    await ledger.settle(id, 4, LONG_MS);
  });
}
