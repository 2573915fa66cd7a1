import {
  createPrivateKey,
  createPublicKey,
  createSecretKey,
  hkdfSync,
  type KeyObject,
  randomBytes,
  randomUUID,
} from "node:crypto";
import type { SigningKey, SigningKeys } from "../audit/checkpoint.ts";
import { Fenced, Unavailable } from "../errors.ts";
import { failpoint } from "../failpoints.ts";
import type { Actor, AuditEntry } from "../ports/audit-log.ts";
import {
  type KeyPurpose,
  KeyReplaced,
  type KeyStore,
  type Rewrap,
  type RootKey,
  type RotatedPurpose,
  type WrappedKey,
} from "../ports/key-store.ts";
import type { Unled, Writer } from "../ports/vault-store.ts";
import { importKey, KEY_BYTES, keyContext, openOrTampered } from "./envelope.ts";
import { InstallationKeys, type RootKeys, rootOf } from "./installation-keys.ts";
import { type PrivateSealingKey, privateSealingKey, signingKey } from "./sealing.ts";
import { WrappingKey } from "./wrapping-key.ts";

/** Keys of one project, unwrapped. */
export interface ProjectKeys {
  /** Of the key that wraps new data keys; from 1. */
  readonly version: number;
  /** Wraps new data keys. */
  readonly current: WrappingKey;
  readonly fingerprint: KeyObject;
  readonly pointer: KeyObject;
  /** A version of the project key, for data keys that it wrapped. */
  byId(id: string): KeyObject;
  has(id: string): boolean;
}

/** Keys that wrap the data keys of certificates' private keys, unwrapped. */
export interface PkiKeys {
  /** Wraps new data keys. */
  readonly current: WrappingKey;
  /** The key that wrapped a data key. */
  byId(id: string): KeyObject;
}

/** Keys that open what was sealed for one project, unwrapped. */
export interface SealingKeys {
  /** Whose public half is handed out. */
  readonly current: PrivateSealingKey;
  byId(id: string): PrivateSealingKey | undefined;
}

/** A key of the installation that wraps nothing, unwrapped. */
export interface InstallationKey {
  readonly id: string;
  /** From 1. */
  readonly version: number;
  readonly createdAt: Date;
  readonly key: KeyObject;
}

/** Before anybody led: the installation's own keys are made by whichever replica starts first. */
const BEFORE_LEADERSHIP: Writer = { epoch: 0n };

/**
 * Root key -> installation key -> project keys -> sealing keys. Each key is made on first use; of replicas that do so at once, the store
 * lets one win and the others use the winner's. Unwrapped keys stay in memory as KeyObjects, which do not print.
 */
export class KeyRing implements SigningKeys {
  readonly installationId: string;
  /** Authenticates audit rows. */
  readonly auditKey: KeyObject;
  /** Keys digests of what the PKI is given and does not keep. */
  readonly pkiFingerprint: KeyObject;
  /** Authenticates which certificates are revoked. */
  readonly pkiStatus: KeyObject;
  /** Authenticates bootstrap tokens, and requests for certificates of the fleet. */
  readonly fleet: KeyObject;
  /** Seals what gateways are asked to do, and what comes of it. */
  readonly tasks: KeyObject;
  /** Authenticates which cluster the database belongs to, and whose place its objects take. */
  readonly home: KeyObject;
  /** What must be told to the audit record about keys that this start made, once it can be written. */
  readonly created: readonly AuditEntry[];
  readonly #store: KeyStore;
  readonly #roots: RootKeys;
  readonly #installation: InstallationKeys;
  readonly #projects = new Map<string, Promise<ProjectKeys | undefined>>();
  /**
   * Versions of project keys by id, by project. What was replaced stays, as of the installation key; and what a version
   * has reserved of its uses stays with it, however often the project is read again.
   */
  readonly #unwrapped = new Map<string, Map<string, WrappingKey>>();
  /** Versions of the audit signing key, by id. */
  readonly #signing = new Map<string, SigningKey>();
  #pki: Promise<PkiKeys> | undefined;

