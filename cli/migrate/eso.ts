/**
 * Objects of the External Secrets Operator as objects of MazeVault: stores of Azure Key Vault as KeyVaults, ExternalSecrets
 * as Secrets with external entries that a SyncRule pulls, PushSecrets as Secrets that a SyncRule pushes. A Secret whose
 * core Secret would not come out with the same keys is left out as a whole: it would not be adopted anyway.
 */
import type { z } from "zod";
import { syncRuleSpec } from "../../crds/syncrule.ts";
import { durationOf, secondsOf } from "./durations.ts";
import { entriesOf, vaultNameOf, wantedData, wantedFrom } from "./eso-data.ts";
import { type ExternalSecretSpec, externalSecretSpec, type PushSecretSpec, pushSecretSpec } from "./eso-schemas.ts";
import { type Identities, isAzure, keyVaultOf } from "./eso-store.ts";
import { fieldPath, type Manifest, unknownFields } from "./manifests.ts";
import { type Conversion, type Converted, type Finding, Notes, UNKNOWN } from "./report.ts";
import { deliverySettings, EntryKeys, IMMUTABLE, object, secretOf } from "./secrets.ts";
import type { Tenancy } from "./tenancy.ts";

export interface EsoOptions extends Omit<Identities, "serviceAccounts"> {
  readonly tenancy: Tenancy;
}

const GROUP = "external-secrets.io";
const VERSIONS: Readonly<Record<string, readonly string[]>> = {
  ExternalSecret: ["v1", "v1beta1"],
  SecretStore: ["v1", "v1beta1"],
  ClusterSecretStore: ["v1", "v1beta1"],
  PushSecret: ["v1alpha1"],
};
const DEFAULT_INTERVAL = "1h";
const LEAST_SECONDS = 10;
/** Bounds of a SyncRule. */
const MOST_MAPPINGS = 200;
const MOST_NAMES = 64;

export const isOfEso = ({ apiVersion }: Manifest): boolean =>
  apiVersion.startsWith(`${GROUP}/`) || apiVersion.startsWith(`generators.${GROUP}/`);

/** @throws UsageError where a namespace, project or environment is missing */
export const convertEso = (manifests: readonly Manifest[], options: EsoOptions): Conversion =>
  new EsoConversion(manifests, options).run();

type Direction = "Pull" | "Push";

/** What one Secret wants of a rule. */
interface Share {
  readonly secret: string;
  readonly mappings: readonly { readonly key: string; readonly name: string }[];
  readonly seconds: number;
}

interface Store {
  /** Of the KeyVault. */
  readonly vault: string;
}

class EsoConversion {
  readonly #manifests: readonly Manifest[];
  readonly #options: EsoOptions;
  readonly #identities: Identities;
  readonly #objects: Converted[] = [];
  readonly #findings: Finding[] = [];
  readonly #keyVaults = new Map<string, Store>();
  readonly #used = new Set<Manifest>();
  readonly #shares = new Map<string, Share[]>();

  constructor(manifests: readonly Manifest[], options: EsoOptions) {
    this.#manifests = manifests;
    this.#options = options;
    const accounts = manifests.filter(({ apiVersion, kind }) => apiVersion === "v1" && kind === "ServiceAccount");
    const serviceAccounts = new Map(accounts.map((each) => [`${each.metadata.namespace}/${each.metadata.name}`, each]));
    this.#identities = { ...options, serviceAccounts };
  }

