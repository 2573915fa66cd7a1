/** A primary with secrets and certificates, and a gateway that holds a replica of them: all parts but the channel between them, stores in memory. */

import { setImmediate as soon } from "node:timers/promises";
import type { AccessPolicy } from "../../../crds/accesspolicy.ts";
import type { Certificate, CertificateSpec, CertificateStatus } from "../../../crds/certificate.ts";
import type { ObjectMeta } from "../../../crds/common.ts";
import { API_VERSION } from "../../../crds/common.ts";
import type { Project } from "../../../crds/project.ts";
import type { Secret } from "../../../crds/secret.ts";
import { Unavailable } from "../../errors.ts";
import { serialToText } from "../../pki/serial.ts";
import { TestPki, testRootKey } from "../../pki/testing/installation.ts";
import { FakeAuditLog } from "../../ports/fake-audit-log.ts";
import { FakeDatabase } from "../../ports/fake-database.ts";
import { FakeKeyStore } from "../../ports/fake-key-store.ts";
import { FakeReplicaStore } from "../../ports/fake-replica-store.ts";
import { FakeVaultStore } from "../../ports/fake-vault-store.ts";
import type { AuthorityRecord } from "../../ports/pki-store.ts";
import type { ChannelAnswer } from "../../ports/primary-channel.ts";
import type { PrimaryLink } from "../../ports/primary-link.ts";
import type { ReplicaStore } from "../../ports/replica-store.ts";
import { actor, lifecycle } from "../../ports/samples.ts";
import type { SecretHeads } from "../../ports/secret-heads.ts";
import type { NewVersion, Unled, Writer } from "../../ports/vault-store.ts";
import { HeldUids } from "../../recovery/home.ts";
import { Sensitive } from "../../sensitive.ts";
import { KeyRing } from "../../vault/keyring.ts";
import { Vault } from "../../vault/vault.ts";
import type { Member } from "../member.ts";
import type { MembershipStatus } from "../membership.ts";
import { Replica } from "../replica.ts";
import { ReplicaCertificates } from "../replica-certificates.ts";
import { ReplicaDirectory } from "../replica-directory.ts";
import { ReplicaFeed } from "../replica-feed.ts";
import { REPLICA, replicaRequest, replicaValuesRequest } from "../replica-protocol.ts";
import { ReplicaPull } from "../replica-pull.ts";
import type { SelectionView } from "../replica-selection.ts";
import { ReplicaValues } from "../replica-values.ts";

type Namespace = { readonly metadata: ObjectMeta };

const meta = (name: string, namespace?: string): ObjectMeta => ({
  name,
  ...(namespace !== undefined && { namespace }),
  uid: `uid of ${name}`,
  resourceVersion: "1",
  generation: 1,
});

export const memberOf = (environment: string, change: Partial<Member> = {}): Member => ({
  gatewayId: "3f9a4c1e-6a55-4b8f-9d0e-0c9f3f7d2a11",
  name: `gw-${environment.toLowerCase()}`,
  environment,
  role: "primary",
  serialNumber: "01",
  ...change,
});

/** Remembers what was committed, so that it can be put back as it was. */
class RestorableVaultStore extends FakeVaultStore {
  readonly committed: (readonly NewVersion[])[] = [];

  override async commitVersions(writer: Writer | Unled, next: readonly NewVersion[]): Promise<void> {
    await super.commitVersions(writer, next);
    this.committed.push(next);
  }
}

/** The primary's cluster and vault, and what its processes make of them. */
export class PrimaryOfReplicas implements SelectionView {
  readonly held = new HeldUids();
  readonly projectsByName = new Map<string, Project>();
  readonly namespacesByName = new Map<string, Namespace>();
  readonly secretsByKey = new Map<string, Secret>();
  readonly certificatesByKey = new Map<string, Certificate>();
  readonly policies = new Map<string, AccessPolicy>();
  /** Its certificates have a store of their own. */
  readonly pki: TestPki;
  readonly ca: AuthorityRecord;
  database: FakeDatabase;
  store: RestorableVaultStore;
  vault: Vault;
  writer: Writer;
  readonly #keys: KeyRing;
  /** Why its caches are not complete. */
  unready: string | undefined;
  /** Its database was restored, and what it knows of may not be in its cluster yet. */
  recovering = false;
  /** Values that its vault cannot open. */
  readonly closed = new Set<string>();
  feed: ReplicaFeed;
  values: ReplicaValues;

