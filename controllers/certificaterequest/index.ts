/** The controller of `CertificateRequest`: judges it, waits for a person where the issuer wants one, has it signed once. */
import type { Authorities } from "../../core/pki/authority.ts";
import type { PkiStore } from "../../core/ports/pki-store.ts";
import type { Writer } from "../../core/ports/vault-store.ts";
import { type CertificateRequest, certificateRequestKind } from "../../crds/certificaterequest.ts";
import type { Cluster } from "../cluster.ts";
import type { Controller, OwnedConditionType } from "../runtime/controller.ts";
import { resourceType } from "../runtime/resource-type.ts";
import { type Action, decide, type Observed } from "./decide.ts";
import { CertificateRequestObserver } from "./observe.ts";
import { CertificateRequestPerformer } from "./perform.ts";

export interface CertificateRequestControllerDependencies {
  readonly cluster: Cluster;
  readonly authorities: Authorities;
  readonly store: PkiStore;
  /** The leader's epoch. */
  readonly writer: () => Writer;
}

export class CertificateRequestController implements Controller<CertificateRequest, Observed, Action, Observed> {
  readonly name = "certificaterequest";
  readonly fieldManager = "mazevault-certificaterequest";
  readonly resource = resourceType(certificateRequestKind);
  readonly foreignConditions = ["Approved", "Denied"] as const;
  readonly #observer: CertificateRequestObserver;
  readonly #performer: CertificateRequestPerformer;

  constructor(deps: CertificateRequestControllerDependencies) {
    this.#observer = new CertificateRequestObserver(deps);
    this.#performer = new CertificateRequestPerformer({ ...deps, observer: this.#observer });
  }

  observe(request: CertificateRequest): Promise<Observed> {
    return this.#observer.observe(request);
  }

  decide = decide;

  perform(action: Action): Promise<Observed> {
    return this.#performer.perform(action);
  }

  learn(_seen: Observed, _action: Action, outcome: Observed): Observed {
    return outcome;
  }

  conditionFor(): OwnedConditionType {
    return "Issued";
  }
}
