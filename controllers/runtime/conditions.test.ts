import type { Condition, Resource } from "../../crds/common.ts";
import { failedStatus, sameStatus, settledStatus } from "./conditions.ts";
import type { OwnedCondition, OwnedStatus } from "./controller.ts";

const then = new Date("2026-01-01T00:00:00.500Z");
const later = new Date("2026-01-01T01:00:00Z");

const resource = (status?: unknown, generation = 3): Resource => ({
  apiVersion: "mazevault.io/v1",
  kind: "Secret",
  metadata: { name: "db", namespace: "payments", uid: "u", resourceVersion: "1", generation },
  spec: {},
  status,
});

const stored: OwnedCondition = { type: "Stored", status: "True", reason: "Succeeded", message: "version 4" };
const notDelivered: OwnedCondition = {
  type: "Delivered",
  status: "False",
  reason: "TargetNotOwned",
  message: "core Secret db is not ours",
};
const own = (...conditions: OwnedCondition[]): OwnedStatus => ({ conditions, fields: { version: 4 } });

const brief = (conditions: readonly Condition[]): Record<string, string> =>
  Object.fromEntries(conditions.map(({ type, status, reason }) => [type, `${status} ${reason}`]));

test.each([
  ["all hold: ready, and neither Reconciling nor Stalled is present", own(stored), { Ready: "True Succeeded" }],
  [
    "one does not hold: Ready tells why, and it is still being worked on",
    own(stored, notDelivered),
    { Ready: "False TargetNotOwned", Reconciling: "True TargetNotOwned" },
  ],
  [
    "what was not asked for does not count",
    own(stored, { ...notDelivered, reason: "NotRequested" }),
    { Ready: "True Succeeded" },
  ],
  [
    "a suspended one is not being worked on",
    own({ ...stored, status: "False", reason: "Suspended" }),
    { Ready: "False Suspended" },
  ],
  [
    "unknown is not false",
    own({ ...stored, status: "Unknown", reason: "Progressing" }),
    { Ready: "Unknown Progressing", Reconciling: "True Progressing" },
  ],
])("%s", (_name, status, expected) => {
  const { conditions } = settledStatus(resource(), status, { kind: "settled" }, then);
  const { Stored: _s, Delivered: _d, ...summary } = brief(conditions);
  expect(summary).toEqual(expected);
});

test("stalled: not ready although every own condition holds, and nothing says that it is being worked on", () => {
  const next = { kind: "stalled", reason: "TemplateInvalid", message: "entry url: unknown filter" } as const;
  const { conditions } = settledStatus(resource(), own(stored), next, then);
  expect(brief(conditions)).toEqual({
    Ready: "False TemplateInvalid",
    Stalled: "True TemplateInvalid",
    Stored: "True Succeeded",
  });
});

test("lastTransitionTime stays while the status of a condition stays, so that nothing is written twice", () => {
  const first = settledStatus(resource(), own(stored), { kind: "settled" }, then);
  expect(first.conditions[0]?.lastTransitionTime).toBe("2026-01-01T00:00:00Z");
  const again = settledStatus(resource(first), own(stored), { kind: "settled" }, later);
  expect(sameStatus(first, again)).toBe(true);
  const changed = settledStatus(resource(first), own(notDelivered), { kind: "settled" }, later);
  expect(changed.conditions.find(({ type }) => type === "Ready")?.lastTransitionTime).toBe("2026-01-01T01:00:00Z");
});

test("the order of conditions makes no difference, a field does", () => {
  const status = settledStatus(resource(), own(stored, notDelivered), { kind: "settled" }, then);
  expect(sameStatus({ ...status, conditions: status.conditions.toReversed() }, status)).toBe(true);
  expect(sameStatus({ ...status, version: 5 }, status)).toBe(false);
  expect(sameStatus(undefined, status)).toBe(false);
});

test("a failed read leaves what was known, under the generation that it was known for", () => {
  const before = settledStatus(resource(undefined, 2), own(stored, notDelivered), { kind: "settled" }, then);
  const failed = failedStatus(
    resource(before, 3),
    undefined,
    { kind: "retrying", reason: "DatabaseUnavailable", message: "refused", condition: undefined, known: false },
    later,
  );
  expect(failed).toMatchObject({ observedGeneration: 3, version: 4 });
  expect(brief(failed.conditions)).toEqual({
    Ready: "False DatabaseUnavailable",
    Reconciling: "True DatabaseUnavailable",
    Stored: "True Succeeded",
    Delivered: "False TargetNotOwned",
  });
  expect(failed.conditions.find(({ type }) => type === "Stored")?.observedGeneration).toBe(2);
});

test("a failed action shows in the condition that it is for, beside what was observed", () => {
  const failed = failedStatus(
    resource(),
    own(stored, { ...notDelivered, reason: "Progressing" }),
    {
      kind: "stalled",
      reason: "TargetTypeDiffers",
      message: "it is kubernetes.io/tls",
      condition: "Delivered",
      known: true,
    },
    then,
  );
  expect(brief(failed.conditions)).toEqual({
    Ready: "False TargetTypeDiffers",
    Stalled: "True TargetTypeDiffers",
    Stored: "True Succeeded",
    Delivered: "False TargetTypeDiffers",
  });
  expect(failed.version).toBe(4);
});

test("where nothing is known the condition is Unknown", () => {
  const failed = failedStatus(
    resource(),
    undefined,
    { kind: "retrying", reason: "DatabaseUnavailable", message: "refused", condition: "Stored", known: false },
    then,
  );
  expect(brief(failed.conditions).Stored).toBe("Unknown DatabaseUnavailable");
});