  private constructor(
    { pki, ca }: { readonly pki: TestPki; readonly ca: AuthorityRecord },
    database: FakeDatabase,
    keys: KeyRing,
    writer: Writer,
  ) {
    this.pki = pki;
    this.ca = ca;
    this.#keys = keys;
    this.database = database;
    this.store = new RestorableVaultStore(database);
    this.vault = new Vault({ store: this.store, keys, audit: new FakeAuditLog(database) });
    this.writer = writer;
    [this.feed, this.values] = this.#process();
  }

  static async start(): Promise<PrimaryOfReplicas> {
    const database = new FakeDatabase();
    const keys = await KeyRing.open(new FakeKeyStore(database), testRootKey());
    const writer = { epoch: await database.acquireEpoch("primary") };
    const pki = await TestPki.start();
    return new PrimaryOfReplicas({ pki, ca: await pki.root() }, database, keys, writer);
  }

  /** On the same database and cluster, with nothing in memory. */
  async restart(): Promise<void> {
    await this.feed.stop();
    [this.feed, this.values] = this.#process();
  }

  /** Its database is as it was after so many writes; its cluster is not. Whoever listens there has to connect anew. */
  async restoreDatabase(writes: number): Promise<void> {
    const { committed } = this.store;
    this.database = new FakeDatabase();
    this.writer = { epoch: await this.database.acquireEpoch("primary") };
    this.store = new RestorableVaultStore(this.database);
    for (const next of committed.slice(0, writes)) await this.store.commitVersions(this.writer, next);
    this.vault = new Vault({ store: this.store, keys: this.#keys, audit: new FakeAuditLog(this.database) });
    this.feed.forget();
  }

  /** What gateways of an environment may have, by place, judged by itself. */
  async allowed(gatewayEnvironment: string): Promise<Readonly<Record<string, string>>> {
    const all: Record<string, string> = {};
    for (const { metadata, spec } of this.secretsByKey.values()) {
      const { namespace = "", name } = metadata;
      const { environment } = spec;
      const project = this.projectsByName.get(spec.projectRef.name)?.spec;
      const declared = project?.environments.find((each) => each.name === environment);
      const admitted = project?.namespaces?.some(
        (each) => each.name === namespace && each.environments.includes(environment),
      );
      if (declared?.gatewayEnvironment !== gatewayEnvironment || admitted !== true) continue;
      const namespaceUid = this.namespacesByName.get(namespace)?.metadata.uid ?? "";
      const record = await this.vault.describe({
        project: spec.projectRef.name,
        environment,
        namespace,
        namespaceUid,
        name,
      });
      if (record?.state !== "Active") continue;
      const { values } = await this.vault.open(record, { actor, purpose: "test" });
      all[`${namespace}/${name} ${environment}`] = values.get("password")?.revealText() ?? "";
    }
    return all;
  }

  #process(): [ReplicaFeed, ReplicaValues] {
    const onProblem = () => {};
    const feed = new ReplicaFeed({
      view: this,
      heads: this.#heads,
      unready: () => this.unready,
      isRecovering: () => this.recovering,
      onProblem,
    });
    feed.start();
    const vault = {
      describeAllToOpen: (ids: readonly string[]) => this.vault.describeAllToOpen(ids),
      openAll: async (...[records, options]: Parameters<Vault["openAll"]>) => {
        const opened = await this.vault.openAll(records, options);
        const failure = new Unavailable("VaultUnreachable", "closed");
        return new Map(
          records.map(({ id, identity: { name } }) => [
            id,
            this.closed.has(name) ? failure : (opened.get(id) ?? failure),
          ]),
        );
      },
    };
    const { store, authorities } = this.pki;
    const certificates = new ReplicaCertificates({ view: this, feed, pki: store, authorities, onProblem });
    return [feed, new ReplicaValues({ view: this, feed, vault, certificates, onProblem })];
  }

  get #heads(): SecretHeads {
    return {
      position: () => this.store.position(),
      list: (after, limit) => this.store.list(after, limit),
      changedSince: (position) => this.store.changedSince(position),
    };
  }

