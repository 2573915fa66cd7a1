/**
 * What gateways of an environment may have, and nothing else ever: secrets whose Project names that environment for theirs,
 * certificates that name it themselves in a namespace that a Project admits for it, and the grants on them. A missing name means no
 * gateway. Asked when items are listed, and again when values are handed out.
 */
import { createHash } from "node:crypto";
import type { AccessPolicy } from "../../crds/accesspolicy.ts";
import type { Certificate } from "../../crds/certificate.ts";
import type { ObjectMeta } from "../../crds/common.ts";
import type { Project } from "../../crds/project.ts";
import type { Secret } from "../../crds/secret.ts";
import { admittedEnvironments } from "../access/admission.ts";
import { encodeFields } from "../canonical.ts";
import { MalformedInput } from "../pki/malformed-input.ts";
import { parseSerial } from "../pki/serial.ts";
import type { SecretHead } from "../ports/secret-heads.ts";
import type { SecretIdentity, SecretRecord } from "../ports/vault-store.ts";
import type { HeldUids } from "../recovery/home.ts";
import {
  certificateKey,
  type Digested,
  digested,
  policyKey,
  projectKey,
  type ReplicatedCertificate,
  type ReplicatedPolicy,
  type ReplicatedProject,
  type ReplicatedSecret,
  secretKey,
} from "./replica-item.ts";

/** The caches of the primary's cluster, as far as it takes to tell. */
export interface SelectionView {
  readonly held: Pick<HeldUids, "of">;
  project(name: string): Project | undefined;
  projects(): Iterable<Project>;
  namespace(name: string): { readonly metadata: ObjectMeta } | undefined;
  namespaces(): Iterable<{ readonly metadata: ObjectMeta }>;
  secret(namespace: string, name: string): Secret | undefined;
  secrets(): Iterable<Secret>;
  certificate(namespace: string, name: string): Certificate | undefined;
  certificates(): Iterable<Certificate>;
  accessPolicies(): Iterable<AccessPolicy>;
}

/** Of this secret, where a gateway may have it. */
export interface Selected {
  readonly gatewayEnvironment: string;
  readonly identity: SecretIdentity;
}

const isLive = ({ metadata }: { readonly metadata: ObjectMeta }): boolean => metadata.deletionTimestamp === undefined;

/** Which gateways may have a secret of its object's place; undefined: none. */
export function selected(view: SelectionView, { metadata, spec }: Secret): Selected | undefined {
  const { namespace: inNamespace = "", name } = metadata;
  const project = view.project(spec.projectRef.name);
  const namespace = view.namespace(inNamespace);
  if (project === undefined || !isLive(project) || namespace === undefined || !isLive(namespace)) return undefined;
  const { environment } = spec;
  const gatewayEnvironment = environmentOf(project, environment);
  if (gatewayEnvironment === undefined || !admittedEnvironments(project.spec, factsOf(namespace)).has(environment))
    return undefined;
  const namespaceUid = namespace.metadata.uid;
  const identity = { project: project.metadata.name, environment, namespace: inNamespace, namespaceUid, name };
  return { gatewayEnvironment, identity };
}

/** Of this certificate, where a gateway may have it. */
export interface SelectedCertificate {
  readonly gatewayEnvironment: string;
  readonly certificate: ReplicatedCertificate;
  readonly item: Digested;
}

/**
 * Which gateways may have a certificate; undefined: none. Its namespace may be admitted for environments of several gateways, so it
 * says itself which; that alone does not do either. A CA's key goes nowhere, nor does one whose revocation is asked for.
 */
export function selectedCertificate(
  view: SelectionView,
  { metadata, spec, status = {} }: Certificate,
): SelectedCertificate | undefined {
  const gatewayEnvironment = spec.gateways?.environment;
  const { namespace: inNamespace = "", name } = metadata;
  const namespace = view.namespace(inNamespace);
  if (gatewayEnvironment === undefined || spec.isCA === true || !isLive({ metadata })) return undefined;
  if (namespace === undefined || !isLive(namespace) || !isAdmittedFor(view, gatewayEnvironment, namespace))
    return undefined;
  const { revision, serialNumber, notBefore, notAfter, renewalTime } = status;
  if (revision === undefined || serialNumber === undefined) return undefined;
  const serial = serialHex(serialNumber);
  if (spec.revocations?.some((each) => serialHex(each.serialNumber) === serial)) return undefined;
  const certificate: ReplicatedCertificate = {
    uid: view.held.of("Certificate", metadata),
    namespace: inNamespace,
    namespaceUid: namespace.metadata.uid,
    name,
    issuer: `${spec.issuerRef.kind ?? "Issuer"} ${spec.issuerRef.name}`,
    revision,
    serialNumber,
    ...(notBefore !== undefined && { notBefore }),
    ...(notAfter !== undefined && { notAfter }),
    ...(renewalTime !== undefined && { renewalTime }),
  };
  const item = digested(certificateKey(certificate), JSON.stringify(certificate));
  return { gatewayEnvironment, certificate, item };
}

const isAdmittedFor = (
  view: SelectionView,
  gatewayEnvironment: string,
  namespace: { readonly metadata: ObjectMeta },
): boolean =>
  [...view.projects()].some((project) => {
    if (!isLive(project)) return false;
    const admitted = admittedEnvironments(project.spec, factsOf(namespace));
    return [...admitted].some((environment) => environmentOf(project, environment) === gatewayEnvironment);
  });

/** As the store has it; a serial number that cannot be read is no other's. */
export function serialHex(text: string): string {
  try {
    return parseSerial(text, "serialNumber").toString("hex");
  } catch (error) {
    if (error instanceof MalformedInput) return text;
    throw error;
  }
}

