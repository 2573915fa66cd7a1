import type { RotationSpec, SecretEntry } from "../../crds/secret.ts";
import type { RotationRecord } from "../ports/vault-store.ts";
import { firstRotation, planRotation, type RotationPlan, rotatableKeys } from "./due.ts";

const entries: readonly SecretEntry[] = [
  { key: "user", literal: "orders" },
  { key: "password", generate: { kind: "Password" } },
  { key: "salt", generate: { kind: "Hex" } },
];
const at = (text: string): Date => new Date(`${text}Z`);
const time = (date: Date | undefined): string | undefined => date?.toISOString().replace(/(:00)?\.000Z$/, "");

/** Ids begin with the part of the spread that is taken off. */
const NO_JITTER = "00000000-0000-4000-8000-000000000000";
const HALF = "80000000-0000-4000-8000-000000000000";

interface Given {
  readonly rotation?: RotationSpec;
  readonly before?: RotationRecord;
  readonly request?: string;
  readonly now: Date;
  readonly id?: string;
  readonly stored?: readonly string[];
}
function plan({ rotation, before, request, now, id = NO_JITTER, stored = ["user", "password", "salt"] }: Given) {
  const record = {
    id,
    entries: stored.map((key) => ({ key, recipe: "", fingerprint: "" })),
    ...(before !== undefined && { rotation: before }),
  };
  return planRotation({ entries: [...entries], ...(rotation !== undefined && { rotation }) }, request, record, now);
}
/** As asked for since then, and rotated last at `last`. */
const since = (rotation: RotationSpec, from: string, last?: string): RotationRecord => ({
  ...(firstRotation({ rotation }, undefined, at(from)) as RotationRecord),
  ...(last !== undefined && { at: at(last) }),
});
const shown = (planned: RotationPlan) => {
  if (planned.kind !== "Rotate") return { kind: planned.kind, next: time(planned.next) };
  return { kind: "Rotate", due: planned.cause.kind === "Timetable" ? time(planned.cause.due) : planned.cause };
};

interface Case {
  readonly because: string;
  readonly rotation: RotationSpec;
  readonly from: string;
  readonly last?: string;
  readonly now: string;
  readonly is: object;
}
const settled = (next: string) => ({ kind: "Settled", next });
const rotate = (due: string) => ({ kind: "Rotate", due });

describe("a period", () => {
  const every: RotationSpec = { every: "24h" };
  test.each<Case>([
    {
      because: "begins when it is asked for",
      rotation: every,
      from: "2026-03-01T12:00",
      now: "2026-03-02T11:59",
      is: settled("2026-03-02T12:00"),
    },
    {
      because: "is over to the millisecond",
      rotation: every,
      from: "2026-03-01T12:00",
      now: "2026-03-02T12:00",
      is: rotate("2026-03-02T12:00"),
    },
    {
      because: "begins anew with each rotation",
      rotation: every,
      from: "2026-03-01T12:00",
      last: "2026-03-02T18:00",
      now: "2026-03-03T12:00",
      is: settled("2026-03-03T18:00"),
    },
    {
      because: "that was missed many times is made up for",
      rotation: every,
      from: "2026-03-01T12:00",
      now: "2026-04-01T07:00",
      is: rotate("2026-03-02T12:00"),
    },
    {
      because: "that was missed many times is made up for once",
      rotation: every,
      from: "2026-03-01T12:00",
      last: "2026-04-01T07:00",
      now: "2026-04-01T07:00:01",
      is: settled("2026-04-02T07:00"),
    },
    {
      because: "a clock that is set back finds nothing due",
      rotation: every,
      from: "2026-03-01T12:00",
      last: "2026-03-02T12:00",
      now: "2026-03-02T11:00",
      is: settled("2026-03-03T12:00"),
    },
    {
      because: "is not changed by the clocks of a time zone",
      rotation: every,
      from: "2026-03-28T12:00",
      now: "2026-03-29T11:59",
      is: settled("2026-03-29T12:00"),
    },
  ])("$because", ({ rotation, from, last, now, is }) => {
    expect(shown(plan({ rotation, before: since(rotation, from, last), now: at(now) }))).toEqual(is);
  });

  test("is shortened by up to a tenth, and an hour at most, differently for each secret", () => {
    const next = (period: string, id: string) => {
      const rotation = { every: period };
      return time(
        (
          plan({ rotation, before: since(rotation, "2026-03-01T12:00"), now: at("2026-03-01T12:00"), id }) as {
            next: Date;
          }
        ).next,
      );
    };
    expect(next("24h", HALF)).toBe("2026-03-02T11:30");
    expect(next("1h", HALF)).toBe("2026-03-01T12:57");
    expect(next("720h", HALF)).toBe("2026-03-31T11:30");
  });

  test("of a thousand secrets ends in as many moments, also when it was made shorter for all at once", () => {
    const now = at("2026-03-10T12:00");
    for (const last of [undefined, "2026-01-01T00:00"]) {
      const seconds = Array.from({ length: 1_000 }, () => {
        const id = crypto.randomUUID();
        const planned = plan({
          rotation: { every: "24h" },
          before: since({ every: "24h" }, "2026-03-10T12:00", last),
          now,
          id,
        });
        if (planned.kind !== "Settled" || planned.next === undefined) throw new Error("expected a time to come");
        return Math.floor(planned.next.getTime() / 1_000);
      });
      const most = Math.max(...Object.values(Object.groupBy(seconds, String)).map((same) => same?.length ?? 0));
      expect(most).toBeLessThan(10);
      expect(Math.max(...seconds) - Math.min(...seconds)).toBeGreaterThan(3_000);
    }
  });
});

