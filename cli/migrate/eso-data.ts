/** The data of an ExternalSecret: external entries for what stands in the vault, templates for what is made of it. */
import type { SecretEntry } from "../../crds/secret.ts";
import type { DataFrom, ExternalSecretSpec, RemoteRef } from "./eso-schemas.ts";
import { translate, variable } from "./go-template.ts";
import type { Notes } from "./report.ts";
import { EntryKeys } from "./secrets.ts";

const VAULT_NAME = /^[0-9a-zA-Z-]{1,127}$/;

/** A key of the data: where its value stands in the vault, and the filters of Liquid that it goes through. */
interface Wanted {
  readonly key: string;
  readonly vaultName: string;
  readonly filters: readonly string[];
}

/** The name of a secret in the vault, or a note. */
export function vaultNameOf(key: string, at: string, notes: Notes): string | undefined {
  const [type, name] = key.includes("/")
    ? [key.slice(0, key.indexOf("/")), key.slice(key.indexOf("/") + 1)]
    : ["secret", key];
  if (type === "cert" || type === "key") {
    const what = type === "cert" ? "certificates" : "keys";
    notes.block(at, `${key} is one of the vault's ${what}, and only its secrets are synchronised; keep it where it is`);
    return undefined;
  }
  if (type === "secret" && VAULT_NAME.test(name)) return name;
  notes.block(at, `${key} is no name of a secret in Key Vault: up to 127 letters, digits and dashes`);
  return undefined;
}

function wantedOf(key: string, remote: RemoteRef, at: string, notes: Notes): Wanted | undefined {
  const vaultName = vaultNameOf(remote.key, `${at}.key`, notes);
  if (remote.version) {
    notes.block(
      `${at}.version`,
      "what is pulled is the current version; copy this one under another name in the vault",
    );
  }
  if (remote.metadataPolicy === "Fetch") notes.block(`${at}.metadataPolicy`, "tags are not taken over, only values");
  const filters: string[] = [];
  if (remote.property) {
    if (/^[\w-]+(\.[\w-]+)*$/.test(remote.property)) filters.push(jsonPointer(remote.property.split(".")));
    else
      notes.block(
        `${at}.property`,
        `${remote.property} is more than names with dots; write a template with json_pointer`,
      );
    if (remote.property.includes(".")) {
      notes.remark(`${at}.property`, `${remote.property} is taken as a way through objects, not as one name with dots`);
    }
  }
  const { decodingStrategy: decoding = "None" } = remote;
  if (decoding === "Base64" || decoding === "Base64URL") {
    filters.push("base64_decode");
    notes.remark(`${at}.decodingStrategy`, "what is decoded must be text (UTF-8)");
  } else if (decoding !== "None") {
    notes.block(
      `${at}.decodingStrategy`,
      `${decoding} guesses; say whether the value is base64 (Base64) or not (None)`,
    );
  }
  return vaultName === undefined ? undefined : { key, vaultName, filters };
}

const jsonPointer = (path: readonly string[]): string =>
  `json_pointer: '${path.map((part) => `/${part.replaceAll("~", "~0").replaceAll("/", "~1")}`).join("")}'`;

export const wantedData = ({ data }: ExternalSecretSpec, notes: Notes): readonly Wanted[] =>
  (data ?? []).flatMap(
    ({ secretKey, remoteRef }, index) => wantedOf(secretKey, remoteRef, `spec.data[${index}].remoteRef`, notes) ?? [],
  );

/** Keys that only the vault knows: told from the core Secret that has them now. */
export function wantedFrom(
  { data, dataFrom, target }: ExternalSecretSpec,
  coreKeys: readonly string[] | undefined,
  notes: Notes,
): readonly Wanted[] {
  const [from, ...more] = dataFrom ?? [];
  if (from === undefined) return [];
  const at = "spec.dataFrom[0]";
  if (more.length > 0)
    notes.block(
      "spec.dataFrom",
      "which of several sources a key comes from cannot be told; name each key in spec.data",
    );
  if ((from.rewrite ?? []).length > 0)
    notes.block(`${at}.rewrite`, "keys that are rewritten must be named in spec.data");
  if (target?.template?.data != null)
    notes.block(at, "with a template, the keys that it refers to must be named in spec.data");
  if (coreKeys === undefined) {
    notes.block(
      at,
      "only the vault knows its keys; give --secrets with the core Secret that has them now, or name each key in spec.data",
    );
  }
  if (notes.blocked || coreKeys === undefined) return [];
  const named = new Set((data ?? []).map(({ secretKey }) => secretKey));
  const keys = coreKeys.filter((key) => !named.has(key));
  notes.lost(
    at,
    `the keys that the core Secret has now are named (${keys.join(", ")}); add those that come later to the Secret and the SyncRule`,
  );
  return keys.flatMap((key) => fromSource(from, key, at, notes) ?? []);
}

