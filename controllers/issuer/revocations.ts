/** What a ClusterIssuer signed for gateways and its manifest wants revoked: here there is no other object that could ask for it. */
import type { Authorities } from "../../core/pki/authority.ts";
import type { AuthorityRecord, CertificateRecord, PkiStore, RevocationReason } from "../../core/ports/pki-store.ts";
import type { AnyIssuer } from "../../crds/issuer.ts";
import { isFinallyRevoked } from "../certificate/decide.ts";
import { readSerial } from "../certificate/request.ts";
import type { OwnedCondition, Plan } from "../runtime/controller.ts";

export interface GatewayRevocation {
  /** Position in spec.gatewayRevocations. */
  readonly index: number;
  readonly reason: RevocationReason;
  /** Undefined: this CA signed nothing of that number for a gateway. */
  readonly record: CertificateRecord | undefined;
}

export interface RevokeAction {
  readonly kind: "Revoke";
  readonly record: CertificateRecord;
  readonly reason: RevocationReason;
}

/** @throws Unavailable TamperDetected when what is stored of one of them is not what was written */
export async function listedRevocations(
  { spec }: AnyIssuer,
  authority: AuthorityRecord | undefined,
  parts: {
    readonly store: Pick<PkiStore, "certificate">;
    readonly authorities: Pick<Authorities, "judgeStatus">;
  },
): Promise<readonly GatewayRevocation[]> {
  const listed = "gatewayRevocations" in spec ? (spec.gatewayRevocations ?? []) : [];
  return Promise.all(
    listed.map(async ({ serialNumber, reason }, index) => {
      const serial = readSerial(serialNumber);
      const found = authority && serial !== "" ? await parts.store.certificate(authority.id, serial) : undefined;
      // What an object of this cluster asked for is revoked by that object, which would go on with it otherwise.
      const record = found?.state === "Issued" && found.requester.kind === "GatewayObject" ? found : undefined;
      if (record !== undefined) parts.authorities.judgeStatus(record);
      return { index, reason, record };
    }),
  );
}

/** The CA goes on as it would without; what is on hold at its gateway's wish is revoked for good. */
export function withRevocations<Action>(
  plan: Plan<Action>,
  listed: readonly GatewayRevocation[],
): Plan<Action | RevokeAction> {
  if (listed.length === 0) return plan;
  const due = listed.flatMap(({ record, reason }) =>
    record === undefined || isFinallyRevoked(record) ? [] : [{ kind: "Revoke", record, reason } as const],
  );
  const conditions = [...plan.status.conditions, revoked(listed, due.length)];
  return { ...plan, actions: [...plan.actions, ...due], status: { ...plan.status, conditions } };
}

function revoked(listed: readonly GatewayRevocation[], due: number): OwnedCondition {
  const type = "Revoked";
  const unknown = listed.find(({ record }) => record === undefined);
  if (unknown !== undefined) {
    const message = `spec.gatewayRevocations[${unknown.index}].serialNumber: this CA signed no certificate with this serial number for a gateway; correct it, or take the entry out`;
    return { type, status: "False", reason: "SerialNumberUnknown", message };
  }
  return due > 0
    ? { type, status: "False", reason: "Progressing", message: `${due} of ${listed.length} are not revoked yet` }
    : {
        type,
        status: "True",
        reason: "Succeeded",
        message: `what spec.gatewayRevocations lists is revoked: ${listed.length}`,
      };
}