  /** Environments: gateways of which get which environment of it; undefined: none. */
  setProject(
    name: string,
    environments: Readonly<Record<string, string | undefined>>,
    spec: Partial<Project["spec"]> = {},
  ): void {
    this.projectsByName.set(name, {
      apiVersion: API_VERSION,
      kind: "Project",
      metadata: meta(name),
      spec: {
        environments: Object.entries(environments).map(([each, gatewayEnvironment]) => ({
          name: each,
          ...(gatewayEnvironment !== undefined && { gatewayEnvironment }),
        })),
        namespaces: [...this.namespacesByName.keys()].map((namespace) => ({
          name: namespace,
          environments: Object.keys(environments),
        })),
        ...spec,
      },
    });
    this.feed.tenantsChanged();
  }

  setNamespace(name: string, change: Partial<ObjectMeta> = {}): void {
    this.namespacesByName.set(name, { metadata: { ...meta(name), ...change } });
    this.feed.tenantsChanged();
  }

  setPolicy(namespace: string, name: string, spec: AccessPolicy["spec"]): void {
    const policy = { apiVersion: API_VERSION, kind: "AccessPolicy", metadata: meta(name, namespace), spec };
    this.policies.set(`${namespace}/${name}`, policy);
    this.feed.grantsChanged();
  }

  setObject(namespace: string, name: string, project: string, environment: string): Secret {
    const secret: Secret = {
      apiVersion: API_VERSION,
      kind: "Secret",
      metadata: meta(name, namespace),
      spec: { projectRef: { name: project }, environment, entries: [{ key: "password", external: {} }] },
    };
    this.secretsByKey.set(`${namespace}/${name}`, secret);
    this.feed.secretChanged(secret);
    return secret;
  }

  /** The object and a new version of it. */
  async put(namespace: string, name: string, project: string, environment: string, value: string): Promise<void> {
    const secret = this.setObject(namespace, name, project, environment);
    const namespaceUid = this.namespacesByName.get(namespace)?.metadata.uid ?? "";
    const identity = { project, environment, namespace, namespaceUid, name };
    await this.vault.prepareProject(this.writer, project);
    const seen = await this.vault.describe(identity);
    await this.vault.put(this.writer, {
      identity,
      entries: secret.spec.entries,
      values: new Map([["password", new Sensitive(value)]]),
      seen,
      readers: undefined,
      lifecycle,
      actor,
    });
    this.feed.hint();
  }

  remove(namespace: string, name: string): void {
    const secret = this.secretsByKey.get(`${namespace}/${name}`);
    this.secretsByKey.delete(`${namespace}/${name}`);
    if (secret !== undefined) this.feed.secretChanged(secret);
  }

  /** The object alone, with what its status tells of the certificate before. */
  setCertificate(
    namespace: string,
    name: string,
    change: Partial<CertificateSpec>,
    status?: CertificateStatus,
  ): Certificate {
    const before = this.certificate(namespace, name);
    const certificate: Certificate = {
      apiVersion: API_VERSION,
      kind: "Certificate",
      metadata: { ...meta(name, namespace), uid: `uid of certificate ${name}` },
      spec: { secretName: name, issuerRef: { kind: "ClusterIssuer", name: "root" }, ...change },
      status: status ?? before?.status ?? {},
    };
    this.certificatesByKey.set(`${namespace}/${name}`, certificate);
    this.feed.certificateChanged(certificate);
    return certificate;
  }

