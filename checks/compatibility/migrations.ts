/**
 * Migrations that run while replicas of the last release serve: what was released is not touched any more, and what is new blocks
 * nobody for long and takes nothing away, as squawk tells it.
 */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { z } from "zod";
import { runsOutsideOfTransaction, statementsOf } from "../../adapters/postgres/migrate.ts";
import { run } from "../run.ts";
import type { Break } from "./break.ts";

/**
 * - Timeouts are set by `adapters/postgres/migrate.ts`.
 * - What is small stays small: versions, counts.
 * - Each runs once, in a transaction.
 */
const NOT_ASKED = [
  "require-lock-timeout",
  "require-statement-timeout",
  "prefer-bigint-over-int",
  "prefer-robust-stmts",
];
/** The oldest that is supported. */
const POSTGRES = "15.0";

/** SHA-256 of each migration, hex, by its name. */
export function digests(directory: string): Readonly<Record<string, string>> {
  const files = readdirSync(directory).filter((file) => file.endsWith(".sql"));
  return Object.fromEntries(
    files.toSorted().map((file) => {
      const content = readFileSync(path.join(directory, file));
      return [path.basename(file, ".sql"), createHash("sha256").update(content).digest("hex")];
    }),
  );
}

/** Databases have run them: they would not be changed by another text, nor by one that sorts before what they have. */
export function changedMigrations(
  released: Readonly<Record<string, string>>,
  now: Readonly<Record<string, string>>,
): readonly Break[] {
  const fix = "put it back, and write a new migration";
  const last = Object.keys(released).at(-1) ?? "";
  return [
    ...Object.entries(released).flatMap(([path, digest]) => {
      if (now[path] === digest) return [];
      return [{ path, change: now[path] === undefined ? "was removed" : "is not what was released", fix }];
    }),
    ...Object.keys(now)
      .filter((path) => !(path in released) && path < last)
      .map((path) => ({
        path,
        change: `comes before ${last}, so no database of the last release can run it`,
        fix: "give it a higher number",
      })),
  ];
}

const report = z.array(
  z.object({
    file: z.string(),
    line: z.number(),
    rule_name: z.string(),
    message: z.string(),
    help: z.string().nullish(),
  }),
);

/** @param program squawk */
export async function blocking(
  program: string,
  directory: string,
  names: readonly string[],
): Promise<readonly string[]> {
  const problems = await Promise.all(
    names.map(async (name) => {
      const file = path.join(directory, `${name}.sql`);
      const sql = readFileSync(file, "utf8");
      const wrapped = runsOutsideOfTransaction(sql) ? "--no-assume-in-transaction" : "--assume-in-transaction";
      const rules = NOT_ASKED.flatMap((rule) => ["--exclude", rule]);
      const { stdout, output } = await run(program, [
        "--reporter",
        "json",
        "--pg-version",
        POSTGRES,
        wrapped,
        ...rules,
        file,
      ]);
      const { data, error } = report.safeParse(JSON.parse(stdout || "[]"));
      if (error) throw new Error(`squawk: ${output}`);
      return [
        ...data.map(
          ({ line, rule_name, message, help }) =>
            `${name}:${line + 1}: ${[message, help].filter(Boolean).join(" ")} (${rule_name})`,
        ),
        ...changesRows(sql).map(
          (line) =>
            `${name}:${line}: it changes rows of a table that may have any number of them, while others wait for each: have a chore do it, some at a time`,
        ),
        ...(runsOutsideOfTransaction(sql) ? unrepeatable(sql).map((problem) => `${name}: ${problem}`) : []),
      ];
    }),
  );
  return problems.flat();
}

/** Where it has the same lines. */
const blank = (text: string): string => text.replace(/[^\n]/g, " ");

const QUOTED = /\$(\w*)\$.*?\$\1\$|'(?:[^']|'')*'|--[^\n]*/gs;
const RUN_AT_ONCE = /\bDO\s+(LANGUAGE\s+\w+\s+)?$/i;

/** Without comments, strings and bodies of functions; what a DO block has stays. */
const unquoted = (sql: string): string =>
  sql.replace(QUOTED, (text, tag: string | undefined, at: number) => {
    if (!RUN_AT_ONCE.test(sql.slice(0, at))) return blank(text);
    const mark = tag === undefined ? 1 : tag.length + 2;
    return " ".repeat(mark) + unquoted(text.slice(mark, -mark)) + " ".repeat(mark);
  });

/** Table `compatibility` has one row. */
const CHANGES_ROWS = [
  /\bUPDATE\s+(?!compatibility\b)(ONLY\s+)?[^\s;]+\s+(?:(?:AS\s+)?\w+\s+)?SET\b/gi,
  /\bDELETE\s+FROM\b/gi,
  /\bMERGE\s+INTO\b/gi,
  /\bINSERT\s+INTO\s+[^\s(;]+\s*(\([^()]*\)\s*)?(SELECT|WITH|TABLE)\b/gi,
];

/** Lines of statements that change rows themselves, and not in a function; which squawk does not ask about. */
function changesRows(sql: string): readonly number[] {
  const text = unquoted(sql);
  const found = CHANGES_ROWS.flatMap((pattern) => [...text.matchAll(pattern)].map(({ index }) => index));
  return found.toSorted((a, b) => a - b).map((index) => text.slice(0, index).split("\n").length);
}

/**
 * Nothing takes back what a migration outside of a transaction did before it was cut off, and nothing but its turn limits how long it
 * waits for a lock. So there may be only what holds up nobody meanwhile, and comes to the same when it is run again.
 */
function unrepeatable(sql: string): readonly string[] {
  const dropped = new Set<string>();
  return statementsOf(sql).flatMap((text) => {
    const statement = unquoted(text).trim().replace(/\s+/g, " ");
    if (statement === "") return [];
    const [, drops] = /^DROP INDEX CONCURRENTLY IF EXISTS ([\w."]+);$/i.exec(statement) ?? [];
    if (drops !== undefined) {
      dropped.add(drops);
      return [];
    }
    if (/^ALTER TABLE (ONLY )?[\w."]+ VALIDATE CONSTRAINT [\w"]+;$/i.test(statement)) return [];
    const [, makes] = /^CREATE (?:UNIQUE )?INDEX CONCURRENTLY ([\w"]+) ON [^;]+;$/i.exec(statement) ?? [];
    if (makes === undefined)
      return [
        `outside of a transaction there may be DROP INDEX CONCURRENTLY IF EXISTS, CREATE INDEX CONCURRENTLY with a name, and VALIDATE CONSTRAINT, each with its semicolon at the end of a line; not: ${statement}`,
      ];
    if (dropped.has(makes)) return [];
    return [
      `CREATE INDEX CONCURRENTLY ${makes} leaves an index that is not valid when it is cut off: put DROP INDEX CONCURRENTLY IF EXISTS ${makes} before it`,
    ];
  });
}
