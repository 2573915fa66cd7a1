/** What a ClusterIssuer signed for gateways and its manifest wants revoked: here there is no other object that could ask for it. */
import { Unavailable } from "../../core/errors.ts";
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
  /** Undefined: this CA signed nothing of that number for a gateway, or there is a fault. */
  readonly record: CertificateRecord | undefined;
  /** What is stored of it is not what was written. */
  readonly fault?: string;
}

export interface RevokeAction {
  readonly kind: "Revoke";
  readonly record: CertificateRecord;
  readonly reason: RevocationReason;
}

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
      try {
        if (record !== undefined) parts.authorities.judgeStatus(record);
      } catch (error) {
        // The others are revoked all the same.
        if (!(error instanceof Unavailable && error.code === "TamperDetected")) throw error;
        return { index, reason, record: undefined, fault: error.message };
      }
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
  // First, as they need no key of the CA, which may be what cannot be had.
  return { ...plan, actions: [...due, ...plan.actions], status: { ...plan.status, conditions } };
}

function revoked(listed: readonly GatewayRevocation[], due: number): OwnedCondition {
  const type = "Revoked";
  const faulty = listed.find(({ fault }) => fault !== undefined);
  if (faulty !== undefined) {
    const message = `spec.gatewayRevocations[${faulty.index}]: ${faulty.fault}`;
    return { type, status: "False", reason: "TamperDetected", message };
  }
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
