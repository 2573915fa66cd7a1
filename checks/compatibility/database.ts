/**
 * What a new schema of the database takes away from programs of the last release, which go on beside those that have migrated: their
 * statements must mean what they meant, and find what they found. Bodies of functions are not compared: the test of the upgrade
 * runs them.
 */
import type { ClientBase } from "pg";
import { type Break, WIDEN } from "./break.ts";

export interface Catalog {
  /** See `core/schema-state.ts`. */
  readonly least: string;
  readonly tables: Readonly<Record<string, Table>>;
  /** By name and types of the parameters. */
  readonly functions: Readonly<Record<string, Routine>>;
  readonly sequences: readonly string[];
}

interface Table {
  readonly columns: Readonly<Record<string, Column>>;
  /** What PostgreSQL says of constraints, unique indexes and triggers, by name. */
  readonly rules: Readonly<Record<string, string>>;
}

interface Column {
  readonly type: string;
  readonly nullable: boolean;
  /** The expression; also of a generated one, and `identity`. */
  readonly default?: string;
}

interface Routine {
  readonly returns: string;
  /** How many arguments it can be called with. */
  readonly least: number;
  readonly most: number;
}

const COLUMNS = `
  SELECT c.relname AS "table", a.attname AS "column", format_type(a.atttypid, a.atttypmod) AS type, NOT a.attnotnull AS nullable,
         CASE WHEN a.attidentity <> '' THEN 'identity' ELSE pg_get_expr(d.adbin, d.adrelid) END AS "default"
  FROM pg_class c
  JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
  WHERE c.relnamespace = 'mazevault'::regnamespace AND c.relkind IN ('r', 'v', 'p')
  ORDER BY 1, a.attname`;

/** Without what PostgreSQL keeps for itself: triggers of foreign keys, indexes of constraints, NOT NULL as a constraint. */
const RULES = `
  SELECT r.rel::regclass::text AS "table", r.name, r.rule FROM (
    SELECT conrelid AS rel, conname AS name, pg_get_constraintdef(oid) AS rule FROM pg_constraint
    WHERE connamespace = 'mazevault'::regnamespace AND contype IN ('c', 'f', 'p', 'u', 'x') AND conrelid <> 0
    UNION ALL
    SELECT i.indrelid, c.relname, pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
    WHERE c.relnamespace = 'mazevault'::regnamespace AND i.indisunique
      AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = i.indexrelid)
    UNION ALL
    SELECT tgrelid, tgname, pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal
  ) AS r ORDER BY 1, 2`;

const FUNCTIONS = `
  SELECT proname || '(' || oidvectortypes(proargtypes) || ')' AS name, pg_get_function_result(oid) AS returns,
         pronargs - pronargdefaults AS least, pronargs AS most
  FROM pg_proc WHERE pronamespace = 'mazevault'::regnamespace AND prokind = 'f' AND prorettype <> 'trigger'::regtype ORDER BY 1`;

const SEQUENCES = "SELECT sequencename AS name FROM pg_sequences WHERE schemaname = 'mazevault' ORDER BY 1";

/** Of a database that is migrated, over a connection whose search path is its schema. */
export async function readCatalog(client: ClientBase): Promise<Catalog> {
  const tables: Record<string, { columns: Record<string, Column>; rules: Record<string, string> }> = {};
  const table = (name: string) => (tables[name] ??= { columns: {}, rules: {} });
  type ColumnRow = { table: string; column: string; type: string; nullable: boolean; default: string | null };
  for (const row of (await client.query<ColumnRow>(COLUMNS)).rows) {
    const { type, nullable, default: expression } = row;
    table(row.table).columns[row.column] = { type, nullable, ...(expression !== null && { default: expression }) };
  }
  for (const row of (await client.query<{ table: string; name: string; rule: string }>(RULES)).rows)
    table(row.table).rules[row.name] = row.rule;
  const functions = (await client.query<Routine & { name: string }>(FUNCTIONS)).rows;
  const sequences = (await client.query<{ name: string }>(SEQUENCES)).rows;
  const [compatibility] = (await client.query<{ least: string }>("SELECT least_migration AS least FROM compatibility"))
    .rows;
  return {
    least: compatibility?.least ?? "",
    tables,
    functions: Object.fromEntries(functions.map(({ name, ...routine }) => [name, routine])),
    sequences: sequences.map(({ name }) => name),
  };
}

const EXPAND = "leave it, and take it away when no release that uses it is left";

