/** The effects on one Certificate, each idempotent. */
import { Fenced } from "../../core/errors.ts";
import { failpoint } from "../../core/failpoints.ts";
import type { Authorities } from "../../core/pki/authority.ts";
import { parseCertificate } from "../../core/pki/certificate.ts";
import { nameToString } from "../../core/pki/name.ts";
import { serialToText } from "../../core/pki/serial.ts";
import type { Actor, AuditEntry } from "../../core/ports/audit-log.ts";
import { type CertificateRecord, PkiConflict, type PkiStore } from "../../core/ports/pki-store.ts";
import { isRefusedForGood } from "../../core/ports/primary-ca.ts";
import type { DeliveryRecord, Writer } from "../../core/ports/vault-store.ts";
import { type Certificate, certificateKind } from "../../crds/certificate.ts";
import { objectActor } from "../actor.ts";
import type { DeliveryContext, DeliveryPerformer, OpenedValues } from "../delivery/perform.ts";
import type { DeliveryAction } from "../delivery/plan.ts";
import { resourceType } from "../runtime/resource-type.ts";
import { adoptedCertificate } from "./adoption.ts";
import { bundleEntries, bundleValues, madeValues } from "./bundle.ts";
import { type Action, type Issued, type Outcome, serialOf } from "./decide.ts";
import { type PasswordReader, wantedKeystores } from "./keystores.ts";
import type { CertificateObserver } from "./observe.ts";

export interface CertificatePerformerDependencies {
  readonly authorities: Pick<Authorities, "issue" | "openKey" | "revoke" | "release">;
  readonly store: Pick<PkiStore, "recordHolder" | "recordDelivery" | "findHolder" | "certificate">;
  /** The leader's epoch. */
  readonly writer: () => Writer;
  readonly observer: CertificateObserver;
  readonly delivery: DeliveryPerformer;
  readonly passwords: PasswordReader;
}

type Of<K extends Action["kind"]> = Extract<Action, { kind: K }>;
type DeliveryOf<A> = A extends DeliveryAction ? A : never;

const actorOf = (certificate: Certificate): Actor => objectActor(resourceType(certificateKind), certificate);

export class CertificatePerformer {
  readonly #deps: CertificatePerformerDependencies;

  constructor(deps: CertificatePerformerDependencies) {
    this.#deps = deps;
  }

  perform(action: Action, signal: AbortSignal): Promise<Outcome> {
    switch (action.kind) {
      case "RecordHolder":
        return this.#recordHolder(action);
      case "Revoke":
      case "ReleaseHold":
        return this.#changeRevocation(action);
      case "Issue":
        return this.#issue(action);
      case "ReportFailure":
        return Promise.reject(action.failure);
      default:
        return this.#deps.delivery.perform(action, this.#contextOf(action, signal), signal);
    }
  }