describe("a schedule", () => {
  const nightly: RotationSpec = { schedule: "0 3 * * *" };
  const berlin: RotationSpec = { schedule: "30 2 * * *", timeZone: "Europe/Berlin" };
  const monthly: RotationSpec = { schedule: "0 3 1 * *" };
  test.each<Case>([
    {
      because: "is in UTC",
      rotation: nightly,
      from: "2026-03-01T12:00",
      now: "2026-03-01T12:00",
      is: settled("2026-03-02T03:00"),
    },
    {
      because: "that is asked for at its time begins with the next",
      rotation: nightly,
      from: "2026-03-01T03:00",
      now: "2026-03-01T03:00",
      is: settled("2026-03-02T03:00"),
    },
    {
      because: "is due to the millisecond",
      rotation: nightly,
      from: "2026-03-01T12:00",
      now: "2026-03-02T03:00",
      is: rotate("2026-03-02T03:00"),
    },
    {
      because: "that was missed many times is made up for",
      rotation: nightly,
      from: "2026-03-01T12:00",
      now: "2026-03-20T12:00",
      is: rotate("2026-03-02T03:00"),
    },
    {
      because: "that was missed many times is made up for once",
      rotation: nightly,
      from: "2026-03-01T12:00",
      last: "2026-03-20T12:00",
      now: "2026-03-20T12:00:01",
      is: settled("2026-03-21T03:00"),
    },
    {
      because: "a clock that is set back finds nothing due",
      rotation: nightly,
      from: "2026-03-01T12:00",
      last: "2026-03-02T03:00:01",
      now: "2026-03-02T02:59:59",
      is: settled("2026-03-03T03:00"),
    },
    {
      because: "of months goes by the calendar",
      rotation: monthly,
      from: "2026-01-15T12:00",
      last: "2026-02-01T03:00",
      now: "2026-02-02T00:00",
      is: settled("2026-03-01T03:00"),
    },
    {
      because: "goes by the clocks of its time zone",
      rotation: berlin,
      from: "2026-03-27T12:00",
      now: "2026-03-27T12:00",
      is: settled("2026-03-28T01:30"),
    },
    {
      because: "at a time that the clocks skip is due when they did",
      rotation: berlin,
      from: "2026-03-28T12:00",
      now: "2026-03-28T12:00",
      is: settled("2026-03-29T01:00"),
    },
    {
      because: "at a time that the clocks show twice is due the first time",
      rotation: berlin,
      from: "2026-10-24T12:00",
      now: "2026-10-24T12:00",
      is: settled("2026-10-25T00:30"),
    },
    {
      because: "at a time that the clocks show twice is due once",
      rotation: berlin,
      from: "2026-10-24T12:00",
      last: "2026-10-25T00:30",
      now: "2026-10-25T01:30",
      is: settled("2026-10-26T01:30"),
    },
  ])("$because", ({ rotation, from, last, now, is }) => {
    expect(shown(plan({ rotation, before: since(rotation, from, last), now: at(now) }))).toEqual(is);
  });

  test.each<[RotationSpec, RegExp]>([
    [{ schedule: "0 3 31 2 *" }, /^spec\.rotation\.schedule: 0 3 31 2 \* is never due$/],
    [{ schedule: "0 25 * * *" }, /^spec\.rotation\.schedule: 0 25 \* \* \* is not what cron understands/],
    [{ schedule: "0 3 * * *", timeZone: "Mars/Olympus" }, /^spec\.rotation\.timeZone: Mars\/Olympus is no time zone/],
    [{ every: "24h", timeZone: "Mars/Olympus", windows: [{ from: "03:00", to: "04:00" }] }, /spec\.rotation\.timeZone/],
  ])("%j is refused, whether or not it was so before", (rotation, says) => {
    const now = at("2026-03-01T12:00");
    for (const before of [{}, { before: since(rotation, "2026-02-01T12:00") }]) {
      expect(() => plan({ rotation, now, ...before })).toThrow(
        expect.objectContaining({ code: "RotationInvalid", message: expect.stringMatching(says) }),
      );
    }
  });
});

