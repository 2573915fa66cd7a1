/** Kubernetes manifests from files, folders and standard input. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import path from "node:path";
import { parseAllDocuments } from "yaml";
import { z } from "zod";
import { UsageError } from "../errors.ts";
import { readStdin } from "../input.ts";
import type { Terminal } from "../output.ts";

const metadata = z.object({
  name: z.string().min(1),
  namespace: z.string().optional(),
  labels: z.record(z.string(), z.string()).nullish(),
  annotations: z.record(z.string(), z.string()).nullish(),
  ownerReferences: z
    .array(z.object({ kind: z.string(), name: z.string(), controller: z.boolean().optional() }))
    .nullish(),
});

const manifest = z.looseObject({ apiVersion: z.string(), kind: z.string(), metadata, spec: z.unknown().optional() });

export interface Manifest extends z.infer<typeof manifest> {
  /** Name of the file. */
  readonly source: string;
}

const STDIN = "-";
/** Groups of which anything is read. */
const READ = /^(v1$|(generators\.)?external-secrets\.io\/|bitnami\.com\/)/;
const MANIFEST_FILE = /\.(ya?ml|json)$/;

/** Of each source, a file, a folder or `-`, all manifests that matter here, also those in a List. @throws UsageError that names the file */
export async function readManifests(terminal: Terminal, sources: readonly string[]): Promise<readonly Manifest[]> {
  if (sources.filter((source) => source === STDIN).length > 1) {
    throw new UsageError("-: standard input can be read once only", "write one of them to a file");
  }
  const manifests: Manifest[] = [];
  for (const source of sources) {
    if (source === STDIN)
      manifests.push(...manifestsIn("standard input", (await readStdin(terminal)).toString("utf8")));
    else for (const file of filesOf(source)) manifests.push(...manifestsIn(file, read(file)));
  }
  return manifests;
}

function filesOf(source: string): readonly string[] {
  if (statSync(source, { throwIfNoEntry: false })?.isDirectory() !== true) return [source];
  return readdirSync(source, { recursive: true, encoding: "utf8" })
    .filter((name) => MANIFEST_FILE.test(name))
    .sort()
    .map((name) => path.join(source, name))
    .filter((file) => statSync(file).isFile());
}

function read(file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw new UsageError(`${file} cannot be read (${(error as NodeJS.ErrnoException).code})`);
  }
}

function manifestsIn(source: string, text: string): readonly Manifest[] {
  // The parser's own messages quote the text, which may hold values.
  return parseAllDocuments(text, { prettyErrors: false, logLevel: "silent" }).flatMap((document) => {
    const [error] = document.errors;
    if (error !== undefined) {
      const line = text.slice(0, error.pos[0]).split("\n").length;
      throw new UsageError(
        `${source}, line ${line}: this is no YAML (${error.code})`,
        "name the files that are manifests, and render charts with helm template",
      );
    }
    return listed(document.toJS()).flatMap((each) => recognised(source, each));
  });
}

function listed(document: unknown): readonly unknown[] {
  if (document === null || document === undefined) return [];
  const { kind, items } = document as { kind?: unknown; items?: unknown };
  return typeof kind === "string" && kind.endsWith("List") && Array.isArray(items) ? items : [document];
}

/** What other tools have in the same folder is none of ours. */
function recognised(source: string, document: unknown): readonly Manifest[] {
  const { apiVersion, kind } = { ...(document as { apiVersion?: unknown; kind?: unknown }) };
  if (typeof apiVersion !== "string" || !READ.test(apiVersion)) return [];
  const { success, data } = manifest.safeParse(document);
  if (!success) throw new UsageError(`${source}: a ${String(kind)} in it has no metadata as Kubernetes has it`);
  return [{ ...data, source }];
}

/** Fields of `given` that `taken`, which a schema has made of it, is without: nothing is dropped unseen. */
export function unknownFields(given: unknown, taken: unknown, at: string): readonly string[] {
  if (Array.isArray(given)) {
    return given.flatMap((each, index) => unknownFields(each, (taken as unknown[])?.[index], `${at}[${index}]`));
  }
  if (typeof given !== "object" || given === null || typeof taken !== "object" || taken === null) return [];
  return Object.entries(given).flatMap(([name, value]) =>
    name in taken ? unknownFields(value, (taken as Record<string, unknown>)[name], `${at}.${name}`) : [`${at}.${name}`],
  );
}

/** The path of an issue of zod, as Kubernetes writes it. */
export const fieldPath = (at: string, parts: readonly PropertyKey[]): string =>
  parts.reduce<string>(
    (before, part) => (typeof part === "number" ? `${before}[${part}]` : `${before}.${String(part)}`),
    at,
  );
