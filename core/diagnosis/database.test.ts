import { MOST_USES } from "../vault/wrapping-key.ts";
import { type DatabaseFacts, judgeDatabase, judgeNoDatabase, type KeyFacts, type RecordFacts } from "./database.ts";

const now = new Date("2027-01-01T00:00:00Z");
const well: RecordFacts = {
  epoch: 1n,
  keys: [],
  unlinked: { rows: 3, oldestMs: 900 },
  checkpoint: { rowsSince: 10, ageMs: 50_000 },
  sinks: [{ name: "siem", rows: 5, movedMs: 1_000 }],
  outbox: [{ consumer: "syncrules", rows: 2, movedMs: 500 }],
  responders: { waiting: 1, oldestMs: 5_000 },
  loginsBlocked: 0,
};
const facts = (record: Partial<RecordFacts>, rest: Partial<DatabaseFacts> = {}): DatabaseFacts => ({
  clock: { asked: now, answered: now, theirs: now },
  readOnly: false,
  connections: { open: 20, most: 100 },
  migrations: { applied: ["0001_a"], known: ["0001_a"], least: "0001_a" },
  record: { ...well, ...record },
  ...rest,
});
const key = (uses: bigint, version = 1): KeyFacts => ({
  purpose: "Project",
  scope: "shop",
  version,
  uses,
  wrappedBy: "k",
});
const found = (given: DatabaseFacts) =>
  judgeDatabase(given, { checkpointMs: 60_000, home: "vault" }).map(({ check, status }) => `${status} ${check}`);

test("work that is under way is no finding", () => expect(found(facts({}))).toEqual([]));

test.each<[string, DatabaseFacts, string[]]>([
  [
    "a clock",
    facts({}, { clock: { asked: now, answered: now, theirs: new Date(now.getTime() + 61_000) } }),
    ["failing database.clock"],
  ],
  [
    "a clock that seems off only because it took so long to answer",
    facts(
      {},
      { clock: { asked: now, answered: new Date(now.getTime() + 90_000), theirs: new Date(now.getTime() + 80_000) } },
    ),
    [],
  ],
  ["a standby", facts({}, { readOnly: true }), ["failing database"]],
  ["connections", facts({}, { connections: { open: 85, most: 100 } }), ["warning database.connections"]],
  [
    "migrations",
    facts({}, { migrations: { applied: ["0001_a", "0003_c"], known: ["0001_a", "0002_b"], least: "0001_a" } }),
    ["failing database.migrations", "failing database.migrations"],
  ],
  [
    "migrations of a newer version that this one can work with",
    facts({}, { migrations: { applied: ["0001_a", "0002_b"], known: ["0001_a"], least: "0001_a" } }),
    ["warning database.migrations"],
  ],
  [
    "migrations of a newer version that takes something away",
    facts({}, { migrations: { applied: ["0001_a", "0002_b"], known: ["0001_a"], least: "0002_b" } }),
    ["failing database.migrations"],
  ],
  [
    "migrations of a newer version that did not say whether it takes something away",
    facts({}, { migrations: { applied: ["0001_a", "0002_b"], known: ["0001_a"], least: undefined } }),
    ["failing database.migrations"],
  ],
  ["a key near its bound", facts({ keys: [key((MOST_USES * 9n) / 10n)] }), ["warning keys.uses"]],
  ["a key at its bound", facts({ keys: [key(MOST_USES)] }), ["failing keys.uses"]],
  ["a key that has a successor", facts({ keys: [key(MOST_USES), key(0n, 2)] }), []],
  ["rows that nobody links", facts({ unlinked: { rows: 1, oldestMs: 11_000 } }), ["failing audit.linking"]],
  ["rows that nobody signs", facts({ checkpoint: { rowsSince: 1, ageMs: 181_000 } }), ["failing audit.checkpoints"]],
  [
    "a sink that takes nothing",
    facts({ sinks: [{ name: "siem", rows: 1, movedMs: 121_000 }] }),
    ["failing audit.sinks"],
  ],
  ["a sink that has everything", facts({ sinks: [{ name: "siem", rows: 0, movedMs: 9_000_000 }] }), []],
  ["an outbox", facts({ outbox: [{ consumer: "syncrules", rows: 1, movedMs: 31_000 }] }), ["failing outbox"]],
  ["responders that wait", facts({ responders: { waiting: 1, oldestMs: 61_000 } }), ["failing ocsp.certificates"]],
  ["people who wait", facts({ loginsBlocked: 2 }), ["warning logins"]],
])("%s", (_what, given, expected) => expect(found(given)).toEqual(expected));

test("who holds the outbox back is named", () => {
  const outbox = [{ consumer: "syncrules", rows: 1, movedMs: 31_000 }];
  const [finding] = judgeDatabase(facts({ outbox, blocking: { pid: 42 } }), { checkpointMs: 60_000, home: "vault" });
  expect(finding?.fix).toContain("pg_terminate_backend(42)");
});

test("a code that nobody knows is named, and looked after like silence", () => {
  const place = { host: "pg", port: 5432, database: "d", user: "u", passwordFile: "/p" };
  expect(judgeNoDatabase("XX000", place).problem).toBe("PostgreSQL at pg:5432 does not answer (XX000)");
  expect(judgeNoDatabase(undefined, place).problem).toBe("PostgreSQL at pg:5432 does not answer");
});
