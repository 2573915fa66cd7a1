import { Liquid, type Template } from "liquidjs";
import { Stalled } from "../errors.ts";
import { Sensitive } from "../sensitive.ts";
import { bcryptHash } from "./bcrypt.ts";
import { FilterFault, valueFilters } from "./filters.ts";

/**
 * Templates are Liquid without anything that reaches outside or grows without bound: no files, no partials, no loops,
 * no captures. Keys stand as variables (`{{ password }}`, `{{ db-url }}`); one with a dot, or that begins with a digit
 * or hyphen, in brackets (`{{ ["tls.crt"] }}`).
 */
const TAGS = new Set(["if", "unless", "case", "assign", "echo", "comment", "raw", "#"]);
const LIQUID_FILTERS = [
  "append",
  "prepend",
  "upcase",
  "downcase",
  "capitalize",
  "strip",
  "lstrip",
  "rstrip",
  "strip_newlines",
  "remove",
  "slice",
  "size",
  "default",
  "url_encode",
  "url_decode",
  "base64_encode",
  "json",
  "jsonify",
  "xml_escape",
  "sha256",
];

const LONGEST_TEMPLATE = 16_384;
/** In UTF-16 code units, for the output and for each intermediate result of a filter. */
const LONGEST_OUTPUT = 262_144;
const RENDER_LIMIT_MS = 1_000;

/** Hashes of one template, each of which takes a processor for up to a second. */
const MOST_HASHES = 8;

class OutputTooLarge extends Error {}

/** A rendering met a hash that is not known yet: it begins again when it is. */
class HashWanted extends Error {
  readonly text: string;
  readonly cost: number;
  constructor(text: string, cost: number) {
    super("a hash is wanted");
    this.text = text;
    this.cost = cost;
  }
}

const hashName = (text: string, cost: number): string => `${cost} ${text}`;

/** Rendering is synchronous, so there is only ever one under way. */
interface Rendering {
  /** Characters put out. */
  written: number;
  /** What is known of hashes, by `hashName`. */
  readonly hashes: ReadonlyMap<string, string>;
}
const idle: Rendering = { written: 0, hashes: new Map() };
let rendering = idle;

const ownFilters = valueFilters((text, cost) => {
  const hash = rendering.hashes.get(hashName(text, cost));
  if (hash === undefined) throw new HashWanted(text, cost);
  return hash;
});
const FILTERS = new Set([...LIQUID_FILTERS, ...Object.keys(ownFilters)]);

const engine = sandbox();

function sandbox(): Liquid {
  const liquid = new Liquid({
    strictVariables: true,
    strictFilters: true,
    ownPropertyOnly: true,
    relativeReference: false,
    dynamicPartials: false,
    templates: {},
    parseLimit: LONGEST_TEMPLATE,
    renderLimit: RENDER_LIMIT_MS,
    memoryLimit: LONGEST_OUTPUT * 64,
    outputEscape: (value: unknown) => {
      const text = value === null || value === undefined ? "" : String(value);
      rendering.written += text.length;
      if (rendering.written > LONGEST_OUTPUT) throw new OutputTooLarge();
      return text;
    },
  });
  for (const name of Object.keys(liquid.tags)) if (!TAGS.has(name)) delete liquid.tags[name];
  for (const [name, filter] of Object.entries({ ...liquid.filters, ...ownFilters })) {
    if (!FILTERS.has(name)) {
      delete liquid.filters[name];
      continue;
    }
    // Some filters double their input, and a template has room for thousands in a row.
    const apply = typeof filter === "function" ? filter : filter.handler;
    liquid.registerFilter(name, function bounded(value, ...rest) {
      const result: unknown = apply.call(this, value, ...rest);
      if (typeof result === "string" && result.length > LONGEST_OUTPUT) throw new OutputTooLarge();
      return result;
    });
  }
  return liquid;
}

function parse(entry: string, text: string): Template[] {
  try {
    return engine.parse(text);
  } catch (cause) {
    // At this point no value is known, so the message can only repeat what stands in the manifest.
    const line = String((cause as Error).message).split("\n")[0];
    throw new Stalled("TemplateInvalid", `entry ${entry}: the template does not parse: ${line}${choices(line)}`, {
      cause,
    });
  }
}

/** What there is to choose from, for who named a tag or filter that there is not. */
function choices(fault = ""): string {
  if (/^undefined filter/.test(fault)) return `; the filters are ${[...FILTERS].sort().join(", ")}`;
  if (/^tag .* not found/.test(fault)) return `; the tags are ${[...TAGS].sort().join(", ")}, there are no loops`;
  return "";
}

const MOST_LISTED = 10;

const listed = (keys: readonly string[]): string =>
  keys.length > MOST_LISTED ? `${keys.slice(0, MOST_LISTED).join(", ")} and others` : keys.join(", ");

/** Every reconciliation asks for the references of a template that hardly ever changes; templates are not secret. */
const known = new Map<string, readonly string[]>();
const MOST_KNOWN = 1_000;