  /** The next revision, for gateways of this environment; its private key in PEM. */
  async issue(namespace: string, name: string, environment: string | undefined, revision = 1): Promise<string> {
    const spec = environment === undefined ? {} : { gateways: { environment } };
    const { uid } = this.setCertificate(namespace, name, spec).metadata;
    const namespaceUid = this.namespacesByName.get(namespace)?.metadata.uid ?? "";
    const requester = { kind: "Certificate", namespace, namespaceUid, name, uid } as const;
    const record = await this.pki.issue(this.ca, uid, revision, { requester });
    const serialNumber = serialToText(Buffer.from(record.serialNumber, "hex"));
    this.setCertificate(namespace, name, spec, { revision, serialNumber });
    const key = await this.pki.authorities.openKey(this.pki.writer, record, { actor, purpose: "test" });
    return key.export({ type: "pkcs8", format: "pem" }).toString();
  }

  removeCertificate(namespace: string, name: string): void {
    const certificate = this.certificate(namespace, name);
    this.certificatesByKey.delete(`${namespace}/${name}`);
    if (certificate !== undefined) this.feed.certificateChanged(certificate);
  }

  /** As the routes of the channel answer a gateway. */
  async answer(member: Member, path: string, body: unknown, signal: AbortSignal): Promise<ChannelAnswer> {
    // Across the channel it is JSON.
    const sent = JSON.parse(JSON.stringify(body)) as unknown;
    try {
      const answer =
        path === REPLICA
          ? await this.feed.changes(member.environment, replicaRequest.parse(sent), signal)
          : { items: await this.values.handOut(member, "192.0.2.7", replicaValuesRequest.parse(sent)) };
      return { status: 200, body: JSON.parse(JSON.stringify(answer)) };
    } catch (error) {
      if (error instanceof Unavailable) return { status: 503, body: { code: error.code } };
      throw error;
    }
  }

  project(name: string): Project | undefined {
    return this.projectsByName.get(name);
  }
  projects(): Iterable<Project> {
    return this.projectsByName.values();
  }
  namespace(name: string): Namespace | undefined {
    return this.namespacesByName.get(name);
  }
  namespaces(): Iterable<Namespace> {
    return this.namespacesByName.values();
  }
  secret(namespace: string, name: string): Secret | undefined {
    return this.secretsByKey.get(`${namespace}/${name}`);
  }
  secrets(): Iterable<Secret> {
    return this.secretsByKey.values();
  }
  certificate(namespace: string, name: string): Certificate | undefined {
    return this.certificatesByKey.get(`${namespace}/${name}`);
  }
  certificates(): Iterable<Certificate> {
    return this.certificatesByKey.values();
  }
  accessPolicies(): Iterable<AccessPolicy> {
    return this.policies.values();
  }
}

/** What becomes of one question: it is lost on its way, or its answer is. */
export type Loss = "question" | "answer" | undefined;

export class GatewayWithReplica {
  readonly member: Member;
  primary: PrimaryOfReplicas;
  readonly database: FakeDatabase;
  readonly keys: KeyRing;
  readonly store: ReplicaStore;
  readonly writer: Writer;
  status: Pick<MembershipStatus, "state" | "identity">;
  offlineLimitMs = 86_400_000;
  now = new Date("2026-03-19T10:00:00.000Z");
  /** Of the questions that follow. */
  readonly losses: Loss[] = [];
  asked: { readonly path: string; readonly body: unknown; readonly answer: ChannelAnswer }[] = [];
  warnings: string[] = [];
  directory: ReplicaDirectory;
  pull: ReplicaPull;
  replica: Replica;

