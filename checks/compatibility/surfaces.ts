/** What others rely on between two releases, as files that can be compared; of the last release they stand in `released/`. */
import { readdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { parse } from "yaml";
import { z } from "zod";
import { GROUP } from "../../crds/common.ts";
import { type CustomResourceDefinition, customResourceDefinition } from "../../crds/generate/crd.ts";
import { kinds } from "../../crds/index.ts";
import { oasdiff } from "../../lab/oasdiff/program.ts";
import { helm } from "../../lab/packaging/programs.ts";
import { findGoProgram } from "../../lab/setup/go-program.ts";
import { configSchema as ocsp } from "../../ocsp/config.ts";
import { configSchema as operator } from "../../operator/config.ts";
import { VERSION } from "../../program/version.ts";
import { Chart } from "../chart.ts";
import type { Break } from "./break.ts";
import { brokenByExchanges, type Exchanges, exchanges } from "./fleet.ts";
import { installedBy, stricter, withdrawn } from "./installed.ts";
import { blocking, changedMigrations, digests } from "./migrations.ts";
import { brokenByDocument } from "./rest.ts";
import { brokenByDefinition, narrowed, narrowedValues, type Schema } from "./schemas.ts";
import { brokenByRendering } from "./values.ts";

export const root = path.join(import.meta.dirname, "../..");
/** Written by `npm run release` alone. */
export const RELEASED = path.join(root, "released");

export interface Surface {
  /** In `accepted.yaml`, and for a person. */
  readonly name: "kinds" | "rights" | "policies" | "values" | "settings" | "rest" | "fleet" | "migrations";
  /** What is released of it: the name in `released/`, and the content of today. */
  files(): ReadonlyMap<string, string>;
  breaks(): Promise<readonly Break[]>;
}

const read = (file: string): string => readFileSync(path.join(root, file), "utf8");
const released = (name: string): string => readFileSync(path.join(RELEASED, name), "utf8");
const parsed = <T>(text: string): T => JSON.parse(text) as T;
const json = (value: unknown): string => `${JSON.stringify(value, null, 2)}\n`;

const GENERATED = "crds/generated";
const DEFINITIONS = "crds";
const definitionsIn = (folder: string): readonly string[] =>
  readdirSync(path.join(root, folder)).filter((file) => file.startsWith(`${GROUP}_`));

const definitions: Surface = {
  name: "kinds",
  files: () =>
    new Map(definitionsIn(GENERATED).map((file) => [`${DEFINITIONS}/${file}`, read(`${GENERATED}/${file}`)])),
  async breaks() {
    const now = kinds.map(customResourceDefinition);
    return definitionsIn(`released/${DEFINITIONS}`).flatMap((file) => {
      const before = parse(released(`${DEFINITIONS}/${file}`)) as CustomResourceDefinition;
      return brokenByDefinition(
        before,
        now.find(({ metadata }) => metadata.name === before.metadata.name),
      );
    });
  },
};

/** Manifests, by where they stand in `released/`. */
const RIGHTS = {
  // Beside the definitions: together they are what is installed.
  [`${DEFINITIONS}/rbac.yaml`]: `${GENERATED}/rbac.yaml`,
  "gateway/rbac.yaml": "deploy/gateway/rbac.yaml",
};
const CHART = "charts/mazevault";
const POLICIES = { "policies.yaml": `${CHART}/files/policies.yaml` };

const installed = (
  name: "rights" | "policies",
  manifests: Readonly<Record<string, string>>,
  compare: typeof withdrawn,
): Surface => ({
  name,
  files: () => new Map(Object.entries(manifests).map(([to, from]) => [to, read(from)])),
  breaks: async () =>
    Object.entries(manifests).flatMap(([to, from]) => compare(installedBy(released(to)), installedBy(read(from)))),
});

const rights = installed("rights", RIGHTS, withdrawn);
const policies = installed("policies", POLICIES, stricter);

const DOCUMENT = "docs/reference/openapi.json";

/** @param program oasdiff */
const rest = (program: string): Surface => ({
  name: "rest",
  files: () => new Map([["openapi.json", read(DOCUMENT)]]),
  breaks: () => brokenByDocument(program, path.join(RELEASED, "openapi.json"), path.join(root, DOCUMENT)),
});

const FLEET = "fleet.json";

const fleet: Surface = {
  name: "fleet",
  files: () => new Map([[FLEET, json(exchanges())]]),
  breaks: async () => brokenByExchanges(parsed<Exchanges>(released(FLEET)), exchanges()),
};

const SETTINGS = "settings.json";

const settings: Surface = {
  name: "settings",
  files: () => new Map([[SETTINGS, json(settingsToday())]]),
  breaks: async () => narrowed(parsed<Schema>(released(SETTINGS)), settingsToday(), "settings"),
};

/** With their defaults and second names, which the chart's schema does not have. */
function settingsToday(): Schema {
  const programs = Object.entries({ operator, ocsp }).map(([name, config]) => [name, settingsOf(config)]);
  return { type: "object", properties: Object.fromEntries(programs) };
}

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

const VALUES_SCHEMA = "values.schema.json";
const VALUES = "values";

/** @param program Helm; without it, schemas alone are compared */
const values = (program: string | undefined): Surface => ({
  name: "values",
  files: () =>
    new Map([
      [VALUES_SCHEMA, read(`${CHART}/${VALUES_SCHEMA}`)],
      ...readdirSync(path.join(root, CHART, "ci")).map(
        (file) => [`${VALUES}/${file}`, read(`${CHART}/ci/${file}`)] as const,
      ),
    ]),
  async breaks() {
    const now = parsed<Schema>(read(`${CHART}/${VALUES_SCHEMA}`));
    const narrower = narrowedValues(parsed<Schema>(released(VALUES_SCHEMA)), now);
    if (program === undefined) return narrower;
    const chart = new Chart(path.join(root, CHART), program, path.join(RELEASED, VALUES));
    return [...narrower, ...(await brokenByRendering(chart, parsed<Schema>(released(SETTINGS))))];
  },
});

const MIGRATIONS = path.join(root, "adapters/postgres/migrations");

const migrations: Surface = {
  name: "migrations",
  files: () => new Map([["migrations.json", json(digests(MIGRATIONS))]]),
  breaks: async () => changedMigrations(releasedMigrations(), digests(MIGRATIONS)),
};

/** Those that databases of the last release have run. */
export const releasedMigrations = (): Readonly<Record<string, string>> => parsed(released("migrations.json"));

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
  return [
    definitions,
    rights,
    policies,
    values(findGoProgram(helm)),
    settings,
    fleet,
    migrations,
    ...(program === undefined ? [] : [rest(program)]),
  ];
}
