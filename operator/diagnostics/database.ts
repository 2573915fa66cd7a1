/** PostgreSQL, and the keys by which what stands in it is sealed. */
import type { DatabaseOptions } from "../../adapters/postgres/database.ts";
import { readDatabaseFacts } from "../../adapters/postgres/diagnosis.ts";
import {
  DATABASE,
  type DatabaseExpectations,
  type DatabaseFacts,
  judgeDatabase,
} from "../../core/diagnosis/database.ts";
import { type Check, type Finding, failing } from "../../core/diagnosis/finding.ts";
import { SafeError } from "../../core/errors.ts";
import type { RootKey } from "../../core/ports/key-store.ts";
import { ConfigError } from "../../program/settings.ts";

export interface DatabaseParts extends DatabaseExpectations {
  readonly options: DatabaseOptions;
  /** The root key as a start would find it now. */
  readonly rootKey: () => Promise<RootKey>;
  readonly rootKeyPlace: RootKeyPlace;
}

/** Where the settings have the root key from. */
interface RootKeyPlace {
  readonly setting: string;
  readonly where: string;
  /** How it is to be put there. */
  readonly rights: string;
}

export function databaseChecks({ options, rootKey, rootKeyPlace, ...expected }: DatabaseParts): readonly Check[] {
  const facts = readDatabaseFacts(options);
  return [
    {
      name: DATABASE,
      otherwise: `look whether it runs: pg_isready -h ${options.host} -p ${options.port}, then its log`,
      examine: async () => {
        const known = await facts;
        return "check" in known ? [known] : judgeDatabase(known, expected);
      },
    },
    {
      name: "keys.root",
      otherwise: `look at ${rootKeyPlace.setting}: ${rootKeyPlace.where}`,
      examine: async () => judgeRootKey(await opened(rootKey), await facts, rootKeyPlace),
    },
  ];
}

async function opened(rootKey: () => Promise<RootKey>): Promise<RootKey | string> {
  try {
    return await rootKey();
  } catch (error) {
    return error instanceof SafeError || error instanceof ConfigError
      ? error.message
      : `it cannot be read (${(error as NodeJS.ErrnoException).code})`;
  }
}

function judgeRootKey(
  key: RootKey | string,
  facts: DatabaseFacts | Finding,
  { where, rights }: RootKeyPlace,
): readonly Finding[] {
  if (typeof key === "string") {
    const fix = `restore ${where} from its copy, ${rights}; the key in memory goes on until the next start, so do not restart before`;
    return [failing("keys.root", { problem: key, fix })];
  }
  if ("check" in facts || facts.record === undefined) return [];
  const wrapped = facts.record.keys.filter(({ purpose }) => purpose === "Installation");
  if (wrapped.length === 0 || wrapped.some(({ wrappedBy }) => wrappedBy === key.id)) return [];
  const problem = `root key ${key.id} is not the one that wrapped the installation's key, which is ${wrapped.at(-1)?.wrappedBy}`;
  return [
    failing("keys.root", { problem, fix: `restore the copy of the former key to ${where}; do not restart before` }),
  ];
}