  private constructor(
    store: KeyStore,
    installationId: string,
    roots: RootKeys,
    installation: InstallationKeys,
    auditKey: KeyObject,
    created: readonly AuditEntry[],
  ) {
    this.#store = store;
    this.installationId = installationId;
    this.#roots = roots;
    this.#installation = installation;
    this.auditKey = auditKey;
    // Derived, since nothing is ever opened with it: were it another one, keystores would be written once more.
    this.pkiFingerprint = derivedKey(auditKey, installationId, "mazevault pki fingerprint");
    // From the same key as what it is compared with: the MACs of the audit rows.
    this.pkiStatus = derivedKey(auditKey, installationId, "mazevault pki status");
    // Derived, since what it authenticates lasts for a day at most.
    this.fleet = derivedKey(auditKey, installationId, "mazevault fleet");
    // Derived, since what it seals lasts for minutes.
    this.tasks = derivedKey(auditKey, installationId, "mazevault tasks");
    // From the same key as the audit rows, which its generations are compared with.
    this.home = derivedKey(auditKey, installationId, "mazevault home");
    this.created = created;
  }

  /**
   * Throws `Unavailable("KeyUnavailable")` when the root key is not the one that the installation was made with.
   *
   * @param previous the root key that is being replaced: either of the two opens what it wrapped
   */
  static async open(store: KeyStore, root: RootKey, previous?: RootKey): Promise<KeyRing> {
    const installationId = await store.installationId();
    const roots = { current: root, ...(previous && { previous }) };
    const created: AuditEntry[] = [];
    await findOrInsert(store, "Installation", created, async (key) =>
      root.wrap(key.material, keyContext(installationId, { ...key, wrappedBy: root.id })).then((wrapped) => ({
        wrappedBy: root.id,
        wrapped,
      })),
    );
    const installation = await InstallationKeys.open(store, installationId, roots);
    const audit = await findOrInsert(store, "Audit", created, async (key) => {
      const { current } = installation;
      const context = keyContext(installationId, { ...key, wrappedBy: current.id });
      return { wrappedBy: current.id, wrapped: await current.wrap(BEFORE_LEADERSHIP, key.material, context) };
    });
    const auditKey = importKey(openKey((await installation.byId(audit.wrappedBy)).key, installationId, audit));
    return new KeyRing(store, installationId, roots, installation, auditKey, created);
  }

  get rootId(): string {
    return this.#roots.current.id;
  }

