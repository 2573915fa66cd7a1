/**
 * What a gateway serves of its primary's secrets and certificates: by the primary's grants, from what it holds itself, and no longer than
 * `offlineLimit` after it last heard that this is all. Every replica of the gateway serves it; reads are on the gateway's own record.
 */

import type { Target, Verb } from "../access/policy.ts";
import { AccessPolicies, type Decision } from "../access/policy.ts";
import type { Authenticated } from "../access/subject.ts";
import { Unavailable } from "../errors.ts";
import type { Actor, AuditLog } from "../ports/audit-log.ts";
import type { ReplicaStore } from "../ports/replica-store.ts";
import { UNLED } from "../ports/vault-store.ts";
import type { Sensitive } from "../sensitive.ts";
import type { MembershipStatus } from "./membership.ts";
import type { HeldCertificate, HeldItem, HeldSecret, ReplicaDirectory } from "./replica-directory.ts";
import { CHAIN, type PlaceOfItem, PRIVATE_KEY, type ReplicatedSecret } from "./replica-item.ts";
import { openValues, type ReplicaKeys, type Values } from "./replica-seal.ts";

export interface ReplicaParts {
  readonly directory: ReplicaDirectory;
  readonly store: Pick<ReplicaStore, "values">;
  readonly keys: ReplicaKeys;
  readonly audit: Pick<AuditLog, "append">;
  readonly membership: () => Pick<MembershipStatus, "state" | "identity">;
  /** Of the gateway, as its settings say. */
  readonly environment: string;
  readonly offlineLimitMs: number;
  readonly now?: () => Date;
}

export interface ReplicaFigures {
  readonly environment: string;
  readonly secrets: number;
  /** Undefined: the primary never confirmed it. */
  readonly syncedAt: Date | undefined;
}

/** How one item is looked for again. */
interface Sought<Held extends HeldItem> {
  /** For messages. */
  readonly name: string;
  readonly find: () => Held | undefined;
  /** What was decided about it counts only as long as it is where it was. */
  readonly isSame: (held: Held) => boolean;
}

export class Replica {
  readonly #parts: ReplicaParts;
  readonly #policies: AccessPolicies;

  constructor(parts: ReplicaParts) {
    this.#parts = parts;
    this.#policies = new AccessPolicies(parts.directory);
  }

