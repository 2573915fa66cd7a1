/**
 * SealedSecrets as Secrets with sealed entries. Their ciphertext opens for their own controller only, so the values come from
 * the core Secrets that it has made, and are sealed anew to the project's key: what is written can stand in Git as before.
 */
import { z } from "zod";
import { Stalled } from "../../core/errors.ts";
import { Sensitive } from "../../core/sensitive.ts";
import { type SignedSealingKey, seal } from "../../core/vault/sealing.ts";
import type { SecretEntry } from "../../crds/secret.ts";
import type { CoreSecrets, GivenCoreSecret } from "./core-secrets.ts";
import { translate, variable } from "./go-template.ts";
import { fieldPath, type Manifest, unknownFields } from "./manifests.ts";
import { type Conversion, type Converted, type Finding, Notes, UNKNOWN } from "./report.ts";
import { deliverySettings, IMMUTABLE, secretOf } from "./secrets.ts";
import type { Tenancy, Tenant } from "./tenancy.ts";

export interface SealedSecretsOptions {
  readonly tenancy: Tenancy;
  /** Of the cluster, where the values are. */
  readonly secrets: CoreSecrets;
  /** By project. */
  readonly sealingKeys: ReadonlyMap<string, SignedSealingKey>;
}

const API = "bitnami.com/v1alpha1";
const PREFIX = "sealedsecrets.bitnami.com/";
const texts = z.record(z.string(), z.string()).nullish();

const sealedSecretSpec = z.object({
  encryptedData: texts,
  /** Before there was encryptedData: the whole core Secret. */
  data: z.unknown().optional(),
  template: z
    .object({
      type: z.string().optional(),
      immutable: z.boolean().nullish(),
      metadata: z.looseObject({ labels: texts, annotations: texts }).nullish(),
      data: z.record(z.string(), z.string().nullable()).nullish(),
    })
    .nullish(),
});
type SealedSecretSpec = z.infer<typeof sealedSecretSpec>;

export const isSealedSecret = ({ apiVersion, kind }: Manifest): boolean =>
  apiVersion === API && kind === "SealedSecret";

/** @throws UsageError where a namespace, project or environment is missing */
export async function convertSealedSecrets(
  manifests: readonly Manifest[],
  options: SealedSecretsOptions,
): Promise<Conversion> {
  const objects: Converted[] = [];
  const findings: Finding[] = [];
  for (const manifest of manifests.filter(isSealedSecret)) {
    const { kind, metadata } = manifest;
    const notes = new Notes({ kind, namespace: metadata.namespace, name: metadata.name });
    const converted = await convert(manifest, notes, options);
    if (converted !== undefined) objects.push(converted);
    findings.push(...notes.findings);
  }
  return { objects, findings };
}

async function convert(
  manifest: Manifest,
  notes: Notes,
  options: SealedSecretsOptions,
): Promise<Converted | undefined> {
  const { metadata } = manifest;
  const { name } = metadata;
  const spec = specOf(manifest, notes);
  const namespace = options.tenancy.namespaceOf(manifest);
  const tenant = options.tenancy.of(namespace);
  if (spec === undefined) return undefined;
  const { template } = spec;
  const annotations = Object.entries(template?.metadata?.annotations ?? {});
  const settings = deliverySettings(
    {
      type: template?.type,
      labels: template?.metadata?.labels,
      annotations: Object.fromEntries(annotations.filter(([key]) => !key.startsWith(PREFIX))),
    },
    "spec.template",
    notes,
  );
  if (template?.immutable === true) notes.lost("spec.template.immutable", IMMUTABLE);
  const scope = ["cluster-wide", "namespace-wide"].find(
    (each) => ({ ...metadata.annotations, ...template?.metadata?.annotations })[PREFIX + each] === "true",
  );
  if (scope !== undefined) {
    notes.remark(
      "metadata.annotations",
      `scope ${scope}: what is sealed for MazeVault opens only in this project, environment, namespace, Secret and entry; seal it again wherever else it is needed`,
    );
  }
  const entries = await entriesOf(spec, { ...tenant, namespace, name }, notes, options);
  if (notes.blocked) return undefined;
  const delivered = entries.map(({ key }) => key);
  const secret = secretOf({ ...tenant, namespace, name, entries, delivered, settings }, notes);
  if (secret !== undefined) {
    notes.step(
      "metadata.name",
      `when what is written here is applied: kubectl -n ${namespace} delete sealedsecrets.bitnami.com ${name} --cascade=orphan (without that option Kubernetes deletes core Secret ${name} too)`,
    );
  }
  return secret;
}

