/** The search for values where they must not be: the forms that they could have, and what PostgreSQL has in its files. */
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { withClient } from "../lab/postgres/database.ts";
import type { World } from "./harness.ts";

/** Forms in which a value could have slipped out: as it is, in another encoding, or somewhere inside of a larger one. */
function forms(value: Buffer): readonly Buffer[] {
  const text = value.toString("utf8");
  const aligned = [0, 1, 2].map((offset) => {
    // The characters that hold bits of this value only, whatever stands before and after it.
    const first = Math.ceil((offset * 8) / 6);
    const end = Math.floor(((offset + value.length) * 8) / 6);
    return Buffer.concat([Buffer.alloc(offset), value])
      .toString("base64")
      .slice(first, end);
  });
  const url = (base64: string): string => base64.replaceAll("+", "-").replaceAll("/", "_");
  const texts = [
    ...aligned,
    ...aligned.map(url),
    value.toString("hex"),
    value.toString("hex").toUpperCase(),
    ...(Buffer.from(text, "utf8").equals(value)
      ? [
          encodeURIComponent(text),
          new URLSearchParams({ v: text }).toString().slice(2),
          JSON.stringify(text).slice(1, -1),
        ]
      : []),
  ];
  return [value, ...[...new Set(texts)].map((each) => Buffer.from(each, "utf8"))];
}

export type Surface = readonly [name: string, content: Buffer];

/** `surface: canary`, for each canary that shows in it. */
export function found(where: Iterable<Surface>, of: ReadonlyMap<string, Buffer>): readonly string[] {
  const patterns = [...of].map(([what, value]) => ({ what, forms: forms(value) }));
  const leaks: string[] = [];
  for (const [name, content] of where) {
    for (const pattern of patterns) {
      if (pattern.forms.some((form) => content.includes(form))) leaks.push(`${name}: ${pattern.what}`);
    }
  }
  return leaks;
}

/** All strings within, one a line. */
export function plain(value: unknown): string {
  if (typeof value !== "object" || value === null) return String(value);
  return Object.entries(value)
    .map(([name, inner]) => `${name}\n${plain(inner)}`)
    .join("\n");
}

/** Every table of the database, with `bytea` as PostgreSQL prints it (hex) and as it is. */
export async function tables(world: World): Promise<readonly Surface[]> {
  const names = await world.sql<{ schema: string; name: string }>(
    "SELECT schemaname AS schema, tablename AS name FROM pg_tables WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
  );
  const dumped: Surface[] = [];
  for (const { schema, name } of names) {
    const rows = await world.sql(`SELECT t.*, t::text AS "whole row" FROM "${schema}"."${name}" t`);
    const cells = rows
      .flatMap((row) => Object.values(row))
      .map((cell) => (Buffer.isBuffer(cell) ? cell : Buffer.from(plain(cell))));
    dumped.push([`table ${name}`, Buffer.concat(cells.flatMap((cell) => [cell, Buffer.from("\n")]))]);
  }
  return dumped;
}

/** The data directory as PostgreSQL keeps it: heap, indexes, write-ahead log. */
export async function files(world: World): Promise<readonly Surface[]> {
  await withClient(world.lab.postgres.superuser, (client) => client.query("CHECKPOINT"));
  const { dataDir } = world.lab.postgres;
  return readdirSync(dataDir, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath, entry.name))
    .map((file) => [`file ${path.relative(dataDir, file)}`, readFileSync(file)]);
}
