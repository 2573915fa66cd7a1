/** What an object of a name has left is ended when another one of that name begins, and kept while a recovery is not settled. */
import { createSecretKey, randomBytes } from "node:crypto";
import { LocalRootKey } from "../adapters/rootkey/local-root-key.ts";
import { TestPki } from "../core/pki/testing/installation.ts";
import { FakeAuditLog } from "../core/ports/fake-audit-log.ts";
import { FakeDatabase } from "../core/ports/fake-database.ts";
import { FakeKeyStore } from "../core/ports/fake-key-store.ts";
import { FakeVaultStore } from "../core/ports/fake-vault-store.ts";
import { KeyRing } from "../core/vault/keyring.ts";
import { Vault } from "../core/vault/vault.ts";
import type { Certificate } from "../crds/certificate.ts";
import type { CertificateRequest } from "../crds/certificaterequest.ts";
import { CertificateController } from "./certificate/index.ts";
import { CertificateRequestController } from "./certificaterequest/index.ts";
import { SecretController } from "./secret/index.ts";
import { identityOf, lifecycleOf } from "./secret/observe.ts";
import { secretOf, Tenants } from "./syncrule/kubernetes/testing/tenants.ts";

const { signal } = new AbortController();
const cluster = new Tenants().admit("pay", "shop");
const metadata = { namespace: "shop", name: "web", uid: "new", resourceVersion: "1" };
const delivering = { installation: "installation", events: { record: () => {} }, absorb: () => {} };

describe.each([true, false])("while a recovery is not settled: %s", (recovering) => {
  const isRecovering = () => recovering;

  test("a Secret that went to another environment", async () => {
    const database = new FakeDatabase();
    const keys = await KeyRing.open(
      new FakeKeyStore(database),
      new LocalRootKey("root", createSecretKey(randomBytes(32))),
    );
    const writer = { epoch: await database.acquireEpoch("test") };
    const store = new FakeVaultStore(database);
    const vault = new Vault({ store, keys, audit: new FakeAuditLog(database) });
    await keys.project(writer, "pay");
    const former = secretOf("shop", "web", { environment: "dev" });
    const request = {
      entries: former.spec.entries,
      seen: undefined,
      sources: new Map(),
      lifecycle: lifecycleOf(former),
    };
    const actor = { kind: "Controller", name: "test" } as const;
    await vault.store(writer, { ...request, identity: identityOf(former, "uid-shop"), actor });
    const secret = secretOf("shop", "web");
    const controller = new SecretController({
      ...{ ...delivering, cluster, vault, store, isRecovering, writer: () => writer, targets: {} as never },
      api: { get: async () => secret } as never,
    });
    await controller.perform({ kind: "StoreVersion", secret, seen: undefined, lifecycle: lifecycleOf(secret) }, signal);
    const states = (await store.locate("shop", "web")).map(({ identity: { environment }, state }) => [
      environment,
      state,
    ]);
    expect(new Map(states as [string, string][])).toEqual(
      new Map([
        ["dev", recovering ? "Active" : "SoftDeleted"],
        ["pro", "Active"],
      ]),
    );
  });

  test.each(["Certificate", "CertificateRequest"] as const)("a %s that was made anew", async (kind) => {
    const pki = await TestPki.start();
    pki.now = new Date();
    const root = await pki.root();
    const holder = {
      ...{ kind, namespace: "shop", namespaceUid: "uid-shop", name: "web" },
      deletionPolicy: "Revoke",
    } as const;
    await pki.store.recordHolder(pki.writer, { ...holder, uid: "former" });
    const { authorityId, serialNumber } = await pki.issue(root, "former");
    const { authorities, store } = pki;
    const deps = {
      ...{ ...delivering, cluster, authorities, store, isRecovering, writer: () => pki.writer },
      api: { get: async () => ({ metadata }) } as never,
    };
    const anew = { ...holder, uid: "new" };
    if (kind === "Certificate") {
      const certificate = { metadata } as Certificate;
      const controller = new CertificateController(deps);
      await controller.perform({ kind: "RecordHolder", certificate, holder: anew, hasFormer: true }, signal);
    } else {
      const request = { metadata } as CertificateRequest;
      await new CertificateRequestController(deps).perform({ kind: "RecordHolder", request, holder: anew }, signal);
    }
    const kept = (await store.listHolders(undefined, 10)).map(({ uid }) => uid);
    expect(kept).toEqual(recovering ? ["former", "new"] : ["new"]);
    const { revocation } = (await store.certificate(authorityId, serialNumber)) ?? {};
    expect(revocation?.reason).toBe(recovering ? undefined : "cessationOfOperation");
  });
});