function fromSource({ extract }: DataFrom, key: string, at: string, notes: Notes): Wanted | undefined {
  // What was found is an entry of that name.
  if (extract === undefined) return wantedOf(key, { key }, `${at}.find`, notes);
  const whole = wantedOf(key, extract, `${at}.extract`, notes);
  if (whole === undefined) return undefined;
  if (/['"]/.test(key)) notes.block(`${at}.extract`, `key ${key} has a quotation mark`);
  // What is decoded is the part, after it was taken out.
  const isPointer = (filter: string) => filter.startsWith("json_pointer");
  const [pointers, decoders] = [whole.filters.filter(isPointer), whole.filters.filter((filter) => !isPointer(filter))];
  return { ...whole, filters: [...pointers, jsonPointer([key]), ...decoders] };
}

type EsoTemplate = NonNullable<NonNullable<ExternalSecretSpec["target"]>["template"]>;

interface Made {
  readonly entries: readonly SecretEntry[];
  /** Keys of the core Secret, each an entry of that key. */
  readonly delivered: readonly string[];
  /** The external entries and their names in the vault. */
  readonly mappings: readonly { readonly key: string; readonly name: string }[];
}

export function entriesOf(wanted: readonly Wanted[], template: EsoTemplate, notes: Notes): Made {
  const at = "spec.target.template";
  if ((template.templateFrom ?? []).length > 0)
    notes.block(`${at}.templateFrom`, "write what it gives as entries with template");
  if ((template.engineVersion ?? "v2") !== "v2")
    notes.block(`${at}.engineVersion`, `${template.engineVersion} is not translated`);
  const data = new Set(wanted.map(({ key }) => key));
  const given = Object.entries(template.data ?? {});
  // One that only repeats a key makes nothing.
  const templates = given.filter(([key, text]) => {
    const translated = translate(text, (name) => (data.has(name) ? name : undefined));
    return translated.kind !== "Same" || translated.key !== key;
  });
  const replaces = given.length > 0 && template.mergePolicy !== "Merge";
  const delivered = [...new Set([...(replaces ? [] : data), ...given.map(([key]) => key)])];
  const made = new Set(templates.map(([key]) => key));
  const keys = new EntryKeys(delivered);
  const isDelivered = (key: string): boolean => delivered.includes(key) && !made.has(key);
  const entryOf = new Map([...data].map((key) => [key, isDelivered(key) ? key : keys.beside(key)]));
  const { entries, mappings } = sourceEntries(wanted, entryOf, keys);
  const rendered: SecretEntry[] = [];
  for (const [key, text] of templates) {
    const translated = translate(text, (name) => entryOf.get(name));
    if (translated.kind === "Literal") rendered.push({ key, literal: translated.text });
    else if (translated.kind === "Template") rendered.push({ key, template: translated.liquid });
    else if (translated.kind === "Same") {
      rendered.push({ key, template: `{{ ${variable(entryOf.get(translated.key) ?? translated.key)} }}` });
    } else notes.block(`${at}.data.${key}`, `${translated.why}; write it as an entry with template (Liquid)`);
  }
  return { entries: [...entries, ...rendered], delivered, mappings };
}

/** An external entry for each entry of the vault, and what is made of it. */
function sourceEntries(wanted: readonly Wanted[], entryOf: ReadonlyMap<string, string>, keys: EntryKeys) {
  const entries: SecretEntry[] = [];
  const mappings: { key: string; name: string }[] = [];
  for (const group of Map.groupBy(wanted, ({ vaultName }) => vaultName.toLowerCase()).values()) {
    const [first] = group;
    if (first === undefined) continue;
    const { vaultName } = first;
    const direct = group.find(({ filters }) => filters.length === 0);
    const source = direct === undefined ? keys.beside(vaultName) : (entryOf.get(direct.key) ?? direct.key);
    entries.push({ key: source, external: {} });
    mappings.push({ key: source, name: vaultName });
    for (const each of group.filter((other) => other !== direct)) {
      const filters = each.filters.map((filter) => ` | ${filter}`).join("");
      entries.push({ key: entryOf.get(each.key) ?? each.key, template: `{{ ${variable(source)}${filters} }}` });
    }
  }
  return { entries, mappings };
}