export function brokenByCatalog(released: Catalog, now: Catalog): readonly Break[] {
  return [
    ...Object.entries(released.tables).flatMap(([name, table]) => tableBreaks(name, table, now.tables[name])),
    ...Object.entries(released.functions).flatMap(([name, routine]) =>
      routineBreaks(name, routine, now.functions[name]),
    ),
    ...ambiguous(released.functions, now.functions),
    ...released.sequences
      .filter((name) => !now.sequences.includes(name))
      .map((path) => ({ path, change: "was removed", fix: EXPAND })),
  ];
}

/**
 * What is wrong with the migration that the database has programs know at least. Of the last release each must be one, or that one could
 * not go on; and where something of it is gone, those of before it must be kept away, which may use what is gone.
 *
 * @param released names of the migrations of the last release, in their order
 */
export function wrongLeast(least: string, released: readonly string[], takesAway: boolean): readonly string[] {
  const last = released.at(-1) ?? "";
  if (!released.includes(least))
    return [
      `compatibility.least_migration is ${least}, which the last release does not have: no replica of it could go on; set it to ${last}`,
    ];
  if (takesAway && least !== last)
    return [
      `compatibility.least_migration is ${least}, where something is taken away: set it to ${last}, the last migration of the last release`,
    ];
  return [];
}

function tableBreaks(path: string, before: Table, now: Table | undefined): readonly Break[] {
  if (now === undefined) return [{ path, change: "was removed", fix: EXPAND }];
  const columns = Object.entries(before.columns).flatMap(([name, column]) =>
    columnBreaks(`${path}.${name}`, column, now.columns[name]),
  );
  const required = Object.entries(now.columns)
    .filter(([name, column]) => !(name in before.columns) && !column.nullable && column.default === undefined)
    .map(([name]) => ({
      path: `${path}.${name}`,
      change: "must be given by who inserts a row",
      fix: "let it be null, or give it a default: the last release does not know it",
    }));
  const names = new Set([...Object.keys(before.rules), ...Object.keys(now.rules)]);
  const rules = [...names].flatMap((name) => {
    const [old, rule] = [before.rules[name], now.rules[name]];
    if (old === rule) return [];
    // What a trigger does is for both releases to live with: it is how one keeps up what the other one does not know.
    if (old === undefined && rule?.startsWith("CREATE TRIGGER")) return [];
    const change =
      rule === undefined
        ? `has no longer: ${old}`
        : old === undefined
          ? `has a new rule: ${rule}`
          : `has another rule ${name}: ${rule}`;
    return [{ path, change, fix: rule === undefined ? EXPAND : WIDEN }];
  });
  return [...columns, ...required, ...rules];
}

function columnBreaks(path: string, before: Column, now: Column | undefined): readonly Break[] {
  if (now === undefined) return [{ path, change: "was removed", fix: EXPAND }];
  const found: (readonly [change: string, fix: string])[] = [];
  if (before.type !== now.type)
    found.push([`was ${before.type}, is ${now.type}`, "put a column of the new type beside it"]);
  if (before.nullable && !now.nullable) found.push(["may not be null any more", WIDEN]);
  if (!before.nullable && now.nullable)
    found.push([
      "may be null now, which the last release does not expect",
      "let it hold something that the last release understands",
    ]);
  if (before.default !== now.default) {
    const said = (expression: string | undefined): string => expression ?? "none";
    found.push([
      `default was ${said(before.default)}, is ${said(now.default)}`,
      "keep it: the last release relies on it",
    ]);
  }
  return found.map(([change, fix]) => ({ path, change, fix }));
}

function routineBreaks(path: string, before: Routine, now: Routine | undefined): readonly Break[] {
  if (now === undefined)
    return [{ path, change: "was removed", fix: "leave it, and put one of another name beside it" }];
  const changes: string[] = [];
  if (before.returns !== now.returns) changes.push(`returned ${before.returns}, returns ${now.returns}`);
  if (now.least > before.least) changes.push(`needs ${now.least} arguments, needed ${before.least}`);
  return changes.map((change) => ({ path, change, fix: "put one of another name beside it" }));
}

/** Calls do not tell the types of their arguments, so two that take as many cannot be told apart. */
function ambiguous(before: Catalog["functions"], now: Catalog["functions"]): readonly Break[] {
  const named = (signature: string): string => signature.slice(0, signature.indexOf("("));
  return Object.entries(now)
    .filter(([signature]) => !(signature in before))
    .flatMap(([signature, added]) =>
      Object.entries(before)
        .filter(
          ([other, old]) => named(other) === named(signature) && old.least <= added.most && added.least <= old.most,
        )
        .map(([other]) => ({
          path: other,
          change: `cannot be told from ${signature} by who calls it`,
          fix: "give the new one another name",
        })),
    );
}