  run(): Conversion {
    for (const manifest of this.#manifests.filter(isOfEso)) this.#convert(manifest);
    for (const [of, shares] of this.#shares) this.#rules(of, shares);
    for (const store of this.#manifests.filter(isStore).filter((each) => !this.#used.has(each))) {
      const notes = notesOf(store);
      notes.remark("metadata.name", "nothing that was given uses it, so there is no KeyVault for it");
      this.#findings.push(...notes.findings);
    }
    const order = ["KeyVault", "Secret", "SyncRule"];
    const objects = this.#objects.toSorted((a, b) => order.indexOf(a.kind) - order.indexOf(b.kind));
    // A store that several namespaces use is told about once.
    const told = new Map(this.#findings.map((finding) => [JSON.stringify(finding), finding]));
    return { objects, findings: [...told.values()] };
  }

  #convert(manifest: Manifest): void {
    if (isStore(manifest)) return;
    const notes = notesOf(manifest);
    const { kind, apiVersion } = manifest;
    const versions = apiVersion.startsWith("generators.") ? undefined : VERSIONS[kind];
    if (versions === undefined) notes.block("kind", WITHOUT_EQUAL[kind] ?? WITHOUT_EQUAL.default ?? "");
    else if (!versions.includes(apiVersion.slice(GROUP.length + 1))) {
      notes.block(
        "apiVersion",
        `${apiVersion} is not read; have it as ${GROUP}/${versions[0]}, as the cluster shows it`,
      );
    } else if (kind === "ExternalSecret") this.#externalSecret(manifest, notes);
    else this.#pushSecret(manifest, notes);
    this.#findings.push(...notes.findings);
  }

  #externalSecret(manifest: Manifest, notes: Notes): void {
    const spec = parsed(externalSecretSpec, manifest, notes);
    if (spec === undefined) return;
    const { name } = manifest.metadata;
    const namespace = this.#options.tenancy.namespaceOf(manifest);
    const tenant = this.#options.tenancy.of(namespace);
    const store = this.#storeOf(spec, namespace, notes);
    const { target = {} } = spec;
    const { creationPolicy = "Owner", template = {} } = target;
    const secretName = target.name ?? name;
    if (!["Owner", "Orphan", "None"].includes(creationPolicy)) {
      notes.block(
        "spec.target.creationPolicy",
        `${creationPolicy} writes keys into a core Secret of somebody else; MazeVault delivers whole core Secrets: deliver these keys to another one`,
      );
    }
    const settings = deliverySettings({ ...template.metadata, type: template.type }, "spec.target.template", notes);
    const core = this.#identities.secrets.get(namespace, secretName);
    const wanted = [...wantedData(spec, notes), ...wantedFrom(spec, core && [...core.values.keys()], notes)];
    const made = entriesOf(wanted, template, notes);
    if (core !== undefined && creationPolicy !== "None" && !notes.blocked) {
      const { delivered } = made;
      const surplus = [...core.values.keys()].filter((key) => !delivered.includes(key));
      const lacking = delivered.filter((key) => !core.values.has(key));
      if (surplus.length + lacking.length > 0) {
        const listed = [...surplus, ...lacking].join(", ");
        notes.block(
          "spec.target",
          `core Secret ${secretName} has other keys than this makes (${listed}); let them be equal first`,
        );
      }
    }
    if (target.manifest !== undefined) notes.block("spec.target.manifest", "MazeVault delivers core Secrets only");
    if (template.metadata?.finalizers != null)
      notes.lost("spec.target.template.metadata.finalizers", "they are not set");
    if (target.immutable === true) notes.lost("spec.target.immutable", IMMUTABLE);
    const seconds = refreshSeconds(spec, notes);
    if (notes.blocked || store === undefined) return;
    const delivery = creationPolicy === "None" ? {} : { delivered: made.delivered, secretName, settings };
    const secret = secretOf({ ...tenant, namespace, name, entries: made.entries, ...delivery }, notes);
    if (secret === undefined) return;
    this.#objects.push(secret);
    this.#share("Pull", namespace, store, { secret: name, mappings: made.mappings, seconds });
    handover(manifest, namespace, target, secretName, notes);
  }

  /** The one store of an ExternalSecret: a Secret is pulled from one vault. */
  #storeOf(spec: ExternalSecretSpec, namespace: string, notes: Notes): Store | undefined {
    const references = [
      ...(spec.data ?? []).map(({ sourceRef }, index) => ({ at: `spec.data[${index}].sourceRef`, sourceRef })),
      ...(spec.dataFrom ?? []).map(({ sourceRef }, index) => ({ at: `spec.dataFrom[${index}].sourceRef`, sourceRef })),
    ].map(({ at, sourceRef }) => {
      if (sourceRef?.generatorRef === undefined) {
        const { storeRef } = sourceRef ?? {};
        return storeRef === undefined ? { at: "spec.secretStoreRef", ...spec.secretStoreRef } : { at, ...storeRef };
      }
      notes.block(`${at}.generatorRef`, "it is made by a generator; use an entry with generate instead");
      return undefined;
    });
    if (references.length === 0) notes.block("spec.data", "it takes nothing from a store");
    const stores = new Map<string, Store>();
    for (const reference of references) {
      if (reference === undefined) continue;
      const { at, kind = "SecretStore", name } = reference;
      const store = this.#store(namespace, kind, name, at, notes);
      if (store !== undefined) stores.set(store.vault, store);
      if (stores.size > 1) {
        notes.block(at, "a Secret takes its values from one vault; make a Secret for each vault, or copy the entry");
        return undefined;
      }
    }
    return [...stores.values()][0];
  }