  async #recordHolder({ holder }: Of<"RecordHolder">): Promise<Outcome> {
    const { store, writer } = this.#deps;
    await store.recordHolder(writer(), holder);
    return { kind: "Holder", holder };
  }

  async #changeRevocation(action: Of<"Revoke"> | Of<"ReleaseHold">): Promise<Outcome> {
    const { authorities, store, writer } = this.#deps;
    const { record, certificate } = action;
    const actor = actorOf(certificate);
    try {
      if (action.kind === "Revoke") await authorities.revoke(writer(), record, { reason: action.reason }, actor);
      else await authorities.release(writer(), record, actor);
    } catch (error) {
      // It must not hold up what else is to be done.
      if (!isRefusedForGood(error)) throw error;
      return { kind: "NotChanged", record, message: error.message };
    }
    failpoint("certificate.afterRevoke");
    const changed = await store.certificate(record.authorityId, record.serialNumber);
    if (changed === undefined) throw new PkiConflict(`certificate ${record.serialNumber}`);
    return { kind: "Changed", record: changed };
  }

  /** An issuer that fails must not keep the certificate that there is from being looked after, so that comes first. */
  async #issue({ certificate, namespaceUid, authority, wanted, revision, reuse }: Of<"Issue">): Promise<Outcome> {
    const { authorities, writer, observer } = this.#deps;
    const { key, ...contents } = wanted;
    const { namespace = "", name } = certificate.metadata;
    const uid = observer.heldUid(certificate);
    try {
      const record = await authorities.issue(writer(), {
        ...contents,
        authority,
        requester: { kind: "Certificate", namespace, namespaceUid, name, uid },
        revision,
        key: reuse === undefined ? { generate: key } : { reuse },
        actor: actorOf(certificate),
      });
      return { kind: "Issued", record, chain: await observer.chainOf(record, authority) };
    } catch (error) {
      if (error instanceof Fenced || error instanceof PkiConflict || !(error instanceof Error)) throw error;
      return { kind: "NotIssued", failure: error };
    }
  }

  #contextOf({ certificate, issued, ...action }: DeliveryOf<Action>, signal: AbortSignal): DeliveryContext {
    const { store, writer, observer } = this.#deps;
    const { namespace = "" } = certificate.metadata;
    const uid = observer.heldUid(certificate);
    const { secretName } = certificate.spec;
    return {
      object: certificate,
      namespace,
      digests: async () => observer.digests(certificate, (await store.findHolder(uid))?.delivery),
      record: (delivery) =>
        store.recordDelivery(writer(), uid, delivery, [deliveryAudit(certificate, issued?.record, delivery)]),
      open: () => {
        if (issued === undefined) throw new TypeError("the key of another CA's certificate is not kept here");
        return this.#open(certificate, issued, `${action.kind} to core Secret ${namespace}/${secretName}`, signal);
      },
    };
  }

  async #open(
    certificate: Certificate,
    { record, chain }: Issued,
    purpose: string,
    signal: AbortSignal,
  ): Promise<OpenedValues> {
    const { authorities, writer, observer, passwords: reader } = this.#deps;
    const passwords = await reader.read(certificate, signal);
    try {
      const fingerprints = new Map(
        [...passwords].map(([format, password]) => [format, reader.fingerprintOf(certificate, format, password)]),
      );
      const key = await authorities.openKey(writer(), record, { actor: actorOf(certificate), purpose });
      const values = await bundleValues(certificate, chain, key, passwords);
      // A password that changed since it was looked at is on record as what it is, and seen in the next pass.
      const entries = bundleEntries(certificate, chain, fingerprints);
      const made = madeValues(entries, values, observer.bytesFingerprint(certificate));
      return { version: record.revision, values, ...(made.length > 0 && { made }) };
    } finally {
      for (const password of passwords.values()) password.dispose();
    }
  }
}

function deliveryAudit(
  certificate: Certificate,
  record: CertificateRecord | undefined,
  delivery: DeliveryRecord | undefined,
): AuditEntry {
  const { namespace, name, uid } = certificate.metadata;
  const adopted = adoptedCertificate(delivery);
  if (adopted !== undefined) {
    const { serialNumber, issuer, notAfter } = parseCertificate(adopted);
    return {
      action: "CertificateAdopted",
      actor: actorOf(certificate),
      subject: { kind: "Certificate", id: serialToText(serialNumber), name: `${namespace}/${name}` },
      outcome: "Success",
      details: {
        issuer: nameToString(issuer),
        notAfter: notAfter.toISOString(),
        coreSecret: `${namespace}/${delivery?.secretName}`,
        uid: delivery?.uid ?? "",
      },
    };
  }
  return {
    action: delivery === undefined ? "CertificateDeliveryRemoved" : "CertificateDelivered",
    actor: actorOf(certificate),
    subject: { kind: "Certificate", id: record === undefined ? uid : serialOf(record), name: `${namespace}/${name}` },
    outcome: "Success",
    details:
      delivery === undefined
        ? {}
        : {
            coreSecret: `${namespace}/${delivery.secretName}`,
            uid: delivery.uid,
            revision: delivery.version,
            pendingRestarts: delivery.pendingRestarts.length,
            ...passwordSources(certificate),
          },
  };
}

/** Where the passwords of its keystores were read. */
function passwordSources(certificate: Certificate): { readonly passwords?: string } {
  const sources = wantedKeystores(certificate).map(
    ({ passwordSecretRef: { name, key } }) => `${certificate.metadata.namespace}/${name} ${key}`,
  );
  return sources.length === 0 ? {} : { passwords: [...new Set(sources)].join(", ") };
}
