/** What to do for an issuer that has the primary of its gateway sign. Pure. */
import { differenceFromPrimary, isAsPrimaryTells, newest } from "../../core/pki/authority.ts";
import type { AuthorityIdentity, AuthorityRecord } from "../../core/ports/pki-store.ts";
import type { Reason } from "../../crds/conditions.ts";
import type { AnyIssuer } from "../../crds/issuer.ts";
import { pauseMs } from "../retry.ts";
import type { OwnedCondition, Plan } from "../runtime/controller.ts";
import { caFields, seconds } from "./status.ts";

/** What the primary says of the issuer that is to sign. */
export type ObservedPrimary =
  | { readonly kind: "NotAGateway" }
  /** The schema refuses it; an object from before that, or without it, is refused here. */
  | { readonly kind: "NotOfCluster" }
  /** It may sign: DER of its certificate and of those above it, the root last. */
  | { readonly kind: "Told"; readonly chain: readonly Buffer[] }
  /** It refuses, or there is no answer; both may become otherwise without anything changing here. */
  | { readonly kind: "Failed"; readonly reason: Reason; readonly message: string };

export interface PrimaryAction {
  readonly kind: "EnsureOfPrimary";
  readonly identity: AuthorityIdentity;
  readonly primaryIssuer: string;
  readonly chain: readonly Buffer[];
}

export interface ObservedOfPrimary {
  readonly identity: AuthorityIdentity;
  readonly authority: AuthorityRecord | undefined;
  readonly primary: ObservedPrimary;
}

/** The primary does not say when something changes there. */
const LOOK_AGAIN_MS = 300_000;

export function decideOfPrimary(
  { status, spec }: AnyIssuer,
  { identity, authority, primary }: ObservedOfPrimary,
  now: Date,
): Plan<PrimaryAction> {
  const name = spec.primary?.issuerRef.name ?? "";
  const fields = authority === undefined ? {} : caFields(authority);
  const lacking = (reason: Reason, message: string) => ({ conditions: [issued("False", reason, message)], fields });
  switch (primary.kind) {
    case "NotAGateway": {
      const message = "spec.primary: this installation is no gateway; use spec.ca, or apply it in a gateway's cluster";
      return stalled("NotAGateway", message, lacking("NotAGateway", message));
    }
    case "NotOfCluster": {
      const message =
        "spec.primary: an Issuer cannot have the primary sign; use a ClusterIssuer that lists this namespace";
      return stalled("IssuerNotAllowed", message, lacking("IssuerNotAllowed", message));
    }
    case "Failed": {
      const at = new Date(now.getTime() + pauseMs(status?.conditions, ["Issued"], now));
      const { reason, message } = primary;
      return { actions: [], status: lacking(reason, message), next: { kind: "recheckAt", at } };
    }
    case "Told": {
      const told = { primaryIssuer: name, chain: primary.chain };
      const difference = authority && differenceFromPrimary(authority, told);
      if (difference !== undefined) {
        return stalled("AuthorityDiffers", difference, lacking("AuthorityDiffers", difference));
      }
      if (authority === undefined || !isAsPrimaryTells(authority, told)) {
        const action = { kind: "EnsureOfPrimary", identity, ...told } as const;
        const doing = lacking("Progressing", "what the primary tells of its CA is being recorded");
        return { actions: [action], status: doing, next: { kind: "settled" } };
      }
      const { notAfter = now } = newest(authority);
      const until = `ClusterIssuer ${name} of the primary signs, until ${seconds(notAfter)}`;
      const published: OwnedCondition = {
        type: "Published",
        status: "True",
        reason: "Available",
        message: "the primary publishes CRL and OCSP, as far as its certificates say where",
      };
      return {
        actions: [],
        status: { conditions: [issued("True", "Succeeded", until), published], fields },
        next: { kind: "recheckAt", at: new Date(now.getTime() + LOOK_AGAIN_MS) },
      };
    }
  }
}

const issued = (status: OwnedCondition["status"], reason: Reason, message: string): OwnedCondition => ({
  type: "Issued",
  status,
  reason,
  message,
});

const stalled = (reason: Reason, message: string, status: Plan<never>["status"]): Plan<never> => ({
  actions: [],
  status,
  next: { kind: "stalled", reason, message },
});