  #store(namespace: string, kind: string, name: string | undefined, at: string, notes: Notes): Store | undefined {
    const found = this.#manifests.find(
      (each) =>
        isStore(each) &&
        each.kind === kind &&
        each.metadata.name === name &&
        (kind === "ClusterSecretStore" || this.#options.tenancy.namespaceOf(each) === namespace),
    );
    if (found === undefined) {
      const which = kind === "ClusterSecretStore" ? "clustersecretstores" : "secretstores";
      notes.block(at, `${kind} ${name ?? "(without a name)"} is not among what was given; add ${which}`);
      return undefined;
    }
    this.#used.add(found);
    if (!isAzure(found)) {
      notes.block(
        at,
        `${kind} ${name} is no Azure Key Vault, and others are not pulled from; write the values with mazevault put`,
      );
      return undefined;
    }
    return this.#keyVault(found, namespace);
  }

  /** Converts each store once for each namespace. */
  #keyVault(manifest: Manifest, namespace: string): Store {
    const id = `${namespace} ${manifest.kind} ${manifest.metadata.name}`;
    const before = this.#keyVaults.get(id);
    if (before !== undefined) return before;
    const { name } = manifest.metadata;
    const isTaken = manifest.kind === "ClusterSecretStore" && this.#hasStore(namespace, name);
    const vault = isTaken ? `${name}-cluster` : name;
    const place = { ...this.#options.tenancy.of(namespace), namespace, name: vault };
    const { object: converted, notes } = keyVaultOf(manifest, place, this.#identities);
    this.#findings.push(...notes.findings);
    if (converted !== undefined) this.#objects.push(converted);
    const store = { vault };
    this.#keyVaults.set(id, store);
    return store;
  }

  #hasStore(namespace: string, name: string): boolean {
    return this.#manifests.some(
      (each) =>
        isStore(each) &&
        each.kind === "SecretStore" &&
        each.metadata.name === name &&
        this.#options.tenancy.namespaceOf(each) === namespace,
    );
  }

  #pushSecret(manifest: Manifest, notes: Notes): void {
    const spec = parsed(pushSecretSpec, manifest, notes);
    if (spec === undefined) return;
    const namespace = this.#options.tenancy.namespaceOf(manifest);
    const tenant = this.#options.tenancy.of(namespace);
    const stores = spec.secretStoreRefs.map(({ kind = "SecretStore", name, labelSelector }, index) => {
      const at = `spec.secretStoreRefs[${index}]`;
      if (labelSelector === undefined) return this.#store(namespace, kind, name, at, notes);
      notes.block(`${at}.labelSelector`, "stores are named, not selected; name each of them");
      return undefined;
    });
    refusedToPush(spec, notes);
    const source = spec.selector.secret?.name;
    const keys = new EntryKeys([]);
    const pushed = (spec.data ?? []).flatMap(({ match: { secretKey, remoteRef } }, index) => {
      const at = `spec.data[${index}].match`;
      const vaultName = vaultNameOf(remoteRef.remoteKey, `${at}.remoteRef.remoteKey`, notes);
      if (secretKey === undefined)
        notes.block(`${at}.secretKey`, "the whole core Secret as JSON cannot be pushed; name a key");
      if (remoteRef.property !== undefined)
        notes.block(`${at}.remoteRef.property`, "an entry of the vault is written as a whole");
      if (vaultName === undefined || secretKey === undefined) return [];
      return [{ key: keys.beside(secretKey), secretKey, vaultName }];
    });
    if (notes.blocked || source === undefined || pushed.length === 0) return;
    const isTaken = this.#manifests.some(
      (each) =>
        isOfEso(each) &&
        each.kind === "ExternalSecret" &&
        each.metadata.name === manifest.metadata.name &&
        this.#options.tenancy.namespaceOf(each) === namespace,
    );
    const name = isTaken ? `${manifest.metadata.name}-push` : manifest.metadata.name;
    const entries = pushed.map(({ key, secretKey }) => ({ key, secretRef: { name: source, key: secretKey } }));
    const secret = secretOf({ ...tenant, namespace, name, entries }, notes);
    if (secret === undefined) return;
    this.#objects.push(secret);
    const mappings = pushed.map(({ key, vaultName }) => ({ key, name: vaultName }));
    const seconds = Math.max(LEAST_SECONDS, secondsOf(spec.refreshInterval ?? DEFAULT_INTERVAL) ?? 0);
    for (const store of stores) {
      if (store !== undefined) this.#share("Push", namespace, store, { secret: name, mappings, seconds });
    }
    notes.step(
      "spec.data",
      "the vault's entries were written by the External Secrets Operator, and MazeVault writes over nothing that is not its own (TargetNotOwned): delete the PushSecret, then delete and purge the entries, or give them other names in spec.mappings of the SyncRule",
    );
  }

  #share(direction: Direction, namespace: string, { vault }: Store, share: Share): void {
    if (share.mappings.length === 0) return;
    const id = [direction, namespace, vault].join(" ");
    this.#shares.set(id, [...(this.#shares.get(id) ?? []), share]);
  }

  /** One rule, or more where one cannot hold them all. */
  #rules(of: string, shares: readonly Share[]): void {
    const [direction = "", namespace = "", vault = ""] = of.split(" ");
    const { project, environment } = this.#options.tenancy.of(namespace);
    const groups: Share[][] = [];
    for (const share of shares) {
      const fits = groups.find((group) => fitsInto(group, share));
      if (fits === undefined) groups.push([share]);
      else fits.push(share);
    }
    for (const [index, group] of groups.entries()) {
      const name = `${vault}-${direction.toLowerCase()}${index === 0 ? "" : `-${index + 1}`}`;
      const spec = {
        projectRef: { name: project },
        environment,
        secrets: { names: group.map(({ secret }) => secret) },
        direction,
        mappings: group.flatMap(({ secret, mappings }) => mappings.map((mapping) => ({ secret, ...mapping }))),
        target: { keyVault: { ref: { name: vault } } },
        interval: durationOf(Math.min(...group.map(({ seconds }) => seconds))),
      };
      const notes = new Notes({ kind: "SyncRule", namespace, name });
      const rule = object("SyncRule", { name, namespace }, spec, syncRuleSpec, notes);
      if (rule !== undefined) this.#objects.push(rule);
      this.#findings.push(...notes.findings);
    }
  }
}

