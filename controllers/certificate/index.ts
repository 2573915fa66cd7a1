/** The controller of `Certificate`: has it issued, delivers it, renews and revokes it, and notices when it is gone. */
import { failpoint } from "../../core/failpoints.ts";
import type { Authorities } from "../../core/pki/authority.ts";
import type { Actor } from "../../core/ports/audit-log.ts";
import type { CertificateHolder, CertificateRecord, PkiStore } from "../../core/ports/pki-store.ts";
import type { Writer } from "../../core/ports/vault-store.ts";
import { type Certificate, certificateKind } from "../../crds/certificate.ts";
import type { Cluster } from "../cluster.ts";
import { DeliveryObserver } from "../delivery/observe.ts";
import { DeliveryPerformer, type DeliveryPerformerDependencies } from "../delivery/perform.ts";
import { isNotFound } from "../runtime/api-error.ts";
import type { Controller, OwnedConditionType } from "../runtime/controller.ts";
import { keyOf, resourceType, splitKey } from "../runtime/resource-type.ts";
import type { KubernetesApi } from "../runtime/transport.ts";
import { type Action, decide, isFinallyRevoked, type Observed, type Outcome } from "./decide.ts";
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
}

const ACTOR: Actor = { kind: "Controller", name: "certificate" };
const PAGE = 100;

export class CertificateController implements Controller<Certificate, Observed, Action, Outcome> {
  readonly name = "certificate";
  readonly fieldManager = "mazevault-certificate";
  readonly resource = resourceType(certificateKind);
  readonly #deps: CertificateControllerDependencies;
  readonly #observer: CertificateObserver;
  readonly #performer: CertificatePerformer;

  constructor(deps: CertificateControllerDependencies) {
    this.#deps = deps;
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
    if (action.kind === "RecordHolder" && action.hasFormer) await this.absent(keyOf(action.certificate), signal);
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

  /** The object is gone, or another one of that name: its certificates go the way its deletion policy says. */
  async absent(key: string, signal: AbortSignal): Promise<void> {
    const { api, store } = this.#deps;
    const { namespace = "", name } = splitKey(key);
    // Deletion is not decided by a cache: the API server itself must say that there is no such object.
    const present = await api
      .get<Certificate>(this.resource, { namespace, name }, { signal })
      .catch((error: unknown) => {
        if (isNotFound(error, name)) return undefined;
        throw error;
      });
    for (const holder of await store.holdersNamed(namespace, name)) {
      if (holder.uid !== present?.metadata.uid) await this.#end(holder);
    }
  }

  async #end(holder: CertificateHolder): Promise<void> {
    const { store, authorities, writer } = this.#deps;
    failpoint("certificate.beforeRemoval");
    const revoking = holder.deletionPolicy === "Revoke";
    if (revoking) {
      for (const record of await this.#valid(holder.uid)) {
        await authorities.revoke(writer(), record, { reason: "cessationOfOperation" }, ACTOR);
      }
    }
    const { uid, namespace, name, deletionPolicy } = holder;
    await store.removeHolder(writer(), uid, [
      {
        action: "CertificateHolderRemoved",
        actor: ACTOR,
        subject: { kind: "Certificate", id: uid, name: `${namespace}/${name}` },
        outcome: "Success",
        details: { deletionPolicy },
      },
    ]);
  }

  /** Certificates that somebody could still rely on. */
  async #valid(uid: string): Promise<CertificateRecord[]> {
    const now = new Date();
    const { store } = this.#deps;
    let all = await store.certificatesOf(uid, PAGE);
    for (let limit = PAGE; all.length === limit; limit *= 10) all = await store.certificatesOf(uid, limit * 10);
    return all.filter((record) => record.notAfter > now && !isFinallyRevoked(record));
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
