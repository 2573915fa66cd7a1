/** What a gateway holds of its primary, without values, as every replica of it has it in memory: judged as a whole at each look. */
import type { AccessPolicy } from "../../crds/accesspolicy.ts";
import { API_VERSION, type ObjectMeta } from "../../crds/common.ts";
import type { Project } from "../../crds/project.ts";
import { type AccessSource, policyKeys, projectKeys } from "../access/policy.ts";
import { Unavailable } from "../errors.ts";
import type { ReplicaState, ReplicaStore } from "../ports/replica-store.ts";
import type { FleetKeys } from "./authenticity.ts";
import {
  certificateKey,
  type Digested,
  digested,
  fold,
  isCertificateKey,
  isSecretKey,
  isValuedKey,
  noDigest,
  type PlaceOfItem,
  type ReplicatedCertificate,
  type ReplicatedProject,
  type ReplicatedSecret,
  replicatedCertificate,
  replicatedPolicy,
  replicatedProject,
  replicatedSecret,
  secretKey,
} from "./replica-item.ts";
import { assertState } from "./replica-seal.ts";

export interface HeldItem {
  readonly item: Digested;
  /** Its values are here. */
  readonly valued: boolean;
}

export interface HeldSecret extends HeldItem {
  readonly secret: ReplicatedSecret;
}

export interface HeldCertificate extends HeldItem {
  readonly certificate: ReplicatedCertificate;
}

export class ReplicaDirectory implements AccessSource {
  readonly #store: Pick<ReplicaStore, "read">;
  readonly #keys: FleetKeys;
  #state: ReplicaState | undefined;
  #items = new Map<string, HeldItem>();
  #digest = noDigest();
  /** Read from their bodies when they are first asked for. */
  readonly #secrets = new WeakMap<HeldItem, HeldSecret>();
  readonly #certificates = new WeakMap<HeldItem, HeldCertificate>();
  #grants: Grants = new Grants([]);
  #looking: Promise<void> | undefined;
  #next: Promise<void> | undefined;

  constructor(store: Pick<ReplicaStore, "read">, keys: FleetKeys) {
    this.#store = store;
    this.#keys = keys;
  }

  /** Of the last look. */
  get state(): ReplicaState | undefined {
    return this.#state;
  }

  /** Everything is here that is held when this is called. @throws Unavailable TamperDetected, DatabaseUnavailable */
  look(): Promise<void> {
    // One that is under way may have read before; those that come meanwhile share the one after it.
    this.#next ??= (this.#looking ?? Promise.resolve())
      .catch(() => {})
      .then(() => {
        this.#looking = this.#next;
        this.#next = undefined;
        return this.#look();
      });
    return this.#next;
  }

