/** The controller of `Certificate`: has it issued, delivers it, renews and revokes it, and notices when it is gone. */
import type { Authorities } from "../../core/pki/authority.ts";
import type { CertificateRecord, PkiStore } from "../../core/ports/pki-store.ts";
import type { Writer } from "../../core/ports/vault-store.ts";
import { type Certificate, certificateKind } from "../../crds/certificate.ts";
import type { Cluster } from "../cluster.ts";
import { DeliveryObserver } from "../delivery/observe.ts";
import { DeliveryPerformer, type DeliveryPerformerDependencies } from "../delivery/perform.ts";
import type { Controller, OwnedConditionType } from "../runtime/controller.ts";
import { keyOf, resourceType } from "../runtime/resource-type.ts";
import type { KubernetesApi } from "../runtime/transport.ts";
import { type Action, decide, type Observed, type Outcome } from "./decide.ts";
import { FormerHolders } from "./former-holders.ts";
import { PasswordReader } from "./keystores.ts";
import { CertificateObserver } from "./observe.ts";
import { CertificatePerformer } from "./perform.ts";

export interface CertificateControllerDependencies extends Pick<DeliveryPerformerDependencies, "events" | "absorb"> {
  readonly api: KubernetesApi;
  readonly cluster: Cluster;
  readonly authorities: Authorities;
  readonly store: PkiStore;
  readonly installation: string;
  /** The leader's epoch. */
  readonly writer: () => Writer;
  /** A restored database was taken over and is not settled: what another object of a name has left is kept. */
  readonly isRecovering?: () => boolean;
}

export class CertificateController implements Controller<Certificate, Observed, Action, Outcome> {
  readonly name = "certificate";
  readonly fieldManager = "mazevault-certificate";
  readonly resource = resourceType(certificateKind);
  readonly #deps: Pick<CertificateControllerDependencies, "isRecovering">;
  readonly #former: FormerHolders;
  readonly #observer: CertificateObserver;
  readonly #performer: CertificatePerformer;

  constructor(deps: CertificateControllerDependencies) {
    this.#deps = deps;
    this.#former = new FormerHolders("Certificate", this.resource, deps);
    const observer = new DeliveryObserver(deps);
    const delivery = new DeliveryPerformer({ ...deps, observer });
    const passwords = new PasswordReader(deps);
    this.#observer = new CertificateObserver({ ...deps, delivery: observer, passwords });
    this.#performer = new CertificatePerformer({ ...deps, observer: this.#observer, delivery, passwords });
  }

  observe(certificate: Certificate, signal: AbortSignal): Promise<Observed> {
    return this.#observer.observe(certificate, signal);
  }

  decide = decide;

  async perform(action: Action, signal: AbortSignal): Promise<Outcome> {
    // Comes before the first certificate, so that a crash in between is made up for.
    if (action.kind === "RecordHolder" && action.hasFormer && !this.#deps.isRecovering?.())
      await this.absent(keyOf(action.certificate), signal);
    return this.#performer.perform(action, signal);
  }

  learn(seen: Observed, _action: Action, outcome: Outcome): Observed {
    switch (outcome.kind) {
      case "Holder": {
        const { delivery } = seen.holder ?? {};
        return { ...seen, holder: { ...outcome.holder, ...(delivery && { delivery }) } };
      }
      case "Changed":
        return withRecord(seen, outcome.record);
      case "NotChanged": {
        const { record, message } = outcome;
        return { ...seen, refusedRevocations: [...(seen.refusedRevocations ?? []), { record, message }] };
      }
      case "Issued":
        return { ...seen, current: { record: outcome.record, chain: outcome.chain } };
      case "NotIssued":
        return { ...seen, failure: outcome.failure };
      case "Found":
        return { ...seen, core: { kind: "Live", live: outcome.live } };
      case "Delivery": {
        if (seen.holder === undefined) return seen;
        const { delivery: _before, ...holder } = seen.holder;
        const { delivery } = outcome;
        return {
          ...seen,
          holder: delivery === undefined ? holder : { ...holder, delivery },
          // After a release the name that is wanted now was observed already; a delivery makes it ours.
          core: delivery === undefined ? seen.core : { kind: "Untouched" },
          restartProblems: outcome.problems ?? seen.restartProblems,
        };
      }
    }
  }

  conditionFor(action: Action | undefined): OwnedConditionType {
    switch (action?.kind) {
      case "Revoke":
      case "ReleaseHold":
        return "Revoked";
      case "Adopt":
      case "Deliver":
      case "RecordDelivery":
      case "ReleaseDelivery":
      case "RestartWorkloads":
        return "Delivered";
      default:
        return "Issued";
    }
  }

  absent(key: string, signal: AbortSignal): Promise<void> {
    return this.#former.absent(key, signal);
  }
}

function withRecord(seen: Observed, changed: CertificateRecord): Observed {
  const same = (record: CertificateRecord): boolean =>
    record.authorityId === changed.authorityId && record.serialNumber === changed.serialNumber;
  const replaced = (records: readonly CertificateRecord[]) =>
    records.map((record) => (same(record) ? changed : record));
  const { current } = seen;
  return {
    ...seen,
    current: current && same(current.record) ? { ...current, record: changed } : current,
    revocations: seen.revocations.map((listed) => ({ ...listed, records: replaced(listed.records) })),
    forgottenHolds: replaced(seen.forgottenHolds).filter(({ revocation }) => revocation !== undefined),
  };
}
