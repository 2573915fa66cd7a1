/**
 * Names of what a project has in Azure. A convention is applied without asking Azure, so that a name which is invalid, too
 * long or given twice is found before anything is made or written.
 */
import type { NamingSpec, namedTypes } from "../../crds/naming.ts";

export type NamedType = (typeof namedTypes)[number];

interface Patterns {
  readonly production: string;
  readonly nonProduction: string;
}

/** In the order in which people list them. */
const DEFAULTS: Readonly<Record<NamedType, Patterns>> = {
  KeyVault: joined(""),
  PostgreSQL: joined("-"),
  Redis: joined("-"),
  AKS: joined("-"),
  AppRegistration: both("APP_{PROJECT}_{ZONE}_{ENVIRONMENT}_{number}"),
  ResourceGroup: {
    production: "rg-{company}-{environment}-{zone}-{project}-{region}",
    nonProduction: "rg-{company}-npr-{environment}-{zone}-{project}-{region}",
  },
};

function joined(dash: string): Patterns {
  const rest = ["{environment}", "{zone}", "{project}", "{region}", "{type}{number}"];
  return { production: ["{company}", ...rest].join(dash), nonProduction: ["{company}", "npr", ...rest].join(dash) };
}

function both(pattern: string): Patterns {
  return { production: pattern, nonProduction: pattern };
}

const TYPE_CODES: Readonly<Record<NamedType, string>> = {
  KeyVault: "kv",
  PostgreSQL: "psql",
  Redis: "redis",
  AKS: "aks",
  AppRegistration: "app",
  ResourceGroup: "rg",
};

const PRODUCTION: ReadonlySet<string> = new Set(["pro", "pre", "drn", "mig", "eoy", "hot"]);
const NON_PRODUCTION: ReadonlySet<string> = new Set(["dev", "itg", "tst"]);

/** What Azure accepts (learn.microsoft.com, "Naming rules and restrictions for Azure resources"). */
interface Limits {
  readonly what: string;
  readonly least: number;
  readonly most: number;
  readonly shape: RegExp;
  readonly allowed: string;
}

const LIMITS: Readonly<Record<NamedType, Limits>> = {
  KeyVault: {
    what: "a Key Vault",
    least: 3,
    most: 24,
    shape: /^[a-z](-?[a-z0-9])*$/i,
    allowed: "letters, digits and single dashes, beginning with a letter and ending with a letter or digit",
  },
  PostgreSQL: {
    what: "a PostgreSQL server",
    least: 3,
    most: 63,
    shape: /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/,
    allowed: "lower-case letters, digits and dashes, beginning and ending with a letter or digit",
  },
  Redis: {
    what: "an Azure Cache for Redis",
    least: 1,
    most: 63,
    shape: /^[a-z0-9](-?[a-z0-9])*$/i,
    allowed: "letters, digits and single dashes, beginning and ending with a letter or digit",
  },
  AKS: {
    what: "an AKS cluster",
    least: 1,
    most: 63,
    shape: /^[a-z0-9]([-_a-z0-9]*[a-z0-9])?$/i,
    allowed: "letters, digits, dashes and underscores, beginning and ending with a letter or digit",
  },
  AppRegistration: {
    what: "an app registration",
    least: 1,
    most: 120,
    shape: /^[-\w.()]+$/,
    allowed: "letters, digits, dashes, underscores, dots and parentheses",
  },
  ResourceGroup: {
    what: "a resource group",
    least: 1,
    most: 90,
    shape: /^[-\w.()]*[-\w()]$/,
    allowed: "letters, digits, dashes, underscores, parentheses and dots, not ending with a dot",
  },
};

export const TYPES = Object.keys(DEFAULTS) as readonly NamedType[];

/** Something that has a name by the convention. */
export interface Named {
  readonly environment: string;
  readonly type: NamedType;
  readonly name: string;
}

export interface NamingFault {
  readonly reason: "EnvironmentNotNamed" | "NameInvalid" | "NameCollision";
  /** Names field and fix. */
  readonly message: string;
}

interface NamedEnvironment {
  readonly code: string;
  readonly production: boolean;
}

/** Undefined where nothing says whether the environment is production. */
function environmentOf(naming: NamingSpec, environment: string): NamedEnvironment | undefined {
  const said = naming.environments?.find(({ name }) => name === environment);
  if (said !== undefined) return { code: said.code ?? said.name, production: said.production };
  if (PRODUCTION.has(environment)) return { code: environment, production: true };
  if (NON_PRODUCTION.has(environment)) return { code: environment, production: false };
  return undefined;
}

