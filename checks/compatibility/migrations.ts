/**
 * Migrations that run while replicas of the last release serve: what was released is not touched any more, and what is new blocks
 * nobody for long and takes nothing away, as squawk tells it.
 */
import { createHash } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { z } from "zod";
import { runsOutsideOfTransaction } from "../../adapters/postgres/migrate.ts";
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

/** Databases have run them: they would not be changed by another text. */
export function changedMigrations(
  released: Readonly<Record<string, string>>,
  now: Readonly<Record<string, string>>,
): readonly Break[] {
  const fix = "put it back, and write a new migration";
  return Object.entries(released).flatMap(([path, digest]) => {
    if (now[path] === digest) return [];
    return [{ path, change: now[path] === undefined ? "was removed" : "is not what was released", fix }];
  });
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
      ];
    }),
  );
  return problems.flat();
}

/** Lines of statements that change rows themselves, and not in a function; which squawk does not ask about. */
function changesRows(sql: string): readonly number[] {
  const blank = (text: string): string => text.replace(/[^\n]/g, " ");
  const outside = sql.replace(/\$\$.*?\$\$/gs, blank).replace(/--.*$/gm, blank);
  return outside.split("\n").flatMap((text, index) => (/^\s*(UPDATE|DELETE)\b/i.test(text) ? [index + 1] : []));
}