/** Of the gateways that get this environment of the project; undefined: none do. */
const environmentOf = ({ spec }: Project, environment: string): string | undefined =>
  spec.environments.find(({ name }) => name === environment)?.gatewayEnvironment;

/** Environments of gateways that some project names. */
export const gatewayEnvironments = (view: SelectionView): ReadonlySet<string> =>
  new Set(
    [...view.projects()]
      .filter(isLive)
      .flatMap(({ spec }) => spec.environments.flatMap(({ gatewayEnvironment }) => gatewayEnvironment ?? [])),
  );

const SOURCES = ["literal", "generate", "secretRef", "sealed", "external", "template"] as const;

/** Of what is stored and Active; the body has no value, and changes with each. */
export function secretItem({ metadata, spec }: Secret, head: SecretHead): Digested {
  const { identity, currentVersion, generation } = head;
  const body: ReplicatedSecret = {
    id: head.id,
    ...identity,
    version: currentVersion,
    generation: generation.toString(),
    entries: spec.entries.map((entry) => ({
      key: entry.key,
      source: SOURCES.find((source) => entry[source] !== undefined) ?? "unknown",
    })),
    protection: spec.protection ?? "Managed",
    ...(spec.readers !== undefined && {
      readers: spec.readers.map(({ name, publicKey }) => ({ name, publicKey })),
    }),
    values: valuesMark(head),
  };
  return digested(secretKey({ namespace: identity.namespace, name: metadata.name }), JSON.stringify(body));
}

/** Tells whether values are the same, and nothing of them: over fingerprints that are keyed themselves. */
const valuesMark = ({ id, currentVersion, fingerprints }: Omit<SecretHead, "state" | "identity">): string =>
  createHash("sha256")
    .update(
      encodeFields("mazevault replica values", [
        id,
        currentVersion,
        ...fingerprints.flatMap(({ key, fingerprint }) => [key, fingerprint]),
      ]),
    )
    .digest("hex");

export const headOf = ({ id, identity, state, currentVersion, generation, entries }: SecretRecord): SecretHead => ({
  id,
  identity,
  state,
  currentVersion,
  generation,
  fingerprints: entries.map(({ key, fingerprint }) => ({ key, fingerprint })),
});

/** What is granted on what gateways of this environment may have. */
export function grantItems(view: SelectionView, gatewayEnvironment: string): readonly Digested[] {
  const projects = [...view.projects()]
    .filter(isLive)
    .map((project) => replicatedProject(view, project, gatewayEnvironment))
    .filter(({ environments }) => environments.length > 0);
  const known = new Map(projects.map((project) => [project.name, project]));
  const namespaces = new Set(projects.flatMap((project) => project.namespaces.map(({ name }) => name)));
  const policies = [...view.accessPolicies()]
    .filter((policy) => isLive(policy) && namespaces.has(policy.metadata.namespace ?? ""))
    .map((policy) => replicatedPolicy(policy, known))
    .filter(({ rules }) => rules.some(({ environments }) => environments.length > 0));
  return [
    ...projects.map((project) => digested(projectKey(project.name), JSON.stringify(project))),
    ...policies.map((policy) => digested(policyKey(policy), JSON.stringify(policy))),
  ];
}

function replicatedProject(
  view: SelectionView,
  { metadata: { name }, spec }: Project,
  gatewayEnvironment: string,
): ReplicatedProject {
  const own = spec.environments.filter((each) => each.gatewayEnvironment === gatewayEnvironment);
  const environments = own.map((each) => each.name);
  const namespaces = environments.length === 0 ? [] : [...view.namespaces()].filter(isLive);
  return {
    name,
    environments,
    namespaces: namespaces
      .map((namespace) => {
        const admitted = admittedEnvironments(spec, factsOf(namespace));
        const { name: of, uid } = namespace.metadata;
        return { name: of, uid, environments: environments.filter((each) => admitted.has(each)) };
      })
      .filter((namespace) => namespace.environments.length > 0)
      .sort((a, b) => (a.name < b.name ? -1 : 1)),
    access: (spec.access ?? []).map((item) => narrowed(item, environments)) as ReplicatedProject["access"],
  };
}

function replicatedPolicy(
  { metadata: { namespace = "", name }, spec }: AccessPolicy,
  known: ReadonlyMap<string, ReplicatedProject>,
): ReplicatedPolicy {
  return {
    namespace,
    name,
    subjects: spec.subjects as ReplicatedPolicy["subjects"],
    rules: spec.rules.map((rule) => {
      const projects = rule.projects.filter((each) => known.has(each));
      const environments = new Set(projects.flatMap((each) => known.get(each)?.environments ?? []));
      return { ...narrowed(rule, [...environments]), projects };
    }),
  };
}

/** Without what it says of other environments; where nothing is left it keeps its place, since grants are called by it. */
function narrowed<Item extends { readonly environments: readonly string[] }>(
  item: Item,
  environments: readonly string[],
): Omit<Item, "environments"> & { readonly environments: string[] } {
  const left = item.environments.filter((each) => environments.includes(each));
  const empty = { subjects: "subjects" in item ? [] : undefined, verbs: [], environments: [] };
  return left.length > 0 ? { ...item, environments: left } : (empty as unknown as Item & { environments: [] });
}

const factsOf = ({ metadata }: { readonly metadata: ObjectMeta }) => ({
  name: metadata.name,
  uid: metadata.uid,
  labels: metadata.labels ?? {},
});