/** The keys that a template refers to, in alphabetical order. `Stalled("TemplateInvalid")` when it does not parse. */
export function templateReferences(entry: string, text: string): readonly string[] {
  const before = known.get(text);
  if (before !== undefined) return before;
  const references = findReferences(entry, text);
  if (known.size >= MOST_KNOWN) known.clear();
  known.set(text, references);
  return references;
}

function findReferences(entry: string, text: string): readonly string[] {
  const template = parse(entry, text);
  const keys = new Set<string>();
  for (const [key, ...properties] of engine.globalVariableSegmentsSync(template)) {
    if (typeof key !== "string") {
      throw new Stalled("TemplateInvalid", `entry ${entry}: a variable must be named, not computed`);
    }
    if (properties.length > 0) {
      const meant = [key, ...properties.filter((part) => typeof part === "string")].join(".");
      throw new Stalled(
        "TemplateInvalid",
        `entry ${entry}: values have no properties; a key with a dot is written {{ ["${meant}"] }}`,
      );
    }
    keys.add(key);
  }
  return [...keys].sort();
}

/**
 * The rendered text. `values` holds exactly what `templateReferences` named. Errors name the entry, never a value:
 * those of the engine may quote what they worked on, so they are not passed on.
 *
 * @throws Stalled TemplateInvalid; ValueInvalid when a filter does not take the value that it is given
 */
export async function renderTemplate(
  entry: string,
  text: string,
  values: ReadonlyMap<string, Sensitive>,
): Promise<Sensitive> {
  const template = parse(entry, text);
  const scope: Record<string, string> = Object.create(null);
  for (const [key, value] of values) scope[key] = textOf(entry, key, value);
  const hashes = new Map<string, string>();
  for (;;) {
    const output = attempt(entry, template, scope, hashes);
    if (!(output instanceof HashWanted)) return output;
    if (hashes.size === MOST_HASHES) {
      throw new Stalled(
        "TemplateInvalid",
        `entry ${entry}: the template asks for more than ${MOST_HASHES} hashes of bcrypt or htpasswd; divide it into several entries`,
      );
    }
    hashes.set(hashName(output.text, output.cost), await bcryptHash(output.text, output.cost));
  }
}

/** The rendered text, or the hash that it needs first. */
function attempt(
  entry: string,
  template: Template[],
  scope: object,
  hashes: Rendering["hashes"],
): Sensitive | HashWanted {
  rendering = { written: 0, hashes };
  let output: string;
  try {
    output = String(engine.renderSync(template, scope));
  } catch (cause) {
    const { originalError } = cause as { originalError?: unknown };
    if (originalError instanceof HashWanted) return originalError;
    const code = originalError instanceof FilterFault ? originalError.code : "TemplateInvalid";
    throw new Stalled(code, `entry ${entry}: the template cannot be rendered: ${renderFault(cause)}`);
  } finally {
    // The names of hashes have values in them.
    rendering = idle;
  }
  if (output.length > LONGEST_OUTPUT) {
    throw new Stalled("TemplateInvalid", `entry ${entry}: the result is longer than ${LONGEST_OUTPUT} characters`);
  }
  return new Sensitive(Buffer.from(output, "utf8"));
}

function textOf(entry: string, key: string, value: Sensitive): string {
  const text = value.reveal().toString("utf8");
  if (!Buffer.from(text, "utf8").equals(value.reveal())) {
    throw new Stalled(
      "ValueInvalid",
      `entry ${entry}: the value of ${key} is not UTF-8 text and cannot be in a template`,
    );
  }
  return text;
}

function renderFault(cause: unknown): string {
  const { name, originalError, message } = cause as Error & { originalError?: unknown };
  if (originalError instanceof FilterFault) return originalError.message;
  if (originalError instanceof OutputTooLarge) return `the result is longer than ${LONGEST_OUTPUT} characters`;
  if (name === "UndefinedVariableError") return "it computes the name of a variable";
  if (message.includes("limit exceeded")) return "it is too expensive";
  return "a filter does not accept the value it is given";
}

/**
 * Keys of the templates, each after those it refers to. `references` has an item for every template entry.
 * `Stalled("TemplateInvalid")` for a key that is no entry, `Stalled("TemplateCycle")` with the circle in its message.
 */
export function templateOrder(
  keys: ReadonlySet<string>,
  references: ReadonlyMap<string, readonly string[]>,
): readonly string[] {
  const done = new Set<string>();
  const path: string[] = [];
  const visit = (key: string): void => {
    if (done.has(key)) return;
    if (path.includes(key)) {
      const circle = [...path.slice(path.indexOf(key)), key].join(" -> ");
      throw new Stalled("TemplateCycle", `templates refer to each other in a circle: ${circle}`);
    }
    const referred = references.get(key);
    if (referred === undefined) return;
    path.push(key);
    for (const other of referred) {
      if (!keys.has(other)) {
        throw new Stalled(
          "TemplateInvalid",
          `entry ${key}: the template refers to ${other}, which is no entry; there are ${listed([...keys])}`,
        );
      }
      visit(other);
    }
    path.pop();
    done.add(key);
  };
  for (const key of [...references.keys()].sort()) visit(key);
  return [...done];
}
