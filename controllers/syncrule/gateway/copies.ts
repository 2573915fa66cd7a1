/** What a rule has to make in a gateway's cluster, as far as it can be told without looking there. Pure. */
import { type CopyKey, copyKey } from "../../../core/fleet/copy-digests.ts";
import type { GatewayCopyRecord } from "../../../core/ports/gateway-copy-store.ts";
import { failure, type SyncFailure } from "../../../core/sync/entries.ts";
import type { Reason } from "../../../crds/conditions.ts";
import type { SyncRule } from "../../../crds/syncrule.ts";
import { type DesiredDelivery, deliveryFingerprint, RULE_ANNOTATION } from "../../delivery/desired.ts";
import { type CopiedSecret, desiredCopy, faultOf } from "../kubernetes/copies.ts";
import { gatewayTargetOf } from "./place.ts";
import type { Rivals } from "./rivals.ts";

/** One core Secret that a rule makes of a Secret. */
export interface GatewayCopy {
  /** Of the Secret. */
  readonly secretName: string;
  readonly secretId: string;
  readonly version: number;
  readonly desired: DesiredDelivery;
  readonly copyKey: CopyKey;
  /** See `GatewayCopyRecord`. */
  readonly madeOf: string;
  /** What was delivered last; absent: nothing that is known of. */
  readonly record?: GatewayCopyRecord;
  /** UIDs of rules that write it through another gateway. */
  readonly rivals: readonly string[];
}

export interface GatewayCopies {
  /** Those of which nothing has changed here since they were delivered. */
  readonly delivered: readonly GatewayCopy[];
  readonly due: readonly GatewayCopy[];
  readonly failures: readonly SyncFailure[];
}

export interface GatewayCopiesInput {
  readonly rule: SyncRule;
  readonly installation: string;
  readonly secrets: readonly CopiedSecret[];
  readonly records: readonly GatewayCopyRecord[];
  readonly rivalsOf: (coreName: string) => Rivals;
}

export function planGatewayCopies({
  rule,
  installation,
  secrets,
  records,
  rivalsOf,
}: GatewayCopiesInput): GatewayCopies {
  const { namespace } = gatewayTargetOf(rule).kubernetes;
  const recorded = new Map(
    records
      .filter((record) => record.namespace === namespace)
      .map((record) => [`${record.secretId} ${record.delivery.secretName}`, record]),
  );
  const delivered: GatewayCopy[] = [];
  const due: GatewayCopy[] = [];
  const failures: SyncFailure[] = [];
  for (const { secret, entries, digests } of secrets) {
    const [first] = entries;
    const faulty = faultOf(rule, secret);
    if (faulty !== undefined || first === undefined) {
      if (faulty !== undefined) failures.push(faulty);
      continue;
    }
    const desired = marked(desiredCopy(rule, secret, { name: namespace }, installation), rule);
    const { rivalry, beyond } = rivalsOf(desired.secretName);
    const place = { secretName: secret.metadata.name, desired };
    if (rivalry !== undefined) {
      failures.push(refusal(place, rivalry.reason, rivalry.message));
      continue;
    }
    const { secretId, version } = first;
    const record = recorded.get(`${secretId} ${desired.secretName}`);
    const madeOf = deliveryFingerprint(digests, desired, entries);
    const copy: GatewayCopy = {
      ...place,
      secretId,
      version,
      copyKey: copyKey(digests, desired),
      madeOf,
      ...(record && { record }),
      rivals: beyond,
    };
    (record?.madeOf === madeOf ? delivered : due).push(copy);
  }
  return { delivered, due, failures };
}

/** Rules of one installation know each other's by it. */
const marked = (desired: DesiredDelivery, { metadata: { uid } }: SyncRule): DesiredDelivery => ({
  ...desired,
  annotations: { ...desired.annotations, [RULE_ANNOTATION]: uid },
});

/** Where a core Secret stands in that cluster, for people. */
export const placeOf = ({ desired }: Pick<GatewayCopy, "desired">): string =>
  `${desired.namespace}/${desired.secretName}`;

export const refusal = (
  copy: Pick<GatewayCopy, "secretName" | "desired">,
  reason: Reason,
  message: string,
): SyncFailure => failure({ secretName: copy.secretName, key: "", entryName: placeOf(copy) }, reason, message);
