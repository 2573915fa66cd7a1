import { HeldUids } from "../core/recovery/home.ts";
import { heldUidOf, livingNamespace, type Namespace } from "./cluster.ts";
import { Tenants } from "./syncrule/kubernetes/testing/tenants.ts";

const metadata = { name: "shop", uid: "shop-2", resourceVersion: "1" };
const shop = { kind: "Namespace", namespace: "", name: "shop", heldUid: "shop-1" } as const;

/** As the caches have it: namespaces have the UIDs already under which their rows stand. */
class Restored extends Tenants {
  override namespace(): Namespace {
    if (this.held.isAwaited("Namespace", metadata)) return { metadata, isAwaited: true };
    return { metadata: { ...metadata, uid: this.held.of("Namespace", metadata) } };
  }
}

test("a namespace whose place nobody has said is waited for, and told what to run", () => {
  const cluster = new Restored();
  const look = () => livingNamespace(cluster, { name: "db", namespace: "shop", uid: "db", resourceVersion: "1" });
  const waits = () => {
    expect(look).toThrow(expect.objectContaining({ code: "NotAdopted" }));
    expect(look).toThrow(/Namespace shop by another UID; run mazevault-backup adopt once more/);
  };
  cluster.held.load([{ ...shop, uid: undefined }]);
  waits();
  for (const recovering of [true, false]) {
    cluster.held.load([{ ...shop, uid: "shop-2" }], recovering);
    expect(look()).toMatchObject({ name: "shop", uid: "shop-1" });
  }
  // Made anew it waits until it is said to be another one, and is that once the recovery is settled.
  cluster.held.load([{ ...shop, uid: "shop-0" }], true);
  waits();
  cluster.held.load([{ ...shop, uid: "shop-0" }]);
  expect(look()).toMatchObject({ name: "shop", uid: "shop-2" });
});

test("objects of other kinds and namespaces do not wait with it", () => {
  const held = new HeldUids();
  held.load([{ kind: "Certificate", namespace: "shop", name: "web", heldUid: "web-1", uid: undefined }]);
  const of = (namespace: string) => ({ name: "web", namespace, uid: "web-2", resourceVersion: "1" });
  expect(() => heldUidOf({ held }, "Certificate", of("shop"))).toThrow(
    /Certificate shop\/web by another UID; run mazevault-backup adopt/,
  );
  expect(heldUidOf({ held }, "Certificate", of("other"))).toBe("web-2");
  expect(heldUidOf({ held }, "CertificateRequest", of("shop"))).toBe("web-2");
});