  private constructor(member: Member, primary: PrimaryOfReplicas, ground: Ground) {
    this.member = member;
    this.primary = primary;
    ({ database: this.database, keys: this.keys, store: this.store, writer: this.writer } = ground);
    const { gatewayId, name, environment, role } = member;
    this.status = { state: "Confirmed", identity: { gatewayId, name, environment, role } };
    ({ directory: this.directory, pull: this.pull, replica: this.replica } = this.#process());
  }

  static async start(primary: PrimaryOfReplicas, member: Member, ground?: Ground): Promise<GatewayWithReplica> {
    return new GatewayWithReplica(member, primary, ground ?? (await fakeGround()));
  }

  restart(): void {
    ({ directory: this.directory, pull: this.pull, replica: this.replica } = this.#process());
  }

  #process() {
    const directory = new ReplicaDirectory(this.store, this.keys);
    const { keys, store, offlineLimitMs } = this;
    const now = () => this.now;
    const membership = () => this.status;
    const link: PrimaryLink = { ask: (path, body, { signal }) => this.#ask(path, body, signal) };
    const log = { info: () => {}, warn: (_fields: object, message: string) => void this.warnings.push(message) };
    const pull = new ReplicaPull({ store, directory, keys, link, membership, offlineLimitMs, now, log });
    pull.begin();
    const { environment } = this.member;
    const audit = new FakeAuditLog(this.database);
    const replica = new Replica({ directory, store, keys, audit, membership, environment, offlineLimitMs, now });
    return { directory, pull, replica };
  }

  async #ask(path: string, body: unknown, signal: AbortSignal): Promise<ChannelAnswer> {
    const loss = this.losses.shift();
    if (loss === "question") throw new Unavailable("PrimaryUnreachable", "it did not arrive");
    // Nobody waits here for what does not come.
    const patient = path === REPLICA ? { ...(body as object), waitMs: 0 } : body;
    const answer = await this.primary.answer(this.member, path, patient, signal);
    if (loss === "answer") throw new Unavailable("PrimaryUnreachable", "its answer did not arrive");
    this.asked.push({ path, body, answer });
    return answer;
  }

  /** One round, which may fail. */
  async turn(): Promise<void> {
    await this.pull.turn(this.writer, new AbortController().signal).catch((error: unknown) => {
      if (!(error instanceof Unavailable)) throw error;
    });
  }

  /** Rounds until the primary says that nothing is missing, on what its processes know by then. */
  async settle(): Promise<void> {
    for (let round = 0; round < 500; round += 1) {
      await this.turn();
      const last = this.asked.at(-1);
      const isSame = last?.path === REPLICA && (last.answer.body as { kind?: string }).kind === "Same";
      if (isSame && this.losses.length === 0) return;
      await soon();
    }
    throw new Error("it does not settle");
  }

  /** What it holds of values, by place. */
  async held(): Promise<Readonly<Record<string, string>>> {
    const signed = { actor, purpose: "test" };
    const all: Record<string, string> = {};
    for (const held of await this.replica.list()) {
      const { namespace, name, environment } = held.secret;
      if (!held.valued) {
        all[`${namespace}/${name} ${environment}`] = "(none)";
        continue;
      }
      const { values } = await this.replica.open(held, signed);
      all[`${namespace}/${name} ${environment}`] = values.get("password")?.revealText() ?? "";
    }
    return all;
  }

  /** Private keys that it holds, by place. */
  async keysHeld(): Promise<Readonly<Record<string, string>>> {
    const all: Record<string, string> = {};
    for (const held of await this.replica.listCertificates()) {
      const { namespace, name } = held.certificate;
      if (!held.valued) {
        all[`${namespace}/${name}`] = "(none)";
        continue;
      }
      const { privateKey } = await this.replica.openCertificate(held, { actor, purpose: "test" });
      all[`${namespace}/${name}`] = privateKey?.revealText() ?? "(no key)";
    }
    return all;
  }
}

export interface Ground {
  readonly database: FakeDatabase;
  readonly keys: KeyRing;
  readonly store: ReplicaStore;
  readonly writer: Writer;
}

async function fakeGround(): Promise<Ground & { readonly store: FakeReplicaStore }> {
  const database = new FakeDatabase();
  const keys = await KeyRing.open(new FakeKeyStore(database), testRootKey());
  const writer = { epoch: await database.acquireEpoch("gateway") };
  return { database, keys, store: new FakeReplicaStore(database), writer };
}
