/**
 * Go templates with Sprig's functions, as far as Liquid has something that gives the same bytes for every value. What
 * only mostly does (`urlquery`, `upper`, `toJson`) is not translated.
 */

export type Translated =
  /** `references`: data keys, each once. */
  | { readonly kind: "Template"; readonly liquid: string; readonly references: readonly string[] }
  /** The whole value of one key, and nothing else. */
  | { readonly kind: "Same"; readonly key: string }
  | { readonly kind: "Literal"; readonly text: string }
  | { readonly kind: "Unknown"; readonly why: string };

/** Undefined: the same text. */
const FILTERS: Readonly<Record<string, string | undefined>> = {
  toString: undefined,
  b64enc: "base64_encode",
  b64dec: "base64_decode",
  // They differ in U+0085 and U+FEFF at the ends.
  trim: "strip",
  sha256sum: "sha256",
};

const NAME = String.raw`\$?\.([A-Za-z_][A-Za-z0-9_]*)`;
const INDEX = String.raw`index\s+\$?\.\s+"([^"\\]+)"`;
const FIRST = new RegExp(String.raw`^(?:(\w+)\s+)?(?:${NAME}|\(?\s*${INDEX}\s*\)?)$`);
/** Words that mean something else to Liquid. */
const RESERVED = new Set(["nil", "null", "true", "false", "empty", "blank", "and", "or", "not", "contains"]);

/** A key as a variable of Liquid. */
export const variable = (key: string): string =>
  /^[A-Za-z_][A-Za-z0-9_-]*$/.test(key) && !RESERVED.has(key) ? key : `["${key}"]`;

/** @param entryOf the entry that has the value of a data key; undefined when there is no such key */
export function translate(text: string, entryOf: (key: string) => string | undefined): Translated {
  if (!text.includes("{{")) return { kind: "Literal", text };
  const references = new Set<string>();
  let liquid = "";
  let same: string | undefined;
  let rest = text;
  while (rest !== "") {
    const [action, left, inside = "", right] = /\{\{(-(?=\s))?([\s\S]*?)((?<=\s)-)?\}\}/.exec(rest) ?? [];
    const at = action === undefined ? rest.length : rest.indexOf(action);
    const plain = rest.slice(0, at);
    if (/\{[%{]/.test(plain)) return unknown("it has a text that begins an action of Liquid");
    liquid += plain;
    if (action === undefined) break;
    const pipe = pipeline(inside.trim(), entryOf);
    if ("why" in pipe) return unknown(pipe.why);
    references.add(pipe.key);
    const filters = pipe.filters.map((filter) => ` | ${filter}`).join("");
    liquid += `{{${left ? "-" : ""} ${variable(pipe.entry)}${filters} ${right ? "-" : ""}}}`;
    if (action === text && pipe.filters.length === 0) same = pipe.key;
    rest = rest.slice(at + action.length);
  }
  if (same !== undefined) return { kind: "Same", key: same };
  return { kind: "Template", liquid, references: [...references] };
}

const unknown = (why: string): Translated => ({ kind: "Unknown", why });

function pipeline(
  text: string,
  entryOf: (key: string) => string | undefined,
): { readonly key: string; readonly entry: string; readonly filters: readonly string[] } | { readonly why: string } {
  const [first = "", ...calls] = text.split("|").map((part) => part.trim());
  const [, call, name, indexed] = FIRST.exec(first) ?? [];
  const key = name ?? indexed;
  if (key === undefined) return { why: `{{ ${text} }} has no equal in Liquid that gives the same bytes` };
  const entry = entryOf(key);
  if (entry === undefined) return { why: `{{ ${text} }} names ${key}, which is no key of the data` };
  const filters: string[] = [];
  for (const name of [...(call === undefined ? [] : [call]), ...calls]) {
    if (!Object.hasOwn(FILTERS, name))
      return { why: `{{ ${text} }}: ${name} has no equal in Liquid that gives the same bytes` };
    const filter = FILTERS[name];
    if (filter !== undefined) filters.push(filter);
  }
  return { key, entry, filters };
}
