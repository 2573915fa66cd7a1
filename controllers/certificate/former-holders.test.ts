import { Unavailable } from "../../core/errors.ts";
import { TestPki } from "../../core/pki/testing/installation.ts";
import type { AuthorityRecord, CertificateHolder, CertificateRecord } from "../../core/ports/pki-store.ts";
import { HeldUids } from "../../core/recovery/home.ts";
import { FakeApiServer, fakeThings, reply, status } from "../runtime/testing/fake-apiserver.ts";
import { KubernetesApi } from "../runtime/transport.ts";
import { serialOf } from "./decide.ts";
import { FormerHolders } from "./former-holders.ts";

const { signal } = new AbortController();
const KEY = "payments/orders";

let server: FakeApiServer;
let api: KubernetesApi;
let pki: TestPki;
let root: AuthorityRecord;
/** UID of the object that is there now. */
let present: string | undefined;

beforeEach(async () => {
  pki = await TestPki.start();
  pki.now = new Date();
  root = await pki.root();
  present = undefined;
  server = await FakeApiServer.start();
  api = KubernetesApi.connect(server.config(), {});
  server.fault = (_request, response) => {
    if (present === undefined) reply(response, 404, { ...status(404, "NotFound"), details: { name: "orders" } });
    else reply(response, 200, { metadata: { name: "orders", namespace: "payments", uid: present } });
    return true;
  };
});
afterEach(async () => {
  await api.close();
  await server.stop();
});

const heldUids = new HeldUids();

const holders = (kind: CertificateHolder["kind"]) =>
  new FormerHolders(kind, fakeThings, {
    api,
    cluster: { held: heldUids },
    authorities: pki.authorities,
    store: pki.store,
    writer: () => pki.writer,
  });

async function held(uid: string, change: Partial<CertificateHolder> = {}): Promise<CertificateRecord> {
  const object = { namespace: "payments", namespaceUid: "ns-1", name: "orders" };
  await pki.store.recordHolder(pki.writer, {
    ...{ kind: "CertificateRequest", uid, ...object, deletionPolicy: "Revoke" },
    ...change,
  });
  return pki.issue(root, uid);
}
const reasonOf = async ({ authorityId, serialNumber }: CertificateRecord) =>
  (await pki.store.certificate(authorityId, serialNumber))?.revocation?.reason;
const kept = async () => (await pki.store.listHolders(undefined, 10)).map(({ uid }) => uid);

test("an object that is gone takes its certificates with it where it said so", async () => {
  const [revoked, retained] = [await held("revoke"), await held("retain", { deletionPolicy: "Retain" })];
  await holders("CertificateRequest").absent(KEY, signal);
  expect([await reasonOf(revoked), await reasonOf(retained)]).toEqual(["cessationOfOperation", undefined]);
  expect(await kept()).toEqual([]);
});

test("one that is there keeps its own; of former ones of its name, and of other kinds, each has its own end", async () => {
  const [former, own, other] = [await held("former"), await held("own"), await held("other", { kind: "Certificate" })];
  present = "own";
  await holders("CertificateRequest").endOthers(
    { namespace: "payments", name: "orders", uid: "own", resourceVersion: "1" },
    signal,
  );
  expect(await Promise.all([former, own, other].map(reasonOf))).toEqual(["cessationOfOperation", undefined, undefined]);
  expect(await kept()).toEqual(["other", "own"]);
});

test("as long as the API server does not say that it is gone nothing happens", async () => {
  const record = await held("uid");
  server.fault = (_request, response) => {
    reply(response, 403, status(403, "Forbidden"));
    return true;
  };
  await expect(holders("CertificateRequest").absent(KEY, signal)).rejects.toThrow();
  expect(await reasonOf(record)).toBeUndefined();
  expect(await kept()).toEqual(["uid"]);
});

test("what the primary refuses for good to revoke is on record, and holds nothing else up; any other failure is tried again", async () => {
  const [one, other] = [await held("one"), await held("other")];
  const revoke = pki.authorities.revoke.bind(pki.authorities);
  let code: "SerialNumberUnknown" | "PrimaryUnreachable" = "PrimaryUnreachable";
  pki.authorities.revoke = async (...given) => {
    if (given[1].serialNumber === one.serialNumber) throw new Unavailable(code, "the primary refuses");
    return revoke(...given);
  };
  await expect(holders("CertificateRequest").absent(KEY, signal)).rejects.toMatchObject({ code });
  expect([await reasonOf(other), await kept()]).toEqual(["cessationOfOperation", ["one"]]);
  code = "SerialNumberUnknown";
  await holders("CertificateRequest").absent(KEY, signal);
  expect([await reasonOf(one), await reasonOf(other)]).toEqual([undefined, "cessationOfOperation"]);
  expect(await kept()).toEqual([]);
  const removed = pki.database.audit
    .map(({ entry }) => entry)
    .filter(({ action, subject: { id } }) => action === "CertificateHolderRemoved" && id === "one");
  expect(removed).toMatchObject([{ outcome: "Failure", details: { notRevoked: serialOf(one) } }]);
});
