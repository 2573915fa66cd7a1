import { reasons } from "../../crds/conditions.ts";
import { type Judged, judgeResources } from "./resources.ts";

const now = new Date("2027-01-01T00:00:00Z");
const ago = (seconds: number): string => new Date(now.getTime() - seconds * 1_000).toISOString();

interface State {
  readonly status?: "True" | "False";
  readonly reason?: string;
  readonly seen?: number;
  readonly since?: number;
}

const resource = ({ status = "False", reason = "Failed", seen = 2, since = 0 }: State): Judged => ({
  kind: "Secret",
  metadata: {
    name: "db",
    namespace: "shop",
    uid: "u",
    resourceVersion: "1",
    generation: 2,
    creationTimestamp: ago(since),
  },
  status: {
    conditions: [
      { type: "Ready", status, reason, message: "why", observedGeneration: seen, lastTransitionTime: ago(since) },
    ],
  },
});

test.each<[string, State, string | undefined]>([
  ["ready", { status: "True" }, undefined],
  ["suspended", { reason: "Suspended" }, undefined],
  ["just begun", { reason: "Progressing", since: 5 }, undefined],
  ["begun long ago", { reason: "Progressing", since: 500 }, "failing"],
  ["ready before its last change, a moment ago", { status: "True", seen: 1, since: 5 }, undefined],
  ["ready before its last change, long ago", { status: "True", seen: 1, since: 500 }, "failing"],
  ["waiting for a person", { reason: "ApprovalPending" }, "warning"],
  ["failing", {}, "failing"],
])("%s: %p is %p", (_name, state, status) => {
  expect(judgeResources([resource(state)], "vault", now).map((finding) => finding.status)).toEqual(
    status === undefined ? [] : [status],
  );
});

test("an open SyncConflict is told by its SyncRule", () => {
  const { status: _, ...conflict } = { ...resource({ since: 500 }), kind: "SyncConflict" };
  expect(judgeResources([conflict], "vault", now)).toEqual([]);
});

test("each reason has something to do, with a command", () => {
  for (const reason of Object.keys(reasons)) {
    if (["Suspended", "Progressing"].includes(reason)) continue;
    const [finding] = judgeResources([resource({ reason })], "vault", now);
    expect(finding).toMatchObject({ subject: "Secret shop/db", problem: `${reason}: why` });
    expect(finding?.fix).toMatch(/\S \S*(kubectl|mazevault|az|nslookup) /);
  }
});

test("the log that a command shows is the operator's or the gateway's, wherever it runs and whatever its release is called", () => {
  const [finding] = judgeResources([resource({ reason: "KeyUnavailable" })], "vault", now);
  const pods = "app.kubernetes.io/name=mazevault,app.kubernetes.io/component in (operator,gateway)";
  expect(finding?.fix).toContain(`kubectl -n vault logs -l '${pods}' `);
});

test("so many that nobody reads them are counted", () => {
  const findings = judgeResources(
    Array.from({ length: 130 }, () => resource({})),
    "vault",
    now,
  );
  expect(findings).toHaveLength(101);
  expect(findings.at(-1)?.problem).toBe("30 more resources are not Ready");
});
