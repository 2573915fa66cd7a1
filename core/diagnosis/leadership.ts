/** Whether somebody leads, as the Lease tells it. */
import { type Finding, failing } from "./finding.ts";
import { operatorLog } from "./logs.ts";

export const LEASE = {
  group: "coordination.k8s.io",
  version: "v1",
  plural: "leases",
  name: "mazevault-operator",
} as const;
export const LEADERSHIP = "leadership";

export interface LeaseSpec {
  readonly holderIdentity?: string | null;
  readonly leaseDurationSeconds?: number | null;
  readonly renewTime?: string | null;
}

/** The next leader may take it when it has not been renewed for its duration; it needs a moment to do so. */
const PATIENCE = 2;

/** @param now by the clock that is nearest to the leader's */
export function judgeLeadership(spec: LeaseSpec | undefined, namespace: string, now: Date): readonly Finding[] {
  const look = `kubectl -n ${namespace} get pods, then ${operatorLog(namespace)}`;
  const { holderIdentity, leaseDurationSeconds, renewTime } = spec ?? {};
  if (!holderIdentity || !renewTime) {
    const problem = "nobody leads: nothing is reconciled, linked into the audit chain or pushed";
    return [failing(LEADERSHIP, { problem, fix: `start the operator, and look why it does not stay: ${look}` })];
  }
  const ageMs = now.getTime() - Date.parse(renewTime);
  if (ageMs <= PATIENCE * (leaseDurationSeconds ?? 15) * 1000) return [];
  return [
    failing(LEADERSHIP, {
      problem: `nobody leads: ${holderIdentity} renewed the Lease ${Math.round(ageMs / 1000)} s ago for the last time`,
      fix: `the operator is away, frozen, or may not write the Lease (check kubernetes.rights): ${look}`,
    }),
  ];
}
