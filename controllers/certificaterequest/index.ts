/** The controller of `CertificateRequest`: judges it, waits for a person where the issuer wants one, has it signed once, and revoked. */
import type { Authorities } from "../../core/pki/authority.ts";
import type { PkiStore } from "../../core/ports/pki-store.ts";
import type { Writer } from "../../core/ports/vault-store.ts";
import { type CertificateRequest, certificateRequestKind } from "../../crds/certificaterequest.ts";
import { FormerHolders } from "../certificate/former-holders.ts";
import type { Cluster } from "../cluster.ts";
import type { Controller, OwnedConditionType } from "../runtime/controller.ts";
import { resourceType } from "../runtime/resource-type.ts";
import type { KubernetesApi } from "../runtime/transport.ts";
import { type Action, decide, type Observed, type Outcome } from "./decide.ts";
import { CertificateRequestObserver } from "./observe.ts";
import { CertificateRequestPerformer } from "./perform.ts";

export interface CertificateRequestControllerDependencies {
  readonly api: KubernetesApi;
  readonly cluster: Cluster;
  readonly authorities: Authorities;
  readonly store: PkiStore;
  /** The leader's epoch. */
  readonly writer: () => Writer;
  /** A restored database was taken over and is not settled: what another object of a name has left is kept. */
  readonly isRecovering?: () => boolean;
}

export class CertificateRequestController implements Controller<CertificateRequest, Observed, Action, Outcome> {
  readonly name = "certificaterequest";
  readonly fieldManager = "mazevault-certificaterequest";
  readonly resource = resourceType(certificateRequestKind);
  readonly foreignConditions = ["Approved", "Denied"] as const;
  readonly #deps: Pick<CertificateRequestControllerDependencies, "isRecovering">;
  readonly #former: FormerHolders;
  readonly #observer: CertificateRequestObserver;
  readonly #performer: CertificateRequestPerformer;

  constructor(deps: CertificateRequestControllerDependencies) {
    this.#deps = deps;
    this.#former = new FormerHolders("CertificateRequest", this.resource, deps);
    this.#observer = new CertificateRequestObserver(deps);
    this.#performer = new CertificateRequestPerformer({ ...deps, observer: this.#observer });
  }

  observe(request: CertificateRequest): Promise<Observed> {
    return this.#observer.observe(request);
  }

  decide = decide;

  async perform(action: Action, signal: AbortSignal): Promise<Outcome> {
    // Comes before it is signed, so that a crash in between is made up for.
    if (action.kind === "RecordHolder" && !this.#deps.isRecovering?.())
      await this.#former.endOthers(action.request.metadata, signal);
    return this.#performer.perform(action);
  }

  learn({ holder, heldUid, ...seen }: Observed, _action: Action, outcome: Outcome): Observed {
    switch (outcome.kind) {
      case "Holder":
        return { ...seen, heldUid, holder: outcome.holder };
      case "NotChanged":
        return seen.kind === "Issued"
          ? { ...seen, heldUid, holder, refusedRevocation: outcome.message }
          : { ...seen, heldUid, holder };
      default:
        return { ...outcome, heldUid, holder };
    }
  }

  conditionFor(action: Action | undefined): OwnedConditionType {
    return action?.kind === "Revoke" || action?.kind === "ReleaseHold" ? "Revoked" : "Issued";
  }

  absent(key: string, signal: AbortSignal): Promise<void> {
    return this.#former.absent(key, signal);
  }
}