function specOf({ spec }: Manifest, notes: Notes): SealedSecretSpec | undefined {
  const { success, data, error } = sealedSecretSpec.safeParse(spec);
  if (!success) {
    for (const { path, message } of error.issues) notes.block(fieldPath("spec", path), message);
    return undefined;
  }
  for (const field of unknownFields(spec, data, "spec")) notes.lost(field, UNKNOWN);
  if (data.data !== undefined && data.data !== null) {
    notes.block(
      "spec.data",
      "one ciphertext for everything is no longer opened by its controller either; seal it anew with mazevault seal",
    );
  }
  return data;
}

interface Place extends Tenant {
  readonly namespace: string;
  readonly name: string;
}

async function entriesOf(
  { encryptedData, template }: SealedSecretSpec,
  place: Place,
  notes: Notes,
  { secrets, sealingKeys }: SealedSecretsOptions,
): Promise<readonly SecretEntry[]> {
  const { namespace, name, project } = place;
  const templates = Object.entries(template?.data ?? {});
  const removed = new Set(templates.flatMap(([key, text]) => (text === null ? [key] : [])));
  const own = new Set(templates.map(([key]) => key));
  const plain = Object.keys(encryptedData ?? {}).filter((key) => !own.has(key));
  const keys = new Set(plain);
  const core = secrets.get(namespace, name);
  const to = sealingKeys.get(project);
  if (core !== undefined)
    assertSameKeys(
      [...plain, ...own].filter((key) => !removed.has(key)),
      core,
      notes,
    );
  const entries: SecretEntry[] = [];
  for (const key of plain) {
    entries.push(await sealedEntry(key, core, to, place, `spec.encryptedData.${key}`, notes));
  }
  for (const [key, text] of templates) {
    if (text === null) continue;
    const at = `spec.template.data.${key}`;
    const translated = translate(text, (reference) => (keys.has(reference) ? reference : undefined));
    if (translated.kind === "Literal") entries.push({ key, literal: translated.text });
    else if (translated.kind === "Template") entries.push({ key, template: translated.liquid });
    else if (translated.kind === "Same") entries.push({ key, template: `{{ ${variable(translated.key)} }}` });
    else {
      notes.remark(at, `${translated.why}; what it gives now is sealed, and does not follow its parts`);
      entries.push(await sealedEntry(key, core, to, place, at, notes));
    }
  }
  return entries;
}

function assertSameKeys(made: readonly string[], { values }: GivenCoreSecret, notes: Notes): void {
  const different = [
    ...made.filter((key) => !values.has(key)),
    ...[...values.keys()].filter((key) => !made.includes(key)),
  ];
  if (different.length === 0) return;
  notes.block(
    "spec.encryptedData",
    `the core Secret has other keys than this makes (${different.join(", ")}): it is patched by others, or not up to date; let them be equal first`,
  );
}

/** External, for somebody to write, where the value is not there or cannot be sealed. */
async function sealedEntry(
  key: string,
  core: GivenCoreSecret | undefined,
  to: SignedSealingKey | undefined,
  place: Place,
  at: string,
  notes: Notes,
): Promise<SecretEntry> {
  const { namespace, name, project, environment } = place;
  const byHand = `write the value with mazevault put ${namespace}/${name} ${key}`;
  const bytes = core?.values.get(key);
  if (bytes === undefined || to === undefined) {
    const missing =
      bytes === undefined ? `--secrets with core Secret ${namespace}/${name}` : `--sealing-key of project ${project}`;
    notes.lost(at, `only its own controller opens it, so the entry is external; give ${missing}, or ${byHand}`);
    return { key, external: {} };
  }
  const value = new Sensitive(bytes);
  try {
    return { key, sealed: await seal(to, { project, environment, namespace, name, key }, value) };
  } catch (error) {
    if (!(error instanceof Stalled)) throw error;
    notes.lost(at, `${error.message}, so the entry is external; ${byHand}`);
    return { key, external: {} };
  } finally {
    value.dispose();
  }
}