/** The pattern, and what its words stand for except for the number. */
function patternOf(
  naming: NamingSpec,
  type: NamedType,
  environment: string,
): { readonly pattern: string; readonly words: Readonly<Record<string, string>> } | undefined {
  const known = environmentOf(naming, environment);
  if (known === undefined) return undefined;
  const patterns = naming.patterns?.find((each) => each.type === type) ?? DEFAULTS[type];
  const { company, project, zone, region } = naming;
  return {
    pattern: known.production ? patterns.production : patterns.nonProduction,
    words: {
      company,
      co: company,
      environment: known.code,
      env: known.code,
      zone,
      project,
      proj: project,
      region,
      type: TYPE_CODES[type],
    },
  };
}

const WORD = /\{(\w+)\}/g;

function fillIn(pattern: string, words: Readonly<Record<string, string>>): string {
  return pattern.replaceAll(WORD, (_, word: string) => {
    const value = words[word.toLowerCase()] ?? "";
    return word === word.toLowerCase() ? value : value.toUpperCase();
  });
}

/** Undefined where nothing says whether the environment is production. */
export function nameOf(naming: NamingSpec, type: NamedType, environment: string, number = 1): string | undefined {
  const found = patternOf(naming, type, environment);
  const digits = String(number).padStart(2, "0");
  return found && fillIn(found.pattern, { ...found.words, number: digits, nn: digits });
}

/** Whether the convention gives this name, with whichever number. Case means nothing to Azure. */
export function isNameOf(naming: NamingSpec, type: NamedType, environment: string, name: string): boolean {
  const found = patternOf(naming, type, environment);
  if (found === undefined) return false;
  const literal = found.pattern.split(/(\{(?:number|nn)\})/).map((part) => {
    return /^\{(number|nn)\}$/.test(part) ? "[0-9]{2}" : fillIn(part, found.words).replaceAll(/[.()]/g, "\\$&");
  });
  return new RegExp(`^${literal.join("")}$`, "i").test(name);
}

/** All names with this number, by environment and type; none of an environment that nothing classifies. */
export function namesOf(naming: NamingSpec, environments: readonly string[], number = 1): readonly Named[] {
  return environments.flatMap((environment) =>
    TYPES.flatMap((type) => {
      const name = nameOf(naming, type, environment, number);
      return name === undefined ? [] : [{ environment, type, name }];
    }),
  );
}

/** Why Azure would not accept the name; undefined when it would. */
export function whyInvalid(type: NamedType, name: string): string | undefined {
  const { what, least, most, shape, allowed } = LIMITS[type];
  if (name.length < least || name.length > most) {
    return `has ${name.length} characters, and ${what} may have ${least} to ${most}`;
  }
  return shape.test(name) ? undefined : `is not a name for ${what}: ${allowed}`;
}

/** A project with a convention, as far as others must know it. */
export interface NamedProject {
  readonly project: string;
  readonly naming: NamingSpec;
  readonly environments: readonly string[];
}

/** What is wrong with the names of a project, the first of it; `others` are the other projects. */
export function namingFault(own: NamedProject, others: readonly NamedProject[]): NamingFault | undefined {
  return unclassified(own) ?? invalid(own) ?? collision(own, others);
}

function unclassified({ naming, environments }: NamedProject): NamingFault | undefined {
  const unknown = environments.find((environment) => environmentOf(naming, environment) === undefined);
  if (unknown === undefined) return undefined;
  const message = `spec.naming.environments: nothing says whether environment ${unknown} is production; add name: ${unknown} with production: true or false`;
  return { reason: "EnvironmentNotNamed", message };
}

function invalid({ naming, environments }: NamedProject): NamingFault | undefined {
  for (const { environment, type, name } of namesOf(naming, environments)) {
    const why = whyInvalid(type, name);
    if (why === undefined) continue;
    const message = `spec.naming: in environment ${environment} ${type} would be named "${shorten(name)}", which ${why}; choose shorter or other codes, or a pattern for ${type}`;
    return { reason: "NameInvalid", message };
  }
  return undefined;
}

function collision(own: NamedProject, others: readonly NamedProject[]): NamingFault | undefined {
  const holders = new Map<string, string>();
  for (const { project, naming, environments } of others) {
    for (const named of namesOf(naming, environments)) holders.set(folded(named), `Project ${project}`);
  }
  for (const named of namesOf(own.naming, own.environments)) {
    const holder = holders.get(folded(named));
    if (holder !== undefined) {
      const message = `spec.naming: ${named.type} of environment ${named.environment} would be named ${named.name}, which ${holder} gives too; choose another project, zone or region code`;
      return { reason: "NameCollision", message };
    }
    holders.set(folded(named), `environment ${named.environment}`);
  }
  return undefined;
}

const folded = ({ type, name }: Named): string => `${type} ${name.toLowerCase()}`;

const shorten = (name: string): string => (name.length > 130 ? `${name.slice(0, 120)}...` : name);
