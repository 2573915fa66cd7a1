/** Certificates that were signed for gateways are revoked from here, and no other ones. */
import { Unavailable } from "../../core/errors.ts";
import { TestPki } from "../../core/pki/testing/installation.ts";
import type { AuthorityRecord, CertificateRecord } from "../../core/ports/pki-store.ts";
import { actor } from "../../core/ports/samples.ts";
import type { ClusterIssuer } from "../../crds/issuer.ts";
import type { Cluster } from "../cluster.ts";
import { ClusterIssuerController } from "./index.ts";
import { withRevocations } from "./revocations.ts";

const GATEWAY = {
  kind: "GatewayObject",
  namespace: "",
  namespaceUid: "gw",
  name: "gw-npr/Certificate/shop/web",
} as const;

let pki: TestPki;
let root: AuthorityRecord;
let controller: ClusterIssuerController;

beforeEach(async () => {
  pki = await TestPki.start();
  root = await pki.root();
  controller = new ClusterIssuerController({
    cluster: {} as Cluster,
    authorities: pki.authorities,
    store: pki.store,
    writer: () => pki.writer,
    crlProblem: () => undefined,
    publishedAt: undefined,
  });
});

const signed = (uid: string): Promise<CertificateRecord> => pki.issue(root, uid, 1, { requester: { ...GATEWAY, uid } });
const reasonOf = async ({ authorityId, serialNumber }: CertificateRecord) =>
  (await pki.store.certificate(authorityId, serialNumber))?.revocation?.reason;

/** Until nothing is left to be done; what it says of it in the end. */
async function pass(...listed: NonNullable<ClusterIssuer["spec"]["gatewayRevocations"]>) {
  const issuer: ClusterIssuer = {
    apiVersion: "mazevault.io/v1",
    kind: "ClusterIssuer",
    metadata: { name: "root", uid: "uid-of-root", resourceVersion: "1", generation: 3 },
    spec: { ca: { subject: { commonName: "root CA" } }, gatewayRevocations: listed },
  };
  let seen = await controller.observe(issuer);
  for (;;) {
    const plan = controller.decide(issuer, seen, pki.now);
    if (plan.actions.length === 0) return plan;
    for (const action of plan.actions) seen = controller.learn(seen, action, await controller.perform(action));
  }
}

test("what is listed is revoked once, on record in the name of the issuer, and the CA goes on", async () => {
  const [one, other] = [await signed("one"), await signed("other")];
  const serialNumber = one.serialNumber.toUpperCase().replaceAll(/..(?=.)/g, "$&:");
  for (let times = 0; times < 2; times += 1) {
    const { status, next } = await pass({ serialNumber, reason: "keyCompromise" });
    expect(status.conditions).toMatchObject([
      { type: "Issued", status: "True" },
      { type: "Linted", status: "True" },
      { type: "Published" },
      { type: "Revoked", status: "True", reason: "Succeeded" },
    ]);
    expect(next.kind).toBe("recheckAt");
  }
  expect([await reasonOf(one), await reasonOf(other)]).toEqual(["keyCompromise", undefined]);
  const rows = pki.database.audit.map(({ entry }) => entry).filter(({ action }) => action === "CertificateRevoked");
  const by = { kind: "Object", resource: "clusterissuers.mazevault.io root", uid: "uid-of-root", generation: 3 };
  expect(rows).toMatchObject([{ actor: by }]);
});

test("what its gateway has on hold is revoked for good; what is final stays as it is", async () => {
  const [held, final] = [await signed("held"), await signed("final")];
  await pki.authorities.revoke(pki.writer, held, { reason: "certificateHold" }, actor);
  await pki.authorities.revoke(pki.writer, final, { reason: "superseded" }, actor);
  await pass(
    { serialNumber: held.serialNumber, reason: "privilegeWithdrawn" },
    { serialNumber: final.serialNumber, reason: "privilegeWithdrawn" },
  );
  expect([await reasonOf(held), await reasonOf(final)]).toEqual(["privilegeWithdrawn", "superseded"]);
});

test("certificates of this cluster, of other CAs, and what is none are told and not revoked; the others are", async () => {
  const own = await pki.issue(root, "own");
  const foreign = await pki.issue(await pki.root("other"), "foreign", 1, { requester: { ...GATEWAY, uid: "foreign" } });
  const one = await signed("one");
  for (const serialNumber of [own.serialNumber, foreign.serialNumber, "00", "3f:0a:77"]) {
    const { status, next } = await pass(
      { serialNumber, reason: "superseded" },
      { serialNumber: one.serialNumber, reason: "superseded" },
    );
    expect(status.conditions.at(-1)).toMatchObject({
      type: "Revoked",
      status: "False",
      reason: "SerialNumberUnknown",
      message: expect.stringContaining("spec.gatewayRevocations[0].serialNumber"),
    });
    expect(next.kind).toBe("recheckAt");
  }
  expect(await Promise.all([own, foreign, one].map(reasonOf))).toEqual([undefined, undefined, "superseded"]);
});

test("one that was tampered with is told, and the others are revoked, also where the CA cannot do what it has to", async () => {
  const [bad, good] = [await signed("bad"), await signed("good")];
  const judge = pki.authorities.judgeStatus.bind(pki.authorities);
  pki.authorities.judgeStatus = (record) => {
    if (record.serialNumber === bad.serialNumber) throw new Unavailable("TamperDetected", "its status was changed");
    judge(record);
  };
  const { status } = await pass(
    { serialNumber: bad.serialNumber, reason: "keyCompromise" },
    { serialNumber: good.serialNumber, reason: "keyCompromise" },
  );
  expect(status.conditions.at(-1)).toMatchObject({
    type: "Revoked",
    status: "False",
    reason: "TamperDetected",
    message: "spec.gatewayRevocations[0]: its status was changed",
  });
  expect(await Promise.all([bad, good].map(reasonOf))).toEqual([undefined, "keyCompromise"]);
  const listed = [{ index: 0, reason: "keyCompromise", record: await signed("later") }] as const;
  const plan = { actions: [{ kind: "Ensure" }], status: { conditions: [] }, next: { kind: "settled" } } as const;
  expect(withRevocations(plan, listed).actions.map(({ kind }) => kind)).toEqual(["Revoke", "Ensure"]);
});
