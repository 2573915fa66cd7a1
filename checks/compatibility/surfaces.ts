/** What others rely on between two releases, as files that can be compared; of the last release they stand in `released/`. */
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { parse } from "yaml";
import { z } from "zod";
import { GROUP } from "../../crds/common.ts";
import { type CustomResourceDefinition, customResourceDefinition } from "../../crds/generate/crd.ts";
import { kinds } from "../../crds/index.ts";
import { oasdiff } from "../../lab/oasdiff/program.ts";
import { findGoProgram } from "../../lab/setup/go-program.ts";
import { configSchema as ocsp } from "../../ocsp/config.ts";
import { configSchema as operator } from "../../operator/config.ts";
import { VERSION } from "../../program/version.ts";
import type { Break } from "./break.ts";
import { blocking, changedMigrations, digests } from "./migrations.ts";
import { brokenByDocument } from "./rest.ts";
import { brokenByDefinition, narrowed, narrowedValues, type Schema } from "./schemas.ts";

export const root = path.join(import.meta.dirname, "../..");
/** Written by `npm run release` alone. */
export const RELEASED = path.join(root, "released");

export interface Surface {
  /** In `accepted.yaml`, and for a person. */
  readonly name: "kinds" | "values" | "settings" | "rest" | "migrations";
  /** What is released of it: the name in `released/`, and the content of today. */
  files(): ReadonlyMap<string, string>;
  breaks(): Promise<readonly Break[]>;
}

const read = (file: string): string => readFileSync(path.join(root, file), "utf8");
const released = (name: string): string => readFileSync(path.join(RELEASED, name), "utf8");
const parsed = (text: string): Schema => JSON.parse(text) as Schema;
const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;

const CHART = "charts/mazevault";
const GENERATED = "crds/generated";
const DEFINITIONS = "crds";

/** As they are installed, with the rights of the programs beside them. */
const definitions: Surface = {
  name: "kinds",
  files: () =>
    new Map(
      readdirSync(path.join(root, GENERATED)).map((file) => [`${DEFINITIONS}/${file}`, read(`${GENERATED}/${file}`)]),
    ),
  async breaks() {
    const now = kinds.map(customResourceDefinition);
    const files = readdirSync(path.join(RELEASED, DEFINITIONS)).filter((file) => file.startsWith(`${GROUP}_`));
    return files.flatMap((file) => {
      const before = parse(released(`${DEFINITIONS}/${file}`)) as CustomResourceDefinition;
      return brokenByDefinition(
        before,
        now.find(({ metadata }) => metadata.name === before.metadata.name),
      );
    });
  },
};

const DOCUMENT = "docs/reference/openapi.json";

/** @param program oasdiff */
const rest = (program: string): Surface => ({
  name: "rest",
  files: () => new Map([["openapi.json", read(DOCUMENT)]]),
  breaks: () => brokenByDocument(program, path.join(RELEASED, "openapi.json"), path.join(root, DOCUMENT)),
});

const VALUES_SCHEMA = "values.schema.json";

const values: Surface = {
  name: "values",
  files: () => new Map([[VALUES_SCHEMA, read(`${CHART}/${VALUES_SCHEMA}`)]]),
  breaks: async () => narrowedValues(parsed(released(VALUES_SCHEMA)), parsed(read(`${CHART}/${VALUES_SCHEMA}`))),
};

/** With their defaults and second names, which the chart's schema does not have. */
const settingsToday = (): Schema => ({
  type: "object",
  properties: Object.fromEntries(
    Object.entries({ operator, ocsp }).map(([name, config]) => [name, settingsOf(config)]),
  ),
});

const SETTINGS = "settings.json";

const settings: Surface = {
  name: "settings",
  files: () => new Map([[SETTINGS, json(settingsToday())]]),
  breaks: async () => narrowed(parsed(released(SETTINGS)), settingsToday(), "settings"),
};

function settingsOf(config: z.ZodType): Schema {
  const { $schema: _, ...made } = z.toJSONSchema(config, {
    target: "draft-7",
    io: "input",
    reused: "inline",
    override: ({ jsonSchema }) => {
      // Each release is another version.
      if (jsonSchema.default === VERSION) delete jsonSchema.default;
    },
  });
  return made as Schema;
}

const MIGRATIONS = path.join(root, "adapters/postgres/migrations");

const migrations: Surface = {
  name: "migrations",
  files: () => new Map([["migrations.json", json(digests(MIGRATIONS))]]),
  breaks: async () => changedMigrations(releasedMigrations(), digests(MIGRATIONS)),
};

/** Those that databases of the last release have run. */
export const releasedMigrations = (): Readonly<Record<string, string>> => JSON.parse(released("migrations.json"));

/** What is wrong with the migrations that the next release brings. @param program squawk */
export const wrongMigrations = (program: string): Promise<readonly string[]> => {
  const known = releasedMigrations();
  return blocking(
    program,
    MIGRATIONS,
    Object.keys(digests(MIGRATIONS)).filter((name) => !(name in known)),
  );
};

/** Those that this machine can compare without a server; `npm test` says what it cannot. */
export function surfaces(): readonly Surface[] {
  const program = findGoProgram(oasdiff);
  return [definitions, values, settings, migrations, ...(program === undefined ? [] : [rest(program)])];
}
