/** Reads what decides about one CertificateRequest. */
import type { Authorities } from "../../core/pki/authority.ts";
import type { CertificateRecord, PkiStore } from "../../core/ports/pki-store.ts";
import type { CertificateRequest } from "../../crds/certificaterequest.ts";
import { type Chain, chainOf } from "../certificate/bundle.ts";
import { issuedDer } from "../certificate/request.ts";
import { type Cluster, heldUidOf, servedNamespace } from "../cluster.ts";
import { issuerIdentity, referredIssuer } from "../issuer/reference.ts";
import type { Issued, Observed } from "./decide.ts";

export interface CertificateRequestObserverDependencies {
  readonly cluster: Cluster;
  readonly authorities: Pick<Authorities, "describe" | "chainOf" | "judgeStatus">;
  readonly store: Pick<PkiStore, "authority" | "certificatesOf" | "findHolder">;
}

export class CertificateRequestObserver {
  readonly #deps: CertificateRequestObserverDependencies;

  constructor(deps: CertificateRequestObserverDependencies) {
    this.#deps = deps;
  }

  async observe(request: CertificateRequest): Promise<Observed> {
    const { cluster, store, authorities } = this.#deps;
    const uid = this.heldUid(request);
    const [[record], holder] = await Promise.all([store.certificatesOf(uid, 1), store.findHolder(uid)]);
    if (record !== undefined) {
      // What cannot be trusted decides nothing.
      authorities.judgeStatus(record);
      return { holder, heldUid: uid, ...(await this.issued(record)) };
    }
    if (request.status?.serialNumber !== undefined) return { kind: "Past", holder, heldUid: uid };
    const namespace = servedNamespace(cluster, request);
    const { issuerRef } = request.spec;
    const authority = await authorities.describe(issuerIdentity(issuerRef, namespace));
    const issuer = referredIssuer(cluster, issuerRef, namespace, authority);
    return { kind: "Open", holder, heldUid: uid, namespace: namespace.name, namespaceUid: namespace.uid, issuer };
  }

  /** By which the store knows it. */
  heldUid({ metadata }: CertificateRequest): string {
    return heldUidOf(this.#deps.cluster, "CertificateRequest", metadata);
  }

  async issued(record: CertificateRecord): Promise<Issued> {
    return { kind: "Issued", record, chain: await this.#chainOf(record) };
  }

  async #chainOf(record: CertificateRecord): Promise<Chain> {
    const { store, authorities } = this.#deps;
    const authority = await store.authority(record.authorityId);
    if (authority === undefined) throw new Error(`the authority of certificate ${record.serialNumber} is gone`);
    return chainOf(issuedDer(record), authorities.chainOf(authority, record.generation));
  }
}
