/** Reads what decides about one Certificate. */
import { Stalled, Waiting } from "../../core/errors.ts";
import type { Authorities } from "../../core/pki/authority.ts";
import type { AuthorityRecord, CertificateRecord, PkiStore } from "../../core/ports/pki-store.ts";
import type { DeliveryRecord } from "../../core/ports/vault-store.ts";
import type { Certificate } from "../../crds/certificate.ts";
import { type Cluster, heldUidOf, servedNamespace } from "../cluster.ts";
import type { Digests } from "../delivery/desired.ts";
import type { DeliveryObserver } from "../delivery/observe.ts";
import { issuerIdentity, referredIssuer } from "../issuer/reference.ts";
import { type BytesFingerprint, bundleDigests, type Chain, certificateDelivery, chainOf } from "./bundle.ts";
import type { ListedRevocation, Observed, ObservedPasswords } from "./decide.ts";
import type { PasswordReader } from "./keystores.ts";
import { issuedDer, readSerial } from "./request.ts";

export interface CertificateObserverDependencies {
  readonly cluster: Cluster;
  readonly authorities: Pick<Authorities, "describe" | "chainOf" | "fingerprint" | "judgeStatus">;
  readonly store: Pick<PkiStore, "authority" | "certificatesBySerial" | "certificatesOf" | "holdersNamed">;
  readonly installation: string;
  readonly delivery: DeliveryObserver;
  readonly passwords: PasswordReader;
}

/** How many certificates of an object are looked through for holds to end. */
const RECENT = 50;

export class CertificateObserver {
  readonly #deps: CertificateObserverDependencies;

  constructor(deps: CertificateObserverDependencies) {
    this.#deps = deps;
  }

  async observe(certificate: Certificate, signal: AbortSignal): Promise<Observed> {
    const { cluster, store, installation, delivery } = this.#deps;
    const namespace = servedNamespace(cluster, certificate);
    const uid = this.heldUid(certificate);
    const { name } = certificate.metadata;
    const { issuerRef } = certificate.spec;
    const desired = certificateDelivery(certificate, installation);
    const [holders, recent, authority] = await Promise.all([
      store.holdersNamed("Certificate", namespace.name, name),
      store.certificatesOf(uid, RECENT),
      this.#deps.authorities.describe(issuerIdentity(issuerRef, namespace)),
    ]);
    const holder = holders.find((each) => each.uid === uid);
    // What cannot be trusted decides nothing.
    for (const record of recent) this.#deps.authorities.judgeStatus(record);
    const [current] = recent;
    const [chain, revocations, core, passwords] = await Promise.all([
      current && this.chainOf(current, authority),
      this.#revocations(certificate, uid, recent),
      delivery.observe(desired, this.digests(certificate, holder?.delivery), holder?.delivery, signal),
      this.#passwords(certificate, signal),
    ]);
    const listed = new Set(revocations.flatMap(({ records }) => records.map(({ serialNumber }) => serialNumber)));
    return {
      installation,
      namespace: namespace.name,
      namespaceUid: namespace.uid,
      heldUid: uid,
      holder,
      hasFormer: holders.some((each) => each.uid !== uid),
      issuer: referredIssuer(cluster, issuerRef, namespace, authority),
      current: current && chain && { record: current, chain },
      revocations,
      forgottenHolds: recent.filter(
        ({ revocation, serialNumber }) => revocation?.reason === "certificateHold" && !listed.has(serialNumber),
      ),
      core,
      passwords,
      restartProblems: [],
    };
  }

  /** By which the store knows it. */
  heldUid({ metadata }: Certificate): string {
    return heldUidOf(this.#deps.cluster, "Certificate", metadata);
  }

  /**
   * The certificate with the CAs above it, also when its issuer is not the manifest's any more.
   *
   * @param known an authority that need not be read again
   */
  async chainOf(record: CertificateRecord, known: AuthorityRecord | undefined): Promise<Chain> {
    const { store, authorities } = this.#deps;
    const authority = known?.id === record.authorityId ? known : await store.authority(record.authorityId);
    if (authority === undefined) throw new Error(`the authority of certificate ${record.serialNumber} is gone`);
    return chainOf(issuedDer(record), authorities.chainOf(authority, record.generation));
  }

  /** By which what stands in the core Secret is known, after that was delivered. */
  digests(certificate: Certificate, delivery: DeliveryRecord | undefined): Digests {
    return bundleDigests(delivery?.made ?? [], this.bytesFingerprint(certificate));
  }

  bytesFingerprint({ metadata: { uid } }: Certificate): BytesFingerprint {
    const { authorities } = this.#deps;
    return (key, value) => authorities.fingerprint(uid, `bytes ${key}`, value);
  }

  /** What is wrong with them concerns the delivery alone: a certificate is revoked and renewed all the same. */
  async #passwords(certificate: Certificate, signal: AbortSignal): Promise<ObservedPasswords> {
    try {
      return { kind: "Known", fingerprints: await this.#deps.passwords.fingerprints(certificate, signal) };
    } catch (error) {
      if (!(error instanceof Waiting || error instanceof Stalled)) throw error;
      return { kind: "Refused", waiting: error instanceof Waiting, reason: error.code, message: error.message };
    }
  }

  async #revocations(
    { spec }: Certificate,
    uid: string,
    recent: readonly CertificateRecord[],
  ): Promise<ListedRevocation[]> {
    const bySerial = new Map(recent.map((record) => [record.serialNumber, record]));
    return Promise.all(
      (spec.revocations ?? []).map(async ({ serialNumber, reason }, index) => {
        const serial = readSerial(serialNumber);
        const known = bySerial.get(serial);
        const records = serial === "" ? [] : known ? [known] : await this.#deps.store.certificatesBySerial(uid, serial);
        return { index, reason, records };
      }),
    );
  }
}
