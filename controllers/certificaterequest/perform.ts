/** The effects on one CertificateRequest, each idempotent. */
import { failpoint } from "../../core/failpoints.ts";
import type { Authorities } from "../../core/pki/authority.ts";
import { PkiConflict, type PkiStore } from "../../core/ports/pki-store.ts";
import { isRefusedForGood } from "../../core/ports/primary-ca.ts";
import type { Writer } from "../../core/ports/vault-store.ts";
import { type CertificateRequest, certificateRequestKind } from "../../crds/certificaterequest.ts";
import { objectActor } from "../actor.ts";
import { resourceType } from "../runtime/resource-type.ts";
import type { Action, Outcome } from "./decide.ts";
import type { CertificateRequestObserver } from "./observe.ts";

export interface CertificateRequestPerformerDependencies {
  readonly authorities: Pick<Authorities, "issue" | "revoke" | "release">;
  readonly store: Pick<PkiStore, "recordHolder" | "certificate">;
  /** The leader's epoch. */
  readonly writer: () => Writer;
  readonly observer: CertificateRequestObserver;
}

type Of<K extends Action["kind"]> = Extract<Action, { kind: K }>;

/** An object has one certificate, ever: another one of its name has another UID. */
const REVISION = 1;

const actorOf = (request: CertificateRequest) => objectActor(resourceType(certificateRequestKind), request);

export class CertificateRequestPerformer {
  readonly #deps: CertificateRequestPerformerDependencies;

  constructor(deps: CertificateRequestPerformerDependencies) {
    this.#deps = deps;
  }

  perform(action: Action): Promise<Outcome> {
    switch (action.kind) {
      case "RecordHolder":
        return this.#recordHolder(action);
      case "Revoke":
      case "ReleaseHold":
        return this.#changeRevocation(action);
      case "Issue":
        return this.#issue(action);
    }
  }

  async #recordHolder({ holder }: Of<"RecordHolder">): Promise<Outcome> {
    const { store, writer } = this.#deps;
    await store.recordHolder(writer(), holder);
    return { kind: "Holder", holder };
  }

  async #changeRevocation(action: Of<"Revoke"> | Of<"ReleaseHold">): Promise<Outcome> {
    const { authorities, store, writer, observer } = this.#deps;
    const { record, request } = action;
    const actor = actorOf(request);
    try {
      if (action.kind === "Revoke") await authorities.revoke(writer(), record, { reason: action.reason }, actor);
      else await authorities.release(writer(), record, actor);
    } catch (error) {
      if (!isRefusedForGood(error)) throw error;
      return { kind: "NotChanged", message: error.message };
    }
    failpoint("certificate.afterRevoke");
    const changed = await store.certificate(record.authorityId, record.serialNumber);
    if (changed === undefined) throw new PkiConflict(`certificate ${record.serialNumber}`);
    return observer.issued(changed);
  }

  async #issue({ request, namespaceUid, authority, wanted }: Of<"Issue">): Promise<Outcome> {
    const { authorities, writer, observer } = this.#deps;
    const { namespace = "", name } = request.metadata;
    const uid = observer.heldUid(request);
    const { key: _, spki, csr, ...contents } = wanted;
    const record = await authorities.issue(writer(), {
      ...contents,
      authority,
      requester: { kind: "CertificateRequest", namespace, namespaceUid, name, uid },
      revision: REVISION,
      key: { spki, csr },
      actor: actorOf(request),
    });
    return observer.issued(record);
  }
}
