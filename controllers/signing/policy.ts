/** What the ClusterIssuers of the primary say of gateways, for whoever serves them. */
import { Stalled, Waiting } from "../../core/errors.ts";
import type { SigningPolicy } from "../../core/fleet/gateway-signing.ts";
import type { Member } from "../../core/fleet/member.ts";
import type { SigningRequest } from "../../core/fleet/signing-protocol.ts";
import { newest } from "../../core/pki/authority.ts";
import type { PkiStore } from "../../core/ports/pki-store.ts";
import type { Cluster } from "../cluster.ts";
import { type Allowed, issuerForGateway, judgeForGateway, type Refused, type SignsForGateways } from "./judge.ts";

const LOOK_AGAIN_MS = 10_000;

export class ClusterIssuerPolicy implements SigningPolicy {
  readonly #cluster: Pick<Cluster, "clusterIssuer">;
  readonly #store: Pick<PkiStore, "findAuthority">;

  constructor(parts: {
    readonly cluster: Pick<Cluster, "clusterIssuer">;
    readonly store: Pick<PkiStore, "findAuthority">;
  }) {
    this.#cluster = parts.cluster;
    this.#store = parts.store;
  }

  /** As the objects and the store have it at this moment. */
  async verdict(member: Pick<Member, "environment">, request: SigningRequest): Promise<Allowed | Refused> {
    const signer = await this.#signer(member, request.issuer.name);
    return signer.kind === "Refused" ? signer : judgeForGateway(signer, request);
  }

  async #signer(member: Pick<Member, "environment">, name: string): Promise<SignsForGateways | Refused> {
    const identity = { kind: "ClusterIssuer", namespace: "", namespaceUid: "", name } as const;
    const authority = await this.#store.findAuthority(identity);
    return issuerForGateway(member, name, this.#cluster.clusterIssuer(name), authority);
  }

  async issuer(member: Pick<Member, "environment">, name: string): Promise<readonly Buffer[]> {
    const { authority } = allowed(await this.#signer(member, name));
    const { certificate, chain } = newest(authority);
    return certificate === undefined ? [] : [certificate, ...chain];
  }

  async judge(member: Pick<Member, "environment">, request: SigningRequest): Promise<void> {
    allowed(await this.verdict(member, request));
  }
}

function allowed<T extends Allowed | SignsForGateways>(verdict: T | Refused): T {
  if (verdict.kind !== "Refused") return verdict;
  const { code, message, waiting } = verdict;
  throw waiting ? new Waiting(code, message, LOOK_AGAIN_MS) : new Stalled(code, message);
}