  /** The secret of the primary at this place; undefined where there is none for this gateway. */
  async find(place: PlaceOfItem): Promise<HeldSecret | undefined> {
    return (await this.#isOurs()) ? this.#parts.directory.find(place) : undefined;
  }

  async list(): Promise<readonly HeldSecret[]> {
    return (await this.#isOurs()) ? [...this.#parts.directory.list()] : [];
  }

  /** As `find`. */
  async findCertificate(place: PlaceOfItem): Promise<HeldCertificate | undefined> {
    return (await this.#isOurs()) ? this.#parts.directory.findCertificate(place) : undefined;
  }

  async listCertificates(): Promise<readonly HeldCertificate[]> {
    return (await this.#isOurs()) ? [...this.#parts.directory.listCertificates()] : [];
  }

  /**
   * By the grants of the primary, as they were at the last look. A role that somebody has in the gateway's installation
   * is nothing to the primary, so it counts for nothing here.
   */
  decide(who: Authenticated, verb: Verb, target: Target): Decision {
    return this.#policies.decide(asStranger(who), verb, target);
  }

  /** Whether no grant of the primary names this subject. */
  grantsNothing(who: Authenticated): boolean {
    return this.#policies.grantsNothing(asStranger(who));
  }

  /** When the primary last confirmed that this is all. @throws Unavailable OfflineLimitReached, SecretNotReplicated */
  assertCurrent(): Date {
    const { directory, offlineLimitMs, now = () => new Date() } = this.#parts;
    const syncedAt = directory.state?.syncedAt;
    if (syncedAt === undefined)
      throw new Unavailable("SecretNotReplicated", "the first copy of what the primary has is still under way");
    if (now().getTime() - syncedAt.getTime() > offlineLimitMs)
      throw new Unavailable(
        "OfflineLimitReached",
        `the primary is away since ${syncedAt.toISOString()}, which is longer than gateway.offlineLimit allows; it is served again when the primary answers`,
      );
    return syncedAt;
  }

  /**
   * Its values, or those of these entries; the read is on record before this resolves, and the caller disposes of them.
   *
   * @throws Unavailable SecretNotReplicated, OfflineLimitReached, TamperDetected
   */
  async open(
    decided: HeldSecret,
    {
      actor,
      purpose,
      keys: only,
    }: { readonly actor: Actor; readonly purpose: string; readonly keys?: readonly string[] },
  ): Promise<{ readonly held: HeldSecret; readonly values: Values }> {
    this.assertCurrent();
    const { secret } = decided;
    const { held, values } = await this.#opened<HeldSecret>({
      name: `secret ${secret.namespace}/${secret.name}`,
      find: () => this.#parts.directory.find(secret),
      isSame: (found) => sameTenant(found.secret, secret),
    });
    const wanted = new Map<string, Sensitive>();
    for (const [key, value] of values) {
      if (only === undefined || only.includes(key)) wanted.set(key, value);
      else value.dispose();
    }
    try {
      await this.#parts.audit.append([readEntry(held, actor, purpose, [...wanted.keys()])]);
    } catch (error) {
      for (const value of wanted.values()) value.dispose();
      throw error;
    }
    return { held, values: wanted };
  }

  /**
   * The certificate and the CAs above it, the root last, in PEM. It is public, so nothing goes on record.
   *
   * @throws Unavailable SecretNotReplicated, OfflineLimitReached, TamperDetected
   */
  async chain(decided: HeldCertificate): Promise<{ readonly held: HeldCertificate; readonly chain: string }> {
    const { held, chain, privateKey } = await this.#certificate(decided);
    privateKey?.dispose();
    return { held, chain };
  }

  /**
   * The same with the private key (PKCS #8, PEM), which the caller disposes of; undefined where the primary has none. That it was
   * read is on record before this resolves.
   *
   * @throws Unavailable as `chain` does
   */
  async openCertificate(
    decided: HeldCertificate,
    { actor, purpose }: { readonly actor: Actor; readonly purpose: string },
  ): Promise<{ readonly held: HeldCertificate; readonly chain: string; readonly privateKey: Sensitive | undefined }> {
    const opened = await this.#certificate(decided);
    if (opened.privateKey === undefined) return opened;
    try {
      await this.#parts.audit.append([keyReadEntry(opened.held, actor, purpose)]);
    } catch (error) {
      opened.privateKey.dispose();
      throw error;
    }
    return opened;
  }

  async #certificate(decided: HeldCertificate) {
    this.assertCurrent();
    const { uid, namespace, namespaceUid, name } = decided.certificate;
    const { held, values } = await this.#opened<HeldCertificate>({
      name: `certificate ${namespace}/${name}`,
      find: () => this.#parts.directory.findCertificate(decided.certificate),
      isSame: ({ certificate }) => certificate.uid === uid && certificate.namespaceUid === namespaceUid,
    });
    const chain = values.get(CHAIN)?.revealText() ?? "";
    values.get(CHAIN)?.dispose();
    return { held, chain, privateKey: values.get(PRIVATE_KEY) };
  }

  /** Without a look of its own. */
  get figures(): ReplicaFigures {
    const { directory, environment } = this.#parts;
    return { environment, secrets: directory.secrets, syncedAt: directory.state?.syncedAt };
  }

  async look(): Promise<void> {
    await this.#parts.directory.look();
  }

  async #opened<Held extends HeldItem>({
    name,
    find,
    isSame,
  }: Sought<Held>): Promise<{ readonly held: Held; readonly values: Values }> {
    const { directory, store, keys } = this.#parts;
    for (let attempt = 0; ; attempt += 1) {
      const held = find();
      const stored = held?.valued === true ? await store.values(held.item.key) : undefined;
      if (held !== undefined && !isSame(held))
        throw new Unavailable("SecretNotReplicated", `${name} has just become another project's or object's`);
      if (held !== undefined && stored !== undefined && stored.body === held.item.body) {
        const pki = await keys.pki(UNLED);
        return { held, values: openValues(pki, keys.installationId, held.item, stored.values) };
      }
      if (held?.valued === false)
        throw new Unavailable("SecretNotReplicated", `the values of ${name} have not come yet`);
      // It changed since it was looked at, so another look shows it as it is; unless somebody else changed it.
      if (attempt === 1)
        throw held === undefined
          ? new Unavailable("SecretNotReplicated", `${name} has just gone from the primary`)
          : new Unavailable("TamperDetected", `the replica of ${name} was changed; see the runbook`);
      await directory.look();
    }
  }

  /** What is held of another place, or as a gateway that is none any more, is not served while it waits to be wiped. */
  async #isOurs(): Promise<boolean> {
    const { directory, membership, environment } = this.#parts;
    const { state, identity } = membership();
    if (state === "Revoked") return false;
    await directory.look();
    const held = directory.state;
    return held?.environment === environment && (identity === undefined || identity.gatewayId === held.gatewayId);
  }
}

function asStranger(who: Authenticated): Authenticated {
  const { subject } = who;
  if (subject.kind !== "LocalUser") return who;
  const { role: _, ...withoutRole } = subject;
  return { ...who, subject: withoutRole };
}

const sameTenant = (one: ReplicatedSecret, other: ReplicatedSecret): boolean =>
  one.project === other.project && one.environment === other.environment;

const readEntry = (
  { secret: { id, project, environment, namespace, name, version } }: HeldSecret,
  actor: Actor,
  purpose: string,
  keys: readonly string[],
) => ({
  action: "SecretRead" as const,
  actor,
  subject: { kind: "Secret" as const, id, name: `${namespace}/${name}` },
  outcome: "Success" as const,
  details: { project, environment, version, purpose, keys: keys.join(","), replica: true },
});

const keyReadEntry = (
  { certificate: { uid, namespace, name, serialNumber } }: HeldCertificate,
  actor: Actor,
  purpose: string,
) => ({
  action: "CertificateKeyRead" as const,
  actor,
  subject: { kind: "Certificate" as const, id: serialNumber, name: `${namespace}/${name}` },
  outcome: "Success" as const,
  details: { kind: "Certificate", uid, purpose, replica: true },
});