/** Key Vault ignores case, and a rule has each name once. */
function fitsInto(group: readonly Share[], { mappings }: Share): boolean {
  const taken = group.flatMap((each) => each.mappings.map(({ name }) => name.toLowerCase()));
  return (
    group.length < MOST_NAMES &&
    taken.length + mappings.length <= MOST_MAPPINGS &&
    mappings.every(({ name }) => !taken.includes(name.toLowerCase()))
  );
}

const isStore = ({ apiVersion, kind }: Manifest): boolean =>
  apiVersion.startsWith(`${GROUP}/`) && (kind === "SecretStore" || kind === "ClusterSecretStore");

const notesOf = ({ kind, metadata: { namespace, name } }: Manifest): Notes => new Notes({ kind, namespace, name });

const WITHOUT_EQUAL: Readonly<Record<string, string>> = {
  ClusterExternalSecret:
    "the ExternalSecrets that it has made are converted; kubectl get externalsecrets -A shows them",
  ClusterPushSecret: "the PushSecrets that it has made are converted; kubectl get pushsecrets -A shows them",
  default: "it has no equal; values that are generated are entries with generate",
};

function parsed<S extends z.ZodType>(schema: S, { spec }: Manifest, notes: Notes): z.output<S> | undefined {
  const { success, data, error } = schema.safeParse(spec);
  if (!success) {
    for (const { path, message } of error.issues) notes.block(fieldPath("spec", path), message);
    return undefined;
  }
  for (const field of unknownFields(spec, data, "spec")) notes.lost(field, UNKNOWN);
  return data;
}

