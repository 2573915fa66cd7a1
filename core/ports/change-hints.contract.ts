import type { ChangeHints } from "./change-hints.ts";

/** What all hints do. `start` gives three replicas that hear each other. */
export function changeHintsContract(start: () => Promise<readonly [ChangeHints, ChangeHints, ChangeHints]>): void {
  test("the others hear it, until they listen no more", async () => {
    const [teller, other, third] = await start();
    const heard = Array.from({ length: 2 }, () => Promise.withResolvers<void>());
    const ends = [other, third].map((hints, n) => hints.listen(() => heard[n]?.resolve()));
    teller.tell();
    await Promise.all(heard.map(({ promise }) => promise));
    const late: string[] = [];
    ends[0]?.();
    other.listen(() => late.push("again"))();
    const again = Promise.withResolvers<void>();
    third.listen(() => again.resolve());
    teller.tell();
    await again.promise;
    expect(late).toEqual([]);
  });
}
