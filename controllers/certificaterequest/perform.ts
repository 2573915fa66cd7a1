/** The one effect on a CertificateRequest: its signature. */
import type { Authorities } from "../../core/pki/authority.ts";
import type { Writer } from "../../core/ports/vault-store.ts";
import { certificateRequestKind } from "../../crds/certificaterequest.ts";
import { objectActor } from "../actor.ts";
import { resourceType } from "../runtime/resource-type.ts";
import type { Action, Observed } from "./decide.ts";
import type { CertificateRequestObserver } from "./observe.ts";

export interface CertificateRequestPerformerDependencies {
  readonly authorities: Pick<Authorities, "issue">;
  /** The leader's epoch. */
  readonly writer: () => Writer;
  readonly observer: CertificateRequestObserver;
}

/** An object has one certificate, ever: another one of its name has another UID. */
const REVISION = 1;

export class CertificateRequestPerformer {
  readonly #deps: CertificateRequestPerformerDependencies;

  constructor(deps: CertificateRequestPerformerDependencies) {
    this.#deps = deps;
  }

  async perform({ request, namespaceUid, authority, wanted }: Action): Promise<Observed> {
    const { authorities, writer, observer } = this.#deps;
    const { namespace = "", name, uid } = request.metadata;
    const { key: _, spki, ...contents } = wanted;
    const record = await authorities.issue(writer(), {
      ...contents,
      authority,
      requester: { kind: "CertificateRequest", namespace, namespaceUid, name, uid },
      revision: REVISION,
      key: { spki },
      actor: objectActor(resourceType(certificateRequestKind), request),
    });
    return observer.issued(record);
  }
}