describe("a window", () => {
  const inWindow = (window: NonNullable<RotationSpec["windows"]>[number], timeZone?: string): RotationSpec => ({
    schedule: "0 12 * * *",
    windows: [window],
    ...(timeZone !== undefined && { timeZone }),
  });
  const night = inWindow({ from: "22:00", to: "04:00" });
  // 2026-03-06 is a Friday.
  const fridays = inWindow({ days: ["Friday"], from: "22:00", to: "04:00" });
  const two: RotationSpec = {
    schedule: "0 12 * * *",
    windows: [
      { days: ["Sunday"], from: "01:00", to: "02:00" },
      { days: ["Wednesday"], from: "05:00", to: "06:00" },
    ],
  };
  test.each<Case>([
    {
      because: "is told before it opens",
      rotation: night,
      from: "2026-03-01T06:00",
      now: "2026-03-01T06:00",
      is: settled("2026-03-01T22:00"),
    },
    {
      because: "is waited for",
      rotation: night,
      from: "2026-03-01T06:00",
      now: "2026-03-01T21:59",
      is: settled("2026-03-01T22:00"),
    },
    {
      because: "lets through what is due when it opens",
      rotation: night,
      from: "2026-03-01T06:00",
      now: "2026-03-01T22:00",
      is: rotate("2026-03-01T12:00"),
    },
    {
      because: "goes on after midnight",
      rotation: night,
      from: "2026-03-01T06:00",
      now: "2026-03-02T03:59",
      is: rotate("2026-03-01T12:00"),
    },
    {
      because: "closes in the moment that it names",
      rotation: night,
      from: "2026-03-01T06:00",
      now: "2026-03-02T04:00",
      is: settled("2026-03-02T22:00"),
    },
    {
      because: "that was slept through is followed by the next",
      rotation: night,
      from: "2026-03-01T06:00",
      now: "2026-03-09T12:00",
      is: settled("2026-03-09T22:00"),
    },
    {
      because: "that is open lets nothing through that is not due",
      rotation: night,
      from: "2026-03-01T06:00",
      last: "2026-03-01T22:00",
      now: "2026-03-01T23:00",
      is: settled("2026-03-02T22:00"),
    },
    {
      because: "belongs to the day on which it opens",
      rotation: fridays,
      from: "2026-03-05T06:00",
      now: "2026-03-06T03:00",
      is: settled("2026-03-06T22:00"),
    },
    {
      because: "of a day is open on the next morning",
      rotation: fridays,
      from: "2026-03-05T06:00",
      now: "2026-03-07T03:00",
      is: rotate("2026-03-05T12:00"),
    },
    {
      because: "of a day comes again in a week",
      rotation: fridays,
      from: "2026-03-05T06:00",
      now: "2026-03-07T04:00",
      is: settled("2026-03-13T22:00"),
    },
    {
      because: "may be the nearest of several",
      rotation: two,
      from: "2026-03-02T06:00",
      now: "2026-03-02T13:00",
      is: settled("2026-03-04T05:00"),
    },
    {
      because: "from and to the same time is a whole day",
      rotation: inWindow({ days: ["Friday"], from: "00:00", to: "00:00" }),
      from: "2026-03-05T06:00",
      now: "2026-03-06T23:59",
      is: rotate("2026-03-05T12:00"),
    },
    {
      because: "goes by the clocks of its time zone",
      rotation: inWindow({ from: "22:00", to: "23:00" }, "Europe/Berlin"),
      from: "2026-03-01T06:00",
      now: "2026-03-01T13:00",
      is: settled("2026-03-01T21:00"),
    },
    {
      because: "that the clocks skip is there on the next such day",
      rotation: inWindow({ days: ["Sunday"], from: "02:00", to: "03:00" }, "Europe/Berlin"),
      from: "2026-03-23T06:00",
      now: "2026-03-28T12:00",
      is: settled("2026-04-05T00:00"),
    },
  ])("$because", ({ rotation, from, last, now, is }) => {
    expect(shown(plan({ rotation, before: since(rotation, from, last), now: at(now) }))).toEqual(is);
  });
});