function refreshSeconds(
  { refreshPolicy = "Periodic", refreshInterval = DEFAULT_INTERVAL }: ExternalSecretSpec,
  notes: Notes,
): number {
  const seconds = secondsOf(refreshInterval);
  if (seconds === undefined) notes.block("spec.refreshInterval", `${refreshInterval} is no duration`);
  if (refreshPolicy !== "Periodic" || seconds === 0) {
    notes.lost(
      refreshPolicy === "Periodic" ? "spec.refreshInterval" : "spec.refreshPolicy",
      "a change in the vault is taken over, which was not so before; to stop that, take the Secret out of the SyncRule's spec.secrets and spec.mappings once it is Ready",
    );
    return secondsOf(DEFAULT_INTERVAL) ?? LEAST_SECONDS;
  }
  if (seconds !== undefined && seconds < LEAST_SECONDS)
    notes.remark("spec.refreshInterval", `the shortest interval is ${LEAST_SECONDS}s`);
  return Math.max(LEAST_SECONDS, seconds ?? LEAST_SECONDS);
}

function refusedToPush(spec: PushSecretSpec, notes: Notes): void {
  const { selector, template, dataTo, updatePolicy = "Replace", deletionPolicy = "None" } = spec;
  if (selector.generatorRef !== undefined)
    notes.block("spec.selector.generatorRef", "use an entry with generate, which a SyncRule pushes");
  else if (selector.secret?.name === undefined) notes.block("spec.selector.secret", "one core Secret must be named");
  if (template !== undefined) notes.block("spec.template", "write what it gives as entries with template");
  if (dataTo !== undefined) notes.block("spec.dataTo", "name each key in spec.data");
  if (updatePolicy !== "Replace")
    notes.block(
      "spec.updatePolicy",
      "Push writes what is here; for values that the vault decides there is direction Pull",
    );
  if (deletionPolicy !== "None")
    notes.lost(
      "spec.deletionPolicy",
      "what was pushed stays in the vault when the Secret is deleted; set None before the PushSecret is deleted, since it takes them along",
    );
  if ((spec.data ?? []).length === 0 && dataTo === undefined) notes.block("spec.data", "it names no key");
  for (const [index, { metadata, conversionStrategy = "None" }] of (spec.data ?? []).entries()) {
    if (metadata != null)
      notes.lost(`spec.data[${index}].metadata`, "tags and expiry of the vault's entry are not set");
    if (conversionStrategy !== "None")
      notes.lost(`spec.data[${index}].conversionStrategy`, "keys are taken as they are");
  }
}

/** How the core Secret changes hands: it must not go with its owner. */
function handover(
  { metadata: { name, ownerReferences } }: Manifest,
  namespace: string,
  { creationPolicy = "Owner", deletionPolicy = "Retain" }: NonNullable<ExternalSecretSpec["target"]>,
  secretName: string,
  notes: Notes,
): void {
  const resource = `externalsecrets.${GROUP}`;
  if (deletionPolicy !== "Retain") {
    notes.remark(
      "spec.target.deletionPolicy",
      "what is deleted in the vault keeps its value here, and the SyncRule says so",
    );
  }
  if (deletionPolicy === "Delete") {
    notes.step(
      "spec.target.deletionPolicy",
      `before it is deleted: kubectl -n ${namespace} patch ${resource} ${name} --type=merge -p '{"spec":{"target":{"deletionPolicy":"Retain"}}}'`,
    );
  }
  for (const owner of (ownerReferences ?? []).filter(({ controller }) => controller === true)) {
    notes.step(
      "metadata.ownerReferences",
      `${owner.kind} ${owner.name} makes it again when it is deleted; delete that first, with --cascade=orphan`,
    );
  }
  if (creationPolicy === "None") return;
  notes.step(
    "metadata.name",
    `when what is written here is applied: kubectl -n ${namespace} delete ${resource} ${name} --cascade=orphan (without that option Kubernetes deletes core Secret ${secretName} too)`,
  );
}
