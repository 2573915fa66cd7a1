/**
 * Whether everything in the database can be used: each key opens, each value, each private key of a CA and of a certificate; each row
 * that is authenticated is as it was written, and no older than the audit record says; the audit chain is whole. Nothing is written,
 * no value is kept or told. What is wrong is told by name, and holds up nothing else.
 */
import { Unavailable } from "../errors.ts";
import { environmentMac, handledMac, sameMac } from "../fleet/authenticity.ts";
import { Authenticity } from "../identity/authenticity.ts";
import { CaKeys } from "../pki/ca-keys.ts";
import { leafOwner } from "../pki/issuance.ts";
import { importPrivateKey } from "../pki/sealed-key.ts";
import { serialToText } from "../pki/serial.ts";
import { judgeStatus, tampered } from "../pki/status.ts";
import type { AuditLog, AuditVerdict } from "../ports/audit-log.ts";
import type { EnvironmentStore } from "../ports/environment-store.ts";
import type { HandledWrites } from "../ports/handled-writes.ts";
import type { HomeStore } from "../ports/home-store.ts";
import type { IdentityStore } from "../ports/identity-store.ts";
import type { KeyStore } from "../ports/key-store.ts";
import type { CertificateRecord, PkiStore } from "../ports/pki-store.ts";
import { type SecretLocation, UNLED, type VaultStore } from "../ports/vault-store.ts";
import type { KeyRing, PkiKeys } from "../vault/keyring.ts";
import { verifiedRecord } from "../vault/pointer.ts";
import { openVersion } from "../vault/version.ts";
import { judgedBinding, judgedHome } from "./home.ts";
import type { BackupManifest } from "./manifest.ts";

export interface VerificationParts {
  readonly keys: KeyRing;
  readonly keyStore: KeyStore;
  readonly vault: VaultStore;
  readonly pki: PkiStore;
  readonly identity: IdentityStore;
  readonly environments: EnvironmentStore;
  readonly handledWrites: HandledWrites;
  readonly home: HomeStore;
  readonly audit: Pick<AuditLog, "verify">;
}

/** What is counted, as a person reads it. */
export const checkedThings = [
  "keys",
  "secrets",
  "versions",
  "entries",
  "authorities",
  "certificates",
  "privateKeys",
  "users",
  "sessions",
  "apiKeys",
  "environments",
  "gatewayWrites",
  "bindings",
] as const;
export type CheckedThing = (typeof checkedThings)[number];

export interface VerificationReport {
  readonly checked: Readonly<Record<CheckedThing, number>>;
  /** The first of those that are wrong, in sentences, and how many there are. */
  readonly wrong: readonly string[];
  readonly wrongCount: number;
  readonly audit: AuditVerdict;
}

const PAGE = 500;
/** Worked on at once; each has one connection. */
const AT_ONCE = 8;
const MOST_TOLD = 100;

export class DatabaseVerification {
  readonly #parts: VerificationParts;
  readonly #checked = Object.fromEntries(checkedThings.map((thing) => [thing, 0])) as Record<CheckedThing, number>;
  readonly #wrong: string[] = [];
  #wrongCount = 0;

  constructor(parts: VerificationParts) {
    this.#parts = parts;
  }

  /** @throws Unavailable DatabaseUnavailable, KeyUnavailable; what is wrong with a row is in the report */
  async run(manifest?: BackupManifest, onProgress: (done: string) => void = () => {}): Promise<VerificationReport> {
    await this.#checkKeys();
    onProgress("keys");
    await this.#checkSecrets();
    onProgress("secrets");
    await this.#checkPki();
    onProgress("certificates");
    await this.#checkIdentities();
    await this.#checkFleet();
    await this.#checkHome();
    onProgress("other rows");
    const head = manifest?.body.head;
    const anchors =
      head === undefined || head.position === "0"
        ? []
        : [{ position: BigInt(head.position), link: Buffer.from(head.link, "hex") }];
    const audit = await this.#parts.audit.verify({ anchors });
    return { checked: this.#checked, wrong: this.#wrong, wrongCount: this.#wrongCount, audit };
  }

  async #checkKeys(): Promise<void> {
    const { keys, keyStore } = this.#parts;
    await this.#check("keys", "the audit signing keys", () => keys.auditSigning());
    await this.#check("keys", "the signing key", () => keys.existingSigning());
    await this.#check("keys", "the keys of identities", () => keys.identityKeys("Identity"));
    await this.#check("keys", "the keys of tokens", () => keys.identityKeys("Token"));
    for await (const scope of this.#projects(keyStore)) {
      await this.#check("keys", `the keys of project ${scope}`, () => keys.existingProject(scope));
      await this.#check("keys", `the sealing keys of project ${scope}`, () => keys.existingSealing(scope));
    }
  }