  /** The installation's keys for private keys of certificates, made by who leads where they do not exist yet. */
  pki(writer: Writer | Unled): Promise<PkiKeys> {
    this.#pki ??= this.#makePki(writer).catch((error: unknown) => {
      this.#pki = undefined;
      throw error;
    });
    return this.#pki;
  }

  /**
   * The project's sealing keys, made where they do not exist yet. Read each time, since they are seldom needed and another
   * replica may add one.
   */
  async sealing(writer: Writer, project: string): Promise<SealingKeys> {
    await this.#insert(writer, "Sealing", project, {
      wrapping: async () => (await this.project(writer, project)).current,
      reload: () => this.reloadProject(project),
    });
    const existing = await this.existingSealing(project);
    if (existing === undefined) throw disappeared("Sealing");
    return existing;
  }

  /** The project's sealing keys; undefined while there are none. */
  async existingSealing(project: string): Promise<SealingKeys | undefined> {
    let keys = await this.existingProject(project);
    if (keys === undefined) return undefined;
    let versions = await this.#store.load("Sealing", project);
    if (!versions.every(({ wrappedBy }) => keys?.has(wrappedBy))) {
      keys = await this.reloadProject(project);
      versions = await this.#store.load("Sealing", project);
    }
    const { byId } = keys;
    const opened = await Promise.all(
      versions.map((key) => privateSealingKey(key.id, openKey(byId(key.wrappedBy), this.installationId, key))),
    );
    const current = opened.at(-1);
    return current && { current, byId: (id) => opened.find((key) => key.id === id) };
  }

  /** Signs what the installation states to those outside; made where it does not exist yet. */
  async signing(writer: Writer): Promise<KeyObject> {
    await this.#insert(writer, "Signing", "");
    const existing = await this.existingSigning();
    if (existing === undefined) throw disappeared("Signing");
    return existing;
  }

  /** As `signing`; undefined while there is none. */
  async existingSigning(): Promise<KeyObject | undefined> {
    const key = (await this.#store.load("Signing", "")).at(-1);
    return key && signingKey(await this.#open(key));
  }

  /** Oldest first; none before `makeIdentityKey` was called. Read from the store each time. */
  async identityKeys(purpose: "Identity" | "Token"): Promise<readonly InstallationKey[]> {
    const versions = await this.#store.load(purpose, "");
    return Promise.all(
      versions.map(async (key) => ({
        id: key.id,
        version: key.version,
        createdAt: key.createdAt,
        key: await this.#unwrap(key),
      })),
    );
  }

  /** Makes this version where it does not exist yet. */
  async makeIdentityKey(writer: Writer, purpose: "Identity" | "Token", version: number): Promise<void> {
    await this.#insert(writer, purpose, "", { version });
  }

  /** Read from the store each time, since another replica may have made one: it is asked for about once a minute. */
  async auditSigning(writer?: Writer): Promise<readonly SigningKey[]> {
    if (writer !== undefined) await this.#insert(writer, "AuditSigning", "");
    return Promise.all((await this.#store.load("AuditSigning", "")).map((key) => this.#signingKey(key)));
  }

  /** Makes another version of the audit signing key, to which the next checkpoint hands over. */
  async rotateAuditSigning(writer: Writer): Promise<number> {
    const version = ((await this.auditSigning(writer)).at(-1)?.version ?? 0) + 1;
    return (await this.#insert(writer, "AuditSigning", "", { version })).version;
  }

  async #signingKey(key: WrappedKey): Promise<SigningKey> {
    const known = this.#signing.get(key.id);
    if (known !== undefined) return known;
    const seed = await this.#unwrap(key);
    const privateKey = ed25519(seed.export());
    const { version, createdAt } = key;
    const signing = { version, createdAt, privateKey, publicKey: createPublicKey(privateKey) };
    this.#signing.set(key.id, signing);
    return signing;
  }

  /** The project's keys, made where they do not exist yet. */
  async project(writer: Writer, project: string): Promise<ProjectKeys> {
    const existing = await this.existingProject(project);
    if (existing !== undefined) return existing;
    const creating = this.#cached(project, () => this.#createProject(writer, project));
    return creating as Promise<ProjectKeys>;
  }

  /** The project's keys; undefined when nothing was ever stored for it. */
  async existingProject(project: string): Promise<ProjectKeys | undefined> {
    const cached = await this.#projects.get(project);
    return cached ?? this.#cached(project, () => this.#loadProject(project));
  }

  /** The keys of a project that has some, as they are now: another version of its key was made. */
  async reloadProject(project: string): Promise<ProjectKeys> {
    const keys = await this.#cached(project, () => this.#loadProject(project));
    if (keys === undefined)
      throw new Unavailable("TamperDetected", `project ${project} has lost its keys; see the runbook`);
    return keys;
  }

  /**
   * Makes another version of the project key, which wraps from now on. False: one was made before, what its predecessor
   * wraps is still being wrapped anew, and it has uses left.
   */
  async rotateProject(writer: Writer | Unled, project: string, actor: Actor): Promise<boolean> {
    const { version } = await this.#newest("Project", project);
    const { wrapping, reload } = this.#byInstallation;
    const rotated = await withNewest(reload, async () =>
      this.#rotate(writer, newKey("Project", project, version + 1), await wrapping(), actor),
    );
    await this.reloadProject(project);
    return rotated;
  }

  /** As `rotateProject`, of the installation key. Throws `KeyReplaced` while the root key is being replaced. */
  async rotateInstallation(writer: Writer | Unled, actor: Actor): Promise<boolean> {
    const { version } = await this.#newest("Installation", "");
    const { current } = this.#roots;
    const wrapping = {
      id: current.id,
      wrap: (_: Writer | Unled, plaintext: Buffer, context: Buffer) => current.wrap(plaintext, context),
    };
    const rotated = await this.#rotate(writer, newKey("Installation", "", version + 1), wrapping, actor);
    await this.#installation.reload();
    return rotated;
  }

  /** The newest version of the installation key, as it is now. */
  async newestInstallation(): Promise<WrappingKey> {
    await this.#installation.reload();
    return this.#installation.current;
  }

  /** A key of the hierarchy, wrapped by `to` instead of `from`. */
  async rewrapped(writer: Writer, key: WrappedKey, from: KeyObject, to: WrappingKey): Promise<Rewrap> {
    const material = openKey(from, this.installationId, key);
    try {
      const context = keyContext(this.installationId, { ...key, wrappedBy: to.id });
      return { id: key.id, before: key.wrapped, after: await to.wrap(writer, material, context) };
    } finally {
      material.fill(0);
    }
  }

  /** A version of the installation key. */
  async installationKey(id: string): Promise<KeyObject> {
    return (await this.#installation.byId(id)).key;
  }

  /** Wraps each version of the installation key that another root key wraps by the one in use; returns those that it did. */
  async replaceRoot(writer: Writer): Promise<readonly WrappedKey[]> {
    const { current } = this.#roots;
    const versions = await this.#store.load("Installation", "");
    const replaced = versions.filter(({ wrappedBy }) => wrappedBy !== current.id);
    for (const key of replaced) {
      const before = rootOf(this.#roots, key);
      const material = await before.unwrap(key.wrapped, keyContext(this.installationId, key));
      const context = keyContext(this.installationId, { ...key, wrappedBy: current.id });
      const after = await current.wrap(material, context);
      // What opens is only given up for what does.
      const opens = (await current.unwrap(after, context)).equals(material);
      material.fill(0);
      if (!opens) throw new Unavailable("KeyUnavailable", `root key ${current.id} does not open what it wraps`);
      await this.#store.rewrap(
        writer,
        before.id,
        current.id,
        [{ id: key.id, before: key.wrapped, after }],
        [keyEntry("KeysRewrapped", key, undefined, { from: before.id, to: current.id })],
      );
      failpoint("rotation.afterRoot");
    }
    return replaced;
  }

  async #rotate(
    writer: Writer | Unled,
    made: NewKey,
    wrapping: Pick<WrappingKey, "id" | "wrap">,
    actor: Actor,
  ): Promise<boolean> {
    const key = await this.#wrapNew(writer, made, wrapping);
    const rotated = await this.#store.rotate(writer, key, [keyEntry("KeyRotated", key, actor)]);
    failpoint("rotation.afterKey");
    return rotated;
  }

  async #newest(purpose: RotatedPurpose, scope: string): Promise<WrappedKey> {
    const newest = (await this.#store.load(purpose, scope)).at(-1);
    if (newest === undefined) throw disappeared(purpose);
    return newest;
  }

  /** One load or creation at a time for each project, remembered only when it came to something. */
  #cached(project: string, make: () => Promise<ProjectKeys | undefined>): Promise<ProjectKeys | undefined> {
    const making = make().then(
      (keys) => {
        if (keys === undefined && this.#projects.get(project) === making) this.#projects.delete(project);
        return keys;
      },
      (error: unknown) => {
        if (this.#projects.get(project) === making) this.#projects.delete(project);
        throw error;
      },
    );
    this.#projects.set(project, making);
    return making;
  }

  async #loadProject(project: string): Promise<ProjectKeys | undefined> {
    const [[fingerprint], [pointer]] = await Promise.all([
      this.#store.load("Fingerprint", project),
      this.#store.load("Pointer", project),
    ]);
    if (fingerprint === undefined || pointer === undefined) return undefined;
    // Read after the other two, as it was made before them: else a project that is just being made looks as if it had
    // lost its key.
    const versions = await this.#store.load("Project", project);
    return this.#unwrapProject(versions, fingerprint, pointer);
  }

  async #createProject(writer: Writer, project: string): Promise<ProjectKeys> {
    // The project key is first: whoever sees the other two also sees it.
    const standing = await this.#store.load("Project", project);
    const versions = standing.length > 0 ? standing : [await this.#insert(writer, "Project", project)];
    const fingerprint = await this.#insert(writer, "Fingerprint", project);
    const pointer = await this.#insert(writer, "Pointer", project);
    return this.#unwrapProject(versions, fingerprint, pointer);
  }

  async #unwrapProject(
    versions: readonly WrappedKey[],
    fingerprint: WrappedKey,
    pointer: WrappedKey,
  ): Promise<ProjectKeys> {
    const { scope: project } = fingerprint;
    const unwrapped = this.#unwrapped.get(project) ?? new Map<string, WrappingKey>();
    this.#unwrapped.set(project, unwrapped);
    for (const key of versions) {
      if (unwrapped.has(key.id)) continue;
      const opened = new WrappingKey(key.id, await this.#unwrap(key), this.#store);
      // Another read of the project may have been faster.
      if (!unwrapped.has(key.id)) unwrapped.set(key.id, opened);
    }
    const newest = versions.at(-1);
    const current = newest && unwrapped.get(newest.id);
    if (newest === undefined || current === undefined) {
      throw new Unavailable("TamperDetected", `project ${project} has lost its project key; see the runbook`);
    }
    return {
      version: newest.version,
      current,
      fingerprint: await this.#unwrap(fingerprint),
      pointer: await this.#unwrap(pointer),
      has: (id) => unwrapped.has(id),
      byId: (id) => {
        const key = unwrapped.get(id);
        if (key === undefined) {
          throw new Unavailable("TamperDetected", `project ${project} has no key ${id}; see the runbook`);
        }
        return key.key;
      },
    };
  }

  async #makePki(writer: Writer | Unled): Promise<PkiKeys> {
    if (writer.epoch !== undefined) await this.#insert(writer, "Pki", "");
    const versions = await this.#store.load("Pki", "");
    const newest = versions.at(-1);
    if (newest === undefined) throw disappeared("Pki");
    const unwrapped = new Map<string, KeyObject>();
    for (const key of versions) unwrapped.set(key.id, await this.#unwrap(key));
    const byId = (id: string): KeyObject => {
      const key = unwrapped.get(id);
      if (key === undefined) throw new Unavailable("TamperDetected", `there is no Pki key ${id}; see the runbook`);
      return key;
    };
    return { current: new WrappingKey(newest.id, byId(newest.id), this.#store), byId };
  }

  async #insert(
    writer: Writer,
    purpose: KeyPurpose,
    scope: string,
    { version = 1, ...wrapper }: { readonly version?: number } & Partial<Wrapper> = {},
  ): Promise<WrappedKey> {
    const existing = (await this.#store.load(purpose, scope)).find((key) => key.version === version);
    if (existing !== undefined) return existing;
    const { wrapping, reload } = { ...this.#byInstallation, ...wrapper };
    const inserted = await withNewest(reload, async () => {
      const key = await this.#wrapNew(writer, newKey(purpose, scope, version), await wrapping());
      return this.#store.insert(writer, key, [keyEntry("KeyCreated", key)]);
    });
    failpoint("keyring.afterKey");
    return inserted;
  }

  async #wrapNew(
    writer: Writer | Unled,
    { material, ...key }: NewKey,
    wrapping: Pick<WrappingKey, "id" | "wrap">,
  ): Promise<WrappedKey> {
    const wrappedBy = wrapping.id;
    try {
      const wrapped = await wrapping.wrap(writer, material, keyContext(this.installationId, { ...key, wrappedBy }));
      return { ...key, wrappedBy, wrapped, createdAt: new Date() };
    } finally {
      material.fill(0);
    }
  }

  get #byInstallation(): Wrapper {
    return { wrapping: async () => this.#installation.current, reload: () => this.#installation.reload() };
  }

  /** The bytes of a key that the installation key wraps. */
  async #open(key: WrappedKey): Promise<Buffer> {
    const wrapping = await this.#installation.find(key.wrappedBy);
    if (wrapping !== undefined) return openKey(wrapping.key, this.installationId, key);
    // Unless it has been wrapped anew since it was read, and that version is retired.
    const read = (await this.#store.load(key.purpose, key.scope)).find(({ id }) => id === key.id) ?? key;
    return openKey((await this.#installation.byId(read.wrappedBy)).key, this.installationId, read);
  }

  async #unwrap(key: WrappedKey): Promise<KeyObject> {
    return importKey(await this.#open(key));
  }
}

/** What wraps a new key, and how to learn of its successor. */
interface Wrapper {
  readonly wrapping: () => Promise<WrappingKey>;
  readonly reload: () => Promise<unknown>;
}

/** Once more with the keys as they are now, when the one that it wraps with was replaced in the meantime. */
async function withNewest<T>(reload: () => Promise<unknown>, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof KeyReplaced)) throw error;
    await reload();
    return work();
  }
}

const derivedKey = (key: KeyObject, installationId: string, purpose: string): KeyObject =>
  createSecretKey(Buffer.from(hkdfSync("sha256", key, Buffer.from(installationId), purpose, KEY_BYTES)));

interface NewKey {
  readonly id: string;
  readonly purpose: KeyPurpose;
  readonly scope: string;
  readonly version: number;
  readonly material: Buffer;
}

const newKey = (purpose: KeyPurpose, scope: string, version = 1): NewKey => ({
  id: randomUUID(),
  purpose,
  scope,
  version,
  material: randomBytes(KEY_BYTES),
});

export const keyEntry = (
  action: "KeyCreated" | "KeyRetired" | "KeyRotated" | "KeysRewrapped",
  { id, purpose, scope, version }: Pick<WrappedKey, "id" | "purpose" | "scope" | "version">,
  actor: Actor = { kind: "Controller", name: "keyring" },
  details: AuditEntry["details"] = {},
): AuditEntry => ({
  action,
  actor,
  subject: { kind: "Key", id, name: scope === "" ? purpose : `${purpose} ${scope}` },
  outcome: "Success",
  details: { purpose, version, ...details },
});

/** The key of the installation with this purpose. Another replica may make it, and even lead, meanwhile. */
async function findOrInsert(
  store: KeyStore,
  purpose: KeyPurpose,
  created: AuditEntry[],
  wrap: (key: NewKey) => Promise<Pick<WrappedKey, "wrappedBy" | "wrapped">>,
): Promise<WrappedKey> {
  const [existing] = await store.load(purpose, "");
  if (existing !== undefined) return existing;
  const key = newKey(purpose, "");
  try {
    const { material: _, ...named } = key;
    const standing = await store.insert(
      BEFORE_LEADERSHIP,
      { ...named, ...(await wrap(key)), createdAt: new Date() },
      [],
    );
    if (standing.id === key.id) created.push(keyEntry("KeyCreated", key));
    return standing;
  } catch (error) {
    if (!(error instanceof Fenced)) throw error;
    const [theirs] = await store.load(purpose, "");
    if (theirs === undefined) {
      throw new Unavailable("KeyUnavailable", `the installation has no ${purpose} key although it was led before`);
    }
    return theirs;
  } finally {
    key.material.fill(0);
  }
}

const disappeared = (purpose: KeyPurpose): Unavailable =>
  new Unavailable("TamperDetected", `the ${purpose} key disappeared; see the runbook`);

const openKey = (wrappedBy: KeyObject, installationId: string, key: WrappedKey): Buffer =>
  openOrTampered(wrappedBy, key.wrapped, keyContext(installationId, key), `${key.purpose} key ${key.id}`);

/** PKCS #8 of an Ed25519 private key up to its 32 octets, which are any random ones (RFC 8410 7, RFC 8032 5.1.5). */
const ED25519_PKCS8 = Buffer.from("302e020100300506032b657004220420", "hex");

function ed25519(seed: Buffer): KeyObject {
  const der = Buffer.concat([ED25519_PKCS8, seed]);
  seed.fill(0);
  const key = createPrivateKey({ key: der, type: "pkcs8", format: "der" });
  der.fill(0);
  return key;
}
