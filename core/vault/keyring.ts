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
import type { AuditEntry } from "../ports/audit-log.ts";
import type { KeyPurpose, KeyStore, RootKey, WrappedKey } from "../ports/key-store.ts";
import type { Unled, Writer } from "../ports/vault-store.ts";
import { KEY_BYTES, keyContext, openOrTampered } from "./envelope.ts";
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
  /** What must be told to the audit record about keys that this start made, once it can be written. */
  readonly created: readonly AuditEntry[];
  readonly #store: KeyStore;
  readonly #installation: WrappingKey;
  readonly #projects = new Map<string, Promise<ProjectKeys | undefined>>();
  /** Versions of the audit signing key, by id. */
  readonly #signing = new Map<string, SigningKey>();
  #pki: Promise<PkiKeys> | undefined;

  private constructor(
    store: KeyStore,
    installationId: string,
    installation: WrappingKey,
    auditKey: KeyObject,
    created: readonly AuditEntry[],
  ) {
    this.#store = store;
    this.installationId = installationId;
    this.#installation = installation;
    this.auditKey = auditKey;
    // Derived, since nothing is ever opened with it: were it another one, keystores would be written once more.
    this.pkiFingerprint = derivedKey(auditKey, installationId, "mazevault pki fingerprint");
    // From the same key as what it is compared with: the MACs of the audit rows.
    this.pkiStatus = derivedKey(auditKey, installationId, "mazevault pki status");
    this.created = created;
  }

  /** Throws `Unavailable("KeyUnavailable")` when the root key is not the one that the installation was made with. */
  static async open(store: KeyStore, root: RootKey): Promise<KeyRing> {
    const installationId = await store.installationId();
    const created: AuditEntry[] = [];

    const keyOfInstallation = async (): Promise<WrappingKey> => {
      const stored = await findOrInsert(store, "Installation", created, async (key) =>
        root.wrap(key.material, keyContext(installationId, { ...key, wrappedBy: root.id })).then((wrapped) => ({
          wrappedBy: root.id,
          wrapped,
        })),
      );
      if (stored.wrappedBy !== root.id) {
        throw new Unavailable(
          "KeyUnavailable",
          `the installation's key was wrapped by root key ${stored.wrappedBy}, but the configured one is ${root.id}; ` +
            "check that the root key file or passphrase is the one this database was set up with",
        );
      }
      const material = await root.unwrap(stored.wrapped, keyContext(installationId, stored));
      return new WrappingKey(stored.id, importKey(material), store);
    };

    const installation = await keyOfInstallation();
    const audit = await findOrInsert(store, "Audit", created, async (key) => ({
      wrappedBy: installation.id,
      wrapped: await installation.wrap(
        BEFORE_LEADERSHIP,
        key.material,
        keyContext(installationId, { ...key, wrappedBy: installation.id }),
      ),
    }));
    const auditKey = unwrapKey(installation, installationId, audit);
    return new KeyRing(store, installationId, installation, auditKey, created);
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
    const keys = await this.project(writer, project);
    await this.#insert(writer, "Sealing", project, { wrapping: keys.current });
    const existing = await this.existingSealing(project);
    if (existing === undefined) throw disappeared("Sealing");
    return existing;
  }

  /** The project's sealing keys; undefined while there are none. */
  async existingSealing(project: string): Promise<SealingKeys | undefined> {
    const [keys, versions] = await Promise.all([this.existingProject(project), this.#store.load("Sealing", project)]);
    if (keys === undefined) return undefined;
    const opened = await Promise.all(
      versions.map((key) => privateSealingKey(key.id, openKey(keys.byId(key.wrappedBy), this.installationId, key))),
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
    return key && signingKey(openKey(this.#installation.key, this.installationId, key));
  }

  /** Oldest first; none before `makeIdentityKey` was called. Read from the store each time. */
  async identityKeys(purpose: "Identity" | "Token"): Promise<readonly InstallationKey[]> {
    const versions = await this.#store.load(purpose, "");
    return versions.map((key) => ({
      id: key.id,
      version: key.version,
      createdAt: key.createdAt,
      key: unwrapKey(this.#installation, this.installationId, key),
    }));
  }

  /** Makes this version where it does not exist yet. */
  async makeIdentityKey(writer: Writer, purpose: "Identity" | "Token", version: number): Promise<void> {
    await this.#insert(writer, purpose, "", { version });
  }

  /** Read from the store each time, since another replica may have made one: it is asked for about once a minute. */
  async auditSigning(writer?: Writer): Promise<readonly SigningKey[]> {
    if (writer !== undefined) await this.#insert(writer, "AuditSigning", "");
    return (await this.#store.load("AuditSigning", "")).map((key) => this.#signingKey(key));
  }

  /** Makes another version of the audit signing key, to which the next checkpoint hands over. */
  async rotateAuditSigning(writer: Writer): Promise<number> {
    const version = ((await this.auditSigning(writer)).at(-1)?.version ?? 0) + 1;
    return (await this.#insert(writer, "AuditSigning", "", { version })).version;
  }

  #signingKey(key: WrappedKey): SigningKey {
    const known = this.#signing.get(key.id);
    if (known !== undefined) return known;
    const seed = unwrapKey(this.#installation, this.installationId, key);
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
    const version = await this.#insert(writer, "Project", project);
    const fingerprint = await this.#insert(writer, "Fingerprint", project);
    const pointer = await this.#insert(writer, "Pointer", project);
    return this.#unwrapProject([version], fingerprint, pointer);
  }

  #unwrapProject(versions: readonly WrappedKey[], fingerprint: WrappedKey, pointer: WrappedKey): ProjectKeys {
    const unwrapped = new Map(versions.map((key) => [key.id, unwrapKey(this.#installation, this.installationId, key)]));
    const newest = versions.reduce<WrappedKey | undefined>(
      (best, key) => (best === undefined || key.version > best.version ? key : best),
      undefined,
    );
    const newestKey = newest === undefined ? undefined : unwrapped.get(newest.id);
    if (newest === undefined || newestKey === undefined) {
      throw new Unavailable("TamperDetected", `project ${fingerprint.scope} has lost its project key; see the runbook`);
    }
    return {
      version: newest.version,
      current: new WrappingKey(newest.id, newestKey, this.#store),
      fingerprint: unwrapKey(this.#installation, this.installationId, fingerprint),
      pointer: unwrapKey(this.#installation, this.installationId, pointer),
      byId: (id) => {
        const key = unwrapped.get(id);
        if (key === undefined) {
          throw new Unavailable("TamperDetected", `project ${fingerprint.scope} has no key ${id}; see the runbook`);
        }
        return key;
      },
    };
  }

  async #makePki(writer: Writer | Unled): Promise<PkiKeys> {
    if (writer.epoch !== undefined) await this.#insert(writer, "Pki", "");
    const versions = await this.#store.load("Pki", "");
    const newest = versions.at(-1);
    if (newest === undefined) throw disappeared("Pki");
    const unwrapped = new Map(versions.map((key) => [key.id, unwrapKey(this.#installation, this.installationId, key)]));
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
    { version = 1, wrapping = this.#installation }: { readonly version?: number; readonly wrapping?: WrappingKey } = {},
  ): Promise<WrappedKey> {
    const existing = (await this.#store.load(purpose, scope)).find((key) => key.version === version);
    if (existing !== undefined) return existing;
    const key = { ...newKey(purpose, scope, version), wrappedBy: wrapping.id };
    const context = keyContext(this.installationId, key);
    const wrapped = await wrapping.wrap(writer, key.material, context);
    key.material.fill(0);
    const inserted = await this.#store.insert(writer, stored(key, key.wrappedBy, wrapped), [keyCreated(key)]);
    failpoint("keyring.afterKey");
    return inserted;
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

const stored = ({ id, purpose, scope, version }: NewKey, wrappedBy: string, wrapped: Buffer): WrappedKey => ({
  id,
  purpose,
  scope,
  version,
  wrappedBy,
  wrapped,
  createdAt: new Date(),
});

const keyCreated = ({ id, purpose, scope, version }: NewKey): AuditEntry => ({
  action: "KeyCreated",
  actor: { kind: "Controller", name: "keyring" },
  subject: { kind: "Key", id, name: scope === "" ? purpose : `${purpose} ${scope}` },
  outcome: "Success",
  details: { purpose, version },
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
    const { wrappedBy, wrapped } = await wrap(key);
    const standing = await store.insert(BEFORE_LEADERSHIP, stored(key, wrappedBy, wrapped), []);
    if (standing.id === key.id) created.push(keyCreated(key));
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

const unwrapKey = (wrappedBy: WrappingKey, installationId: string, key: WrappedKey): KeyObject =>
  importKey(openKey(wrappedBy.key, installationId, key));

function importKey(material: Buffer): KeyObject {
  const key = createSecretKey(material);
  material.fill(0);
  return key;
}

/** PKCS #8 of an Ed25519 private key up to its 32 octets, which are any random ones (RFC 8410 7, RFC 8032 5.1.5). */
const ED25519_PKCS8 = Buffer.from("302e020100300506032b657004220420", "hex");

function ed25519(seed: Buffer): KeyObject {
  const der = Buffer.concat([ED25519_PKCS8, seed]);
  seed.fill(0);
  const key = createPrivateKey({ key: der, type: "pkcs8", format: "der" });
  der.fill(0);
  return key;
}