describe("a request", () => {
  const now = at("2026-03-01T12:00");
  const handled = (request: string): RotationRecord => ({ since: at("2026-02-01T00:00"), request, held: [] });

  test("is met at once, without a timetable, and outside of windows", () => {
    const windows = [{ from: "22:00", to: "23:00" }];
    for (const rotation of [{}, { rotation: { every: "720h", windows } }, { rotation: { schedule: "0 25 * * *" } }]) {
      expect(plan({ ...rotation, request: "one", now })).toEqual({
        kind: "Rotate",
        keys: ["password", "salt"],
        cause: { kind: "Request", token: "one" },
      });
    }
  });

  test("is met once, and another one again", () => {
    expect(plan({ request: "one", before: handled("one"), now })).toEqual({ kind: "Settled" });
    expect(plan({ before: handled("one"), now })).toEqual({ kind: "Settled" });
    expect(plan({ request: "two", before: handled("one"), now }).kind).toBe("Rotate");
  });

  test("covers what is due in the same moment", () => {
    const rotation: RotationSpec = { schedule: "0 12 * * *" };
    const before = since(rotation, "2026-02-28T13:00");
    expect(plan({ rotation, request: "one", before, now })).toMatchObject({ cause: { kind: "Request" } });
    expect(shown(plan({ rotation, request: "one", before: { ...before, at: now, request: "one" }, now }))).toEqual(
      settled("2026-03-02T12:00"),
    );
  });

  test("of values that are just being made is met by them", () => {
    expect(firstRotation({}, "one", now)).toEqual({ since: now, request: "one", held: [] });
    expect(firstRotation({}, undefined, now)).toBeUndefined();
  });
});

describe("what is rotated", () => {
  const now = at("2026-03-01T12:00");
  const record = (...keys: string[]) => ({ entries: keys.map((key) => ({ key, recipe: "", fingerprint: "" })) });

  test("is what is generated, or what of it is named, as far as it has a value", () => {
    const all = record("user", "password", "salt");
    expect(rotatableKeys({ entries: [...entries] }, all)).toEqual(["password", "salt"]);
    expect(rotatableKeys({ entries: [...entries], rotation: { every: "1h", keys: ["salt"] } }, all)).toEqual(["salt"]);
    expect(rotatableKeys({ entries: [...entries] }, record("salt"))).toEqual(["salt"]);
  });

  test("may be nothing: then it settles, also when it is due or asked for", () => {
    const rotation: RotationSpec = { every: "1h" };
    const before = since(rotation, "2026-02-01T00:00");
    expect(plan({ rotation, before, request: "one", now, stored: ["user"] }).kind).toBe("Settled");
  });
});

describe("a changed timetable", () => {
  const now = at("2026-03-15T12:00");
  const monthly: RotationSpec = { schedule: "0 3 1 * *" };
  const nightly: RotationSpec = { schedule: "0 3 * * *" };

  test("is recorded, and counts from now: editing rotates nothing", () => {
    const before = since(monthly, "2026-01-01T00:00", "2026-03-01T03:00");
    const planned = plan({ rotation: nightly, before, now });
    expect(planned).toMatchObject({ kind: "Change", next: at("2026-03-16T03:00") });
    if (planned.kind !== "Change") throw new Error("expected a change");
    expect(planned.rotation).toEqual({ ...before, timetable: "0 3 * * * UTC", since: now });
    expect(shown(plan({ rotation: nightly, before: planned.rotation, now }))).toEqual(settled("2026-03-16T03:00"));
  });

  test("of a secret that had none counts from now, however old its values are", () => {
    const planned = plan({ rotation: { every: "24h" }, now });
    expect(planned).toEqual({
      kind: "Change",
      rotation: { timetable: "every 24h", since: now, held: [] },
      next: at("2026-03-16T12:00"),
    });
  });

  test("that is taken away leaves what was done", () => {
    const before = { ...since(nightly, "2026-03-01T00:00", "2026-03-15T03:00"), request: "one" };
    const { timetable: _, ...others } = before;
    expect(plan({ before, now })).toEqual({ kind: "Change", rotation: { ...others, since: now } });
    expect(plan({ before: others, now })).toEqual({ kind: "Settled" });
  });

  test("written otherwise is not needed for other windows and keys", () => {
    const before = since(nightly, "2026-03-14T12:00", "2026-03-15T03:00");
    const rotation: RotationSpec = { ...nightly, keys: ["salt"], windows: [{ from: "05:00", to: "06:00" }] };
    expect(shown(plan({ rotation, before, now }))).toEqual(settled("2026-03-16T05:00"));
  });

  test("is what a time far ahead is taken for: it was told by a clock that was wrong", () => {
    const before = since(nightly, "2026-03-01T00:00", "2027-03-15T03:00:01");
    const planned = plan({ rotation: nightly, before, now });
    expect(planned).toMatchObject({ kind: "Change", rotation: { since: now, at: now }, next: at("2026-03-16T03:00") });
  });
});
