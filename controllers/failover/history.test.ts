import { API_VERSION } from "../../crds/common.ts";
import type { Failover, FailoverStatus } from "../../crds/failover.ts";
import { KEPT_ENDED, outlived } from "./history.ts";

const failover = (second: number, outcome?: FailoverStatus["outcome"], environment = "npr"): Failover => ({
  apiVersion: API_VERSION,
  kind: "Failover",
  metadata: {
    name: `${environment}-${second}`,
    uid: `uid-${second}`,
    resourceVersion: "1",
    creationTimestamp: new Date(Date.parse("2026-03-01T12:00:00Z") + second * 1_000).toISOString(),
  },
  spec: { environmentRef: { name: environment }, activate: "Standby" },
  ...(outcome && { status: { outcome } }),
});
const outcomes = ["Completed", "Refused", "Superseded"] as const;
const ended = (count: number, environment?: string) =>
  Array.from({ length: count }, (_, second) => failover(second, outcomes[second % outcomes.length], environment));
const names = (failovers: readonly Failover[]) => outlived(failovers).map(({ metadata }) => metadata.name);

test("the last ten that have ended stay, of each environment", () => {
  expect(names([...ended(KEPT_ENDED), ...ended(KEPT_ENDED, "pro")])).toEqual([]);
  const given = [...ended(KEPT_ENDED + 2), ...ended(KEPT_ENDED + 1, "pro")];
  expect(names(given.reverse()).sort()).toEqual(["npr-0", "npr-1", "pro-0"]);
});

test("one that has not ended stays, and so does all that came after it", () => {
  const all = ended(KEPT_ENDED + 5);
  expect(names(all.with(2, failover(2)))).toEqual(["npr-0", "npr-1"]);
  expect(names(all.with(0, failover(0)))).toEqual([]);
  expect(names([...all, failover(99)])).toEqual(["npr-0", "npr-1", "npr-2", "npr-3", "npr-4"]);
});