  #forget(): void {
    this.#state = undefined;
    this.#items = new Map();
    this.#digest = noDigest();
    this.#grants = new Grants([]);
  }

  items(): ReadonlyMap<string, HeldItem> {
    return this.#items;
  }

  get secrets(): number {
    let secrets = 0;
    for (const key of this.#items.keys()) if (isSecretKey(key)) secrets += 1;
    return secrets;
  }

  find(place: PlaceOfItem): HeldSecret | undefined {
    const held = this.#items.get(secretKey(place));
    return held && this.#secret(held);
  }

  *list(): Generator<HeldSecret> {
    for (const [key, held] of this.#items) if (isSecretKey(key)) yield this.#secret(held);
  }

  findCertificate(place: PlaceOfItem): HeldCertificate | undefined {
    const held = this.#items.get(certificateKey(place));
    return held && this.#certificate(held);
  }

  *listCertificates(): Generator<HeldCertificate> {
    for (const [key, held] of this.#items) if (isCertificateKey(key)) yield this.#certificate(held);
  }

  project(name: string): Project | undefined {
    return this.#grants.projects.get(name);
  }

  projects(): Iterable<Project> {
    return this.#grants.projects.values();
  }

  namespace(name: string): { readonly metadata: ObjectMeta } | undefined {
    return this.#grants.namespaces.get(name);
  }

  policiesBy(key: string): readonly AccessPolicy[] {
    return this.#grants.policiesBy.get(key) ?? [];
  }

  projectsBy(key: string): readonly Project[] {
    return this.#grants.projectsBy.get(key) ?? [];
  }

  async #look(): Promise<void> {
    const since = this.#state?.revision ?? 0n;
    const read = await this.#store.read(since);
    if (read === undefined) {
      this.#forget();
      return;
    }
    const { state, items } = read;
    // The same revision may have been put back with another content.
    if (this.#state !== undefined && state.revision === since && state.mac.equals(this.#state.mac)) return;
    assertState(this.#keys, state);
    if (since > 0n && state.revision > since) {
      const changed = items.map(({ key, body, valued }) => ({ item: digested(key, body), valued }));
      const digest = Buffer.from(this.#digest);
      for (const { item } of changed) {
        const before = this.#items.get(item.key);
        if (before !== undefined) fold(digest, before.item);
        fold(digest, item);
      }
      if (digest.equals(state.digest)) {
        for (const held of changed) this.#items.set(held.item.key, held);
        this.#digest = digest;
        this.#state = state;
        if (items.some(isGrant)) this.#grants = grantsOf(this.#items);
        return;
      }
    }
    await this.#readAll();
  }

  /** Also where something was removed, which nothing tells of. What was held is served until the new whole was judged. */
  async #readAll(): Promise<void> {
    const read = await this.#store.read(0n);
    if (read === undefined) {
      this.#forget();
      return;
    }
    const items = new Map<string, HeldItem>();
    const digest = noDigest();
    for (const { key, body, valued } of read.items) {
      const item = digested(key, body);
      items.set(key, { item, valued });
      fold(digest, item);
    }
    try {
      assertState(this.#keys, read.state);
      if (!digest.equals(read.state.digest))
        throw new Unavailable(
          "TamperDetected",
          "the replica lacks items, or has others than its state says; see the runbook",
        );
      this.#grants = grantsOf(items);
    } catch (error) {
      this.#forget();
      throw error;
    }
    this.#items = items;
    this.#digest = digest;
    this.#state = read.state;
  }

  #secret(held: HeldItem): HeldSecret {
    const known = this.#secrets.get(held);
    if (known !== undefined) return known;
    const { item, valued } = held;
    const secret = { secret: replicatedSecret.parse(JSON.parse(item.body)), item, valued };
    this.#secrets.set(held, secret);
    return secret;
  }

  #certificate(held: HeldItem): HeldCertificate {
    const known = this.#certificates.get(held);
    if (known !== undefined) return known;
    const certificate = { ...held, certificate: replicatedCertificate.parse(JSON.parse(held.item.body)) };
    this.#certificates.set(held, certificate);
    return certificate;
  }
}

const grantsOf = (items: ReadonlyMap<string, HeldItem>): Grants =>
  new Grants([...items.values()].map(({ item }) => item).filter(isGrant));

const isGrant = ({ key }: { readonly key: string }): boolean => !isValuedKey(key);

/** The grants in the form that access is decided from, see `core/access/policy.ts`. */
class Grants {
  readonly projects = new Map<string, Project>();
  readonly namespaces = new Map<string, { readonly metadata: ObjectMeta }>();
  readonly policiesBy = new Map<string, AccessPolicy[]>();
  readonly projectsBy = new Map<string, Project[]>();

  constructor(items: readonly Digested[]) {
    for (const { key, body } of items) {
      const content: unknown = JSON.parse(body);
      if (key.startsWith("project/")) this.#addProject(replicatedProject.parse(content));
      else if (key.startsWith("policy/")) this.#addPolicy(content);
    }
  }

  #addProject({ name, environments, namespaces, access }: ReplicatedProject): void {
    const project = {
      apiVersion: API_VERSION,
      kind: "Project",
      metadata: metadataOf(name),
      spec: {
        environments: environments.map((each) => ({ name: each })),
        namespaces: namespaces.map((namespace) => ({ name: namespace.name, environments: namespace.environments })),
        access: access as NonNullable<Project["spec"]["access"]>,
      },
    } satisfies Project;
    this.projects.set(name, project);
    for (const namespace of namespaces)
      this.namespaces.set(namespace.name, { metadata: { ...metadataOf(namespace.name), uid: namespace.uid } });
    for (const key of projectKeys(project)) add(this.projectsBy, key, project);
  }

  #addPolicy(content: unknown): void {
    const { namespace, name, subjects, rules } = replicatedPolicy.parse(content);
    const policy: AccessPolicy = {
      apiVersion: API_VERSION,
      kind: "AccessPolicy",
      metadata: { ...metadataOf(name), namespace },
      spec: { subjects, rules: rules as AccessPolicy["spec"]["rules"] },
    };
    for (const key of policyKeys(policy)) add(this.policiesBy, key, policy);
  }
}

const metadataOf = (name: string): ObjectMeta => ({ name, uid: "", resourceVersion: "", generation: 1 });

function add<T>(index: Map<string, T[]>, key: string, value: T): void {
  const found = index.get(key);
  if (found === undefined) index.set(key, [value]);
  else if (!found.includes(value)) found.push(value);
}
