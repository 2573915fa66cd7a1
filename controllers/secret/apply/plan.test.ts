import type { ApplyRecord, PendingVersion, SecretRecord } from "../../../core/ports/vault-store.ts";
import type { RotationPlan } from "../../../core/vault/due.ts";
import type { Secret } from "../../../crds/secret.ts";
import { applyCondition, applyStep, type DeliveryState, type Underway } from "./plan.ts";

const NOW = new Date("2026-03-01T12:00:00Z");
const LATER = new Date("2026-03-01T12:00:30Z");
const secret = {
  spec: {
    entries: [{ key: "password", generate: { kind: "Password" } }],
    rotation: { every: "720h", overlap: "10m", apply: { job: { cronJobRef: { name: "rotate" } } } },
  },
} as unknown as Secret;
const pending: PendingVersion = { version: 8, base: 7, keys: ["password"], cause: "Request", since: NOW };
const failure = { version: 8, cause: "Timetable", message: "Job x failed", count: 1, retryAt: LATER } as const;
const delivered: DeliveryState = { secretName: "orders-db", restarts: ["consumers"], settled: true };
const underway = (message: string): Underway => ({ kind: "Underway", message, at: LATER });
const due: RotationPlan = {
  kind: "Rotate",
  keys: ["password"],
  cause: { kind: "Timetable", timetable: "every 720h", due: NOW },
};

interface Case {
  readonly because: string;
  readonly apply: Partial<ApplyRecord>;
  readonly due?: RotationPlan;
  readonly delivery?: DeliveryState;
  readonly underway?: Underway;
  /** Kind of the action. */
  readonly does?: string;
  readonly says?: readonly [status: "True" | "False", reason: string, message: RegExp];
}

test.each<Case>([
  { because: "nothing stands in between", apply: {} },
  { because: "a version is due", apply: {}, due, does: "Propose" },
  {
    because: "a version is pending",
    apply: { pending },
    does: "Apply",
    says: ["False", "Applying", /^version 8 is being applied$/],
  },
  {
    because: "it is known by now what it waits for",
    apply: { pending },
    underway: underway("Job x has not completed yet"),
    says: ["False", "Applying", /^version 8 is being applied: Job x has not completed yet$/],
  },
  {
    because: "the core Secret does not hold the version yet",
    apply: { former: { version: 6 } },
    delivery: { ...delivered, settled: false },
    says: ["False", "ConfirmingConsumption", /^version 7 is current, version 6 counts until/],
  },
  {
    because: "the core Secret holds it",
    apply: { former: { version: 6 } },
    does: "Confirm",
    says: ["False", "ConfirmingConsumption", /have the new one$/],
  },
  {
    because: "its users are not ready",
    apply: { former: { version: 6 } },
    underway: underway("waits for Deployment/orders (1 of 2 pods are ready)"),
    says: ["False", "ConfirmingConsumption", /new one: waits for Deployment\/orders \(1 of 2 pods are ready\)$/],
  },
  {
    because: "its users are ready",
    apply: { former: { version: 6, role: "a", confirmed: NOW } },
    says: ["True", "Overlapping", /^version 6 counts until 2026-03-01T12:10:00Z; everything has the new one$/],
  },
  {
    because: "the overlap is over",
    apply: { former: { version: 6, role: "a", confirmed: new Date("2026-03-01T11:50:00Z") } },
    does: "End",
    says: ["True", "Overlapping", /^role a of version 6 is being ended$/],
  },
  {
    because: "the database does not let the role end",
    apply: { former: { version: 6, role: "a", confirmed: new Date("2026-03-01T11:50:00Z") } },
    underway: underway("role a cannot be ended: db:5432 does not answer"),
    says: ["False", "FormerNotEnded", /^role a cannot be ended: db:5432 does not answer$/],
  },
  {
    because: "the last attempt failed",
    apply: { failure },
    due,
    says: [
      "False",
      "ApplyFailed",
      /^version 8 was not applied, version 7 stays: Job x failed; the next attempt is at 2026-03-01T12:00:30Z, or at once by annotation mazevault.io\/rotate$/,
    ],
  },
  {
    because: "the last attempts failed",
    apply: { failure: { ...failure, count: 3, retryAt: NOW } },
    due,
    does: "Propose",
    says: ["False", "ApplyFailed", /^version 8 was not applied \(attempt 3\), .*; the next attempt begins/],
  },
])("$because", (given) => {
  const { delivery = delivered, due: asked = { kind: "Settled" } } = given;
  const rotation = { timetable: "every 720h", since: NOW, held: [], apply: { last: 8, failed: [], ...given.apply } };
  const entries = [{ key: "password", recipe: "", fingerprint: "" }];
  const record = { id: "id", currentVersion: 7, rotation, entries } as unknown as SecretRecord;
  const step = applyStep(secret, record, asked, delivery, given.underway, NOW);
  expect(step.action?.kind).toBe(given.does);
  const condition = applyCondition(step, record, given.underway);
  if (given.says === undefined) {
    expect(condition).toBeUndefined();
    return;
  }
  const [status, reason, message] = given.says;
  expect(condition).toEqual({ type: "Rotated", status, reason, message: expect.stringMatching(message) });
});
