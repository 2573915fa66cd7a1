import { pem } from "../../core/pki/pem.ts";
import { TestPki } from "../../core/pki/testing/installation.ts";
import type { AuthorityRecord } from "../../core/ports/pki-store.ts";
import { actor } from "../../core/ports/samples.ts";
import type { Condition } from "../../crds/common.ts";
import type { ClusterIssuer, Issuer } from "../../crds/issuer.ts";
import type { Cluster } from "../cluster.ts";
import { settledStatus } from "../runtime/conditions.ts";
import { decide, type Observed } from "./decide.ts";
import type { ObservedPrimary } from "./primary.ts";
import { referredIssuer } from "./reference.ts";

const identity = { kind: "ClusterIssuer", namespace: "", namespaceUid: "", name: "services" } as const;
const NOW = new Date("2026-03-01T12:00:00Z");
const MINUTE_MS = 60_000;

let chain: readonly Buffer[];
let known: AuthorityRecord;
let others: readonly Buffer[];

beforeAll(async () => {
  const [primary, gateway] = [await TestPki.start(), await TestPki.start()];
  const chainOf = async (name: string) => primary.authorities.chainOf(await primary.root(name));
  [chain, others] = [await chainOf("payments-ca"), await chainOf("other-ca")];
  const told = { identity, primaryIssuer: "payments-ca", chain, actor };
  known = await gateway.authorities.ensureOfPrimary(gateway.writer, told);
});

const issuer = (conditions: readonly Condition[] = []): ClusterIssuer => ({
  apiVersion: "mazevault.io/v1",
  kind: "ClusterIssuer",
  metadata: { name: "services", uid: "uid", resourceVersion: "1", generation: 1 },
  spec: { primary: { issuerRef: { kind: "ClusterIssuer", name: "payments-ca" } } },
  status: { conditions: [...conditions] },
});

function decided(primary: ObservedPrimary, authority: AuthorityRecord | undefined, of = issuer()) {
  const seen: Observed = {
    identity,
    namespace: undefined,
    authority,
    parent: undefined,
    request: undefined,
    publishedAt: undefined,
    unpublished: undefined,
    primary,
  };
  const plan = decide(of, seen, NOW);
  const { conditions = [], ...fields } = settledStatus(of, plan.status, plan.next, NOW);
  const summary = conditions.flatMap(({ type, status, reason }) =>
    type === "Published" ? [] : [`${type} ${status} ${reason}`],
  );
  return { ...plan, summary, fields };
}

test("what the primary tells of is recorded, then it is ready with the chain", () => {
  const first = decided({ kind: "Told", chain }, undefined);
  expect(first.actions).toEqual([{ kind: "EnsureOfPrimary", identity, primaryIssuer: "payments-ca", chain }]);
  const then = decided({ kind: "Told", chain }, known);
  expect(then.actions).toEqual([]);
  expect(then.summary).toEqual(["Ready True Succeeded", "Issued True Succeeded"]);
  expect(then.fields).toMatchObject({ caBundle: chain.map((der) => pem("CERTIFICATE", der)).join("") });
  expect(then.next).toEqual({ kind: "recheckAt", at: new Date(NOW.getTime() + 5 * MINUTE_MS) });
});

test("one that was retired is taken up again", () => {
  expect(decided({ kind: "Told", chain }, { ...known, state: "Retired" }).actions).toHaveLength(1);
});

test.each(["PrimaryUnreachable", "IssuerNotAllowed"] as const)(
  "%s may become otherwise: it is asked again with growing pauses, and what is known stays in status",
  (reason) => {
    const failed = { kind: "Failed", reason, message: "no" } as const;
    const { summary, fields, next } = decided(failed, known);
    expect(summary).toEqual([`Ready False ${reason}`, `Reconciling True ${reason}`, `Issued False ${reason}`]);
    expect(fields).toHaveProperty("caBundle");
    expect(next).toEqual({ kind: "recheckAt", at: new Date(NOW.getTime() + 1_000) });
    const since = new Date(NOW.getTime() - 40_000).toISOString();
    const lasting = { type: "Issued", status: "False", reason, message: "no", lastTransitionTime: since } as Condition;
    expect(decided(failed, known, issuer([lasting])).next).toEqual({
      kind: "recheckAt",
      at: new Date(NOW.getTime() + 20_000),
    });
    expect(decided(failed, undefined).fields).not.toHaveProperty("caBundle");
  },
);

test("where no gateway runs it waits for another manifest", () => {
  const { summary, actions } = decided({ kind: "NotAGateway" }, undefined);
  expect(actions).toEqual([]);
  expect(summary).toEqual(["Ready False NotAGateway", "Stalled True NotAGateway", "Issued False NotAGateway"]);
});

test("an Issuer of one namespace does not have the primary sign, whatever stands for it", () => {
  const { summary, actions, next } = decided({ kind: "NotOfCluster" }, known);
  expect(actions).toEqual([]);
  expect(summary[0]).toBe("Ready False IssuerNotAllowed");
  expect(next).toMatchObject({ kind: "stalled", message: expect.stringContaining("use a ClusterIssuer") });
  const tenants = { ...issuer(), kind: "Issuer" } as unknown as Issuer;
  const cluster = { issuer: () => tenants } as unknown as Cluster;
  const namespace = { name: "shop", uid: "uid", labels: {} };
  for (const authority of [known, undefined]) {
    const referred = referredIssuer(cluster, { kind: "Issuer", name: "services" }, namespace, authority);
    expect(referred).toMatchObject({ kind: "Unusable", waiting: false, reason: "IssuerNotAllowed" });
  }
});

test("another CA than the one that is known is refused", () => {
  const { actions, next } = decided({ kind: "Told", chain: others }, known);
  expect(actions).toEqual([]);
  expect(next).toMatchObject({ kind: "stalled", reason: "AuthorityDiffers" });
});