  async *#projects(keyStore: KeyStore): AsyncGenerator<string> {
    for (let after: string | undefined; ; ) {
      const scopes = [...new Set((await keyStore.projectVersions(after, PAGE)).map(({ scope }) => scope))];
      yield* scopes;
      if (scopes.length < PAGE) return;
      after = scopes.at(-1);
    }
  }

  async #checkSecrets(): Promise<void> {
    const { vault } = this.#parts;
    await this.#each(
      (after: string | undefined) => vault.listLocations(after, PAGE),
      ({ id }) => id,
      (location) => this.#checkSecret(location),
    );
  }

  async #checkSecret({ id, identity }: SecretLocation): Promise<void> {
    const { vault, keys } = this.#parts;
    const name = `Secret ${identity.namespace}/${identity.name}`;
    const opened = await this.#check("secrets", name, async () => {
      const found = await vault.find(identity);
      // Purged since it was listed.
      if (found === undefined) return undefined;
      const known = await keys.existingProject(identity.project);
      if (known === undefined)
        throw tampered(`the keys of project ${identity.project} are gone although it has secrets`);
      verifiedRecord(known.pointer, keys.installationId, found);
      const current = found.record.currentVersion;
      const versions = await vault.listVersions(id);
      if (!versions.some(({ version }) => version === current))
        throw tampered(`version ${current} of ${name}, the current one, is gone`);
      return versions;
    });
    for (const { version } of opened ?? []) {
      await this.#check("versions", `version ${version} of ${name}`, async () => {
        const sealed = await vault.readVersion(id, version);
        if (sealed === undefined) return;
        let project = await keys.existingProject(identity.project);
        if (project?.has(sealed.projectKeyId) !== true) project = await keys.reloadProject(identity.project);
        const values = openVersion(project, keys.installationId, identity, sealed);
        for (const value of values.values()) value.dispose();
        this.#checked.entries += values.size;
      });
    }
  }

  async #checkPki(): Promise<void> {
    const { pki, keys } = this.#parts;
    const authorities = new CaKeys(keys);
    let hasKeys = false;
    await this.#each(
      (after: string | undefined) => pki.listAuthorities(after, PAGE),
      ({ id }) => id,
      async (authority) => {
        const { identity, generations } = authority;
        const name = `CA ${identity.namespace === "" ? identity.name : `${identity.namespace}/${identity.name}`}`;
        for (const generation of generations) {
          if (generation.sealedKey === undefined) continue;
          hasKeys = true;
          await this.#check("authorities", `key ${generation.number} of ${name}`, () =>
            authorities.open(UNLED, authority, generation),
          );
        }
      },
    );
    const pkiKeys = await this.#check("keys", "the keys of certificates", async () =>
      hasKeys ? keys.pki(UNLED) : undefined,
    );
    await this.#each(
      (after: Pick<CertificateRecord, "authorityId" | "serialNumber"> | undefined) => pki.listCertificates(after, PAGE),
      (certificate) => certificate,
      (certificate) => this.#checkCertificate(certificate, pkiKeys),
    );
  }

  async #checkCertificate(record: CertificateRecord, pkiKeys: PkiKeys | undefined): Promise<void> {
    const { pki, keys } = this.#parts;
    const name = `certificate ${serialToText(Buffer.from(record.serialNumber, "hex"))}`;
    await this.#check("certificates", name, async () => judgeStatus(keys, record));
    if (!record.hasKey) return;
    await this.#check("privateKeys", `the private key of ${name}`, async () => {
      const sealed = await pki.readKey(record.authorityId, record.serialNumber);
      // Retention took it since the row was read.
      if (sealed === undefined) return;
      const opened = pkiKeys ?? (await keys.pki(UNLED));
      importPrivateKey(opened, keys.installationId, leafOwner(record), sealed);
    });
  }

  async #checkIdentities(): Promise<void> {
    const { identity, keys } = this.#parts;
    const [key] = (await keys.identityKeys("Identity").catch(() => [])) ?? [];
    const rows = await identity.listUsers(undefined, 1);
    if (key === undefined) {
      if (rows.length > 0) this.#tell("there are users, and no key that authenticates them");
      return;
    }
    const authenticity = new Authenticity(key.key, keys.installationId);
    await this.#each(
      (after: string | undefined) => identity.listUsers(after, PAGE),
      ({ row }) => row.email,
      async (stored) => {
        const { id, email } = stored.row;
        await this.#check("users", `user ${email}`, async () => authenticity.verifiedUser(stored));
        for (const session of await identity.listSessions(id))
          await this.#check("sessions", `session ${session.row.id}`, async () => authenticity.verifiedSession(session));
      },
    );
    await this.#each(
      (after: string | undefined) => identity.listApiKeys(undefined, after, PAGE),
      ({ key: stored }) => stored.row.id,
      async ({ key: stored }) => {
        await this.#check("apiKeys", `API key ${stored.row.id}`, async () => authenticity.verifiedApiKey(stored));
      },
    );
  }

  async #checkFleet(): Promise<void> {
    const { environments, handledWrites, keys } = this.#parts;
    for (const { record, generation, mac } of (await environments.environments()).stored) {
      const name = `environment ${record.environment}`;
      await this.#check("environments", name, async () => {
        if (!sameMac(environmentMac(keys, record, generation), mac))
          throw tampered(`the state of ${name} does not match its MAC`);
      });
    }
    await this.#each(
      (after: { readonly environment: string; readonly id: string } | undefined) => handledWrites.list(after, PAGE),
      (write) => write,
      async (write) => {
        const name = `write ${write.id} of gateways of ${write.environment}`;
        await this.#check("gatewayWrites", name, async () => {
          if (!sameMac(handledMac(keys, write), write.mac)) throw tampered(`the row of ${name} does not match its MAC`);
        });
      },
    );
  }

  async #checkHome(): Promise<void> {
    const { home, keys } = this.#parts;
    const stored = await home.home();
    if (stored !== undefined)
      await this.#check("bindings", "the cluster that the database belongs to", async () => judgedHome(keys, stored));
    for (const binding of await home.bindings())
      await this.#check("bindings", "a binding", async () => judgedBinding(keys, binding));
  }

  async #each<Row, After>(
    list: (after: After | undefined) => Promise<readonly Row[]>,
    place: (row: Row) => After,
    check: (row: Row) => Promise<void>,
  ): Promise<void> {
    for (let after: After | undefined; ; ) {
      const page = await list(after);
      const left = page.values();
      await Promise.all(
        Array.from({ length: AT_ONCE }, async () => {
          for (const row of left) await check(row);
        }),
      );
      const last = page.at(-1);
      if (last === undefined || page.length < PAGE) return;
      after = place(last);
    }
  }

  /** Counts it, and tells what is wrong with it. */
  async #check<T>(thing: CheckedThing, name: string, look: () => Promise<T> | T): Promise<T | undefined> {
    this.#checked[thing] += 1;
    try {
      return await look();
    } catch (error) {
      // Of the whole, not of this row.
      if (error instanceof Unavailable && error.code === "DatabaseUnavailable") throw error;
      this.#tell(`${name}: ${error instanceof Unavailable ? error.message : "it cannot be read"}`);
      return undefined;
    }
  }

  #tell(sentence: string): void {
    this.#wrongCount += 1;
    if (this.#wrong.length < MOST_TOLD) this.#wrong.push(sentence);
  }
}
