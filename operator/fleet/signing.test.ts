/**
 * A primary and gateways on stores in memory, with all that lies between but the channel: what a gateway asks for goes through the
 * routes, and what the leader does with it comes back. Every way of mixing environments is tried.
 */
import { createHash, X509Certificate } from "node:crypto";
import type { ChannelHandler } from "../../adapters/channel/server-session.ts";
import { memoryRateCounters } from "../../adapters/memory/rate-counters.ts";
import { SigningOrders } from "../../controllers/signing/orders.ts";
import { ClusterIssuerPolicy } from "../../controllers/signing/policy.ts";
import { Unavailable } from "../../core/errors.ts";
import { Answers } from "../../core/fleet/answers.ts";
import { GatewaySigning } from "../../core/fleet/gateway-signing.ts";
import { LinkedPrimaryCa } from "../../core/fleet/linked-primary-ca.ts";
import type { Member } from "../../core/fleet/member.ts";
import { SIGNING_ROUTES, type SigningRequest } from "../../core/fleet/signing-protocol.ts";
import { Authorities } from "../../core/pki/authority.ts";
import { parseCertificate } from "../../core/pki/certificate.ts";
import { createCsr } from "../../core/pki/csr.ts";
import { subjectAltName } from "../../core/pki/extension.ts";
import type { IssueRequest } from "../../core/pki/issuance.ts";
import { generateKey, spkiOf } from "../../core/pki/key.ts";
import { oids } from "../../core/pki/oid.ts";
import { pem } from "../../core/pki/pem.ts";
import { profileUsages } from "../../core/pki/profile.ts";
import { LocalSigner } from "../../core/pki/signer.ts";
import { leafRequest, TestPki } from "../../core/pki/testing/installation.ts";
import { FakeAuditLog } from "../../core/ports/fake-audit-log.ts";
import { FakeSigningStore } from "../../core/ports/fake-signing-store.ts";
import type { AuthorityRecord } from "../../core/ports/pki-store.ts";
import type { ChannelAnswer } from "../../core/ports/primary-channel.ts";
import type { PrimaryLink } from "../../core/ports/primary-link.ts";
import { actor } from "../../core/ports/samples.ts";
import type { ClusterIssuer, ClusterIssuerSpec } from "../../crds/issuer.ts";
import { fleetHandler } from "./routes.ts";
import { UNASKED } from "./testing/unasked.ts";

const ISSUER = "payments-ca";
const HOUR_MS = 3_600_000;
const EC = { algorithm: "ECDSA", size: 256 } as const;

const member = (name: string, environment: string): Member => ({
  gatewayId: uuidOf(name),
  name,
  environment,
  role: "primary",
  serialNumber: Buffer.from(name).toString("hex"),
});
const uuidOf = (text: string): string =>
  createHash("sha256")
    .update(text)
    .digest("hex")
    .replace(/^(.{8})(.{4}).(.{3}).(.{3})(.{12}).*$/, "$1-$2-4$3-8$4-$5");
const npr = member("gw-npr", "NPR");
const otherNpr = member("gw-npr-2", "NPR");
const pro = member("gw-pro", "PRO");

/** The primary, whose leader answers at once while it is there. */
class TestPrimary {
  readonly pki: TestPki;
  readonly issuers = new Map<string, ClusterIssuer>();
  readonly store: FakeSigningStore;
  readonly orders: SigningOrders;
  readonly handler: ChannelHandler;
  /** As registered now. */
  readonly gateways = new Map<string, Member>([npr, otherNpr, pro].map((each) => [each.name, each]));
  leads = true;
  failure: unknown;

  constructor(pki: TestPki) {
    this.pki = pki;
    const { keys, database } = pki;
    const audit = new FakeAuditLog(database);
    const cluster = { clusterIssuer: (name: string) => this.issuers.get(name) };
    const policy = new ClusterIssuerPolicy({ cluster, store: pki.store });
    this.store = new FakeSigningStore(database);
    const gateway = async (name: string) => {
      const known = this.gateways.get(name);
      return known && ({ id: known.gatewayId, environment: known.environment } as never);
    };
    const now = () => pki.now;
    const { authorities, store } = pki;
    this.orders = new SigningOrders({
      store: this.store,
      fleet: { gateway },
      pki: store,
      authorities,
      policy,
      keys,
      now,
    });
    const answers = new Answers({ patienceMs: 20, lookEveryMs: 5 });
    const outcome = (id: string) => this.#answered(id);
    const asked = { ask: this.store.ask.bind(this.store), outcome };
    const signing = new GatewaySigning({ store: asked, policy, keys, audit, now, answers });
    this.handler = fleetHandler({
      services: { ...UNASKED, signing },
      admit: (peer) => JSON.parse(peer.toString()) as Member,
      rateCounters: memoryRateCounters,
      log: { debug: () => {}, warn: () => {}, error: () => {} },
    });
  }

  async issuer(name: string, spec: Partial<ClusterIssuerSpec> = {}): Promise<AuthorityRecord> {
    this.issuers.set(name, {
      apiVersion: "mazevault.io/v1",
      kind: "ClusterIssuer",
      metadata: { name, uid: `uid-of-${name}`, resourceVersion: "1", generation: 1 },
      spec: {
        ca: { subject: { commonName: `${name} CA` } },
        policy: { profiles: ["Server"], dnsNames: ["*.shop.example"], commonNames: ["*.shop.example"] },
        gatewayEnvironments: ["NPR"],
        ...spec,
      },
    });
    return this.pki.root(name);
  }

  /** One request of a gateway in its channel. */
  async request(from: Member, path: string, body: unknown): Promise<ChannelAnswer> {
    const { status, body: answer } = await this.handler({
      method: "POST",
      path,
      json: async () => body,
      peer: Buffer.from(JSON.stringify(from)),
      remoteAddress: "192.0.2.1",
      signal: new AbortController().signal,
    });
    return { status, body: answer };
  }

  async #answered(id: string) {
    if (this.leads) {
      await this.orders.answer(this.pki.writer).catch((error: unknown) => {
        this.failure = error;
      });
    }
    return this.store.outcome(id);
  }

  issuedFor = async (): Promise<readonly string[]> =>
    this.pki.database.audit
      .filter(({ entry: { action, details } }) => action === "CertificateIssued" && details.kind === "GatewayObject")
      .map(({ entry }) => entry.subject.name);
}

/** The cluster of a gateway. */
class TestGateway {
  readonly pki: TestPki;
  readonly authorities: Authorities;
  readonly ca: LinkedPrimaryCa;
  /** Answers that are lost. */
  loses = 0;

  constructor(pki: TestPki, primary: TestPrimary, as: Member) {
    this.pki = pki;
    const link: PrimaryLink = {
      ask: async (path, body) => {
        // As it goes through the channel.
        const answer = await primary.request(as, path, JSON.parse(JSON.stringify(body)));
        if (this.loses > 0) {
          this.loses -= 1;
          throw new Unavailable("PrimaryUnreachable", "the answer was lost");
        }
        return answer;
      },
    };
    this.ca = new LinkedPrimaryCa(link);
    const audit = new FakeAuditLog(pki.database);
    const { store, keys } = pki;
    this.authorities = new Authorities({ store, keys, audit, primary: this.ca, now: () => pki.now });
  }

  async authority(issuer = ISSUER): Promise<AuthorityRecord> {
    const identity = { kind: "ClusterIssuer", namespace: "", namespaceUid: "", name: "of-primary" } as const;
    const chain = await this.ca.chainOf(issuer);
    return this.authorities.ensureOfPrimary(this.pki.writer, { identity, primaryIssuer: issuer, chain, actor });
  }

  async issue(name: string, change: Partial<IssueRequest> = {}) {
    const authority = await this.authority();
    return this.authorities.issue(this.pki.writer, { ...leafOf(authority, name), ...change });
  }
}

const leafOf = (authority: AuthorityRecord, name: string): IssueRequest => ({
  ...leafRequest(authority, `uid-of-${name}`),
  requester: { kind: "Certificate", namespace: "shop", namespaceUid: "uid-of-shop", name, uid: `uid-of-${name}` },
  subject: [],
  subjectAltNames: [{ kind: "dns", value: `${name}.shop.example` }],
});

let primary: TestPrimary;
let gateway: TestGateway;

beforeEach(async () => {
  primary = new TestPrimary(await TestPki.start());
  await primary.issuer(ISSUER);
  gateway = new TestGateway(await TestPki.start(), primary, npr);
});

const failure = (promise: Promise<unknown>): Promise<unknown> =>
  promise.then(
    () => "done",
    (error: unknown) => error,
  );

describe("a certificate for an object in a gateway's cluster", () => {
  test("is signed by the primary's CA, over a key that stays where it was made; it is on record who it is for", async () => {
    const record = await gateway.issue("web");
    const root = await primary.pki.root(ISSUER);
    const certificate = new X509Certificate(record.certificate ?? Buffer.alloc(0));
    expect(certificate.verify(new X509Certificate(root.generations[0]?.certificate ?? Buffer.alloc(0)).publicKey)).toBe(
      true,
    );
    const key = await gateway.authorities.openKey(gateway.pki.writer, record, { actor, purpose: "test" });
    expect(spkiOf(key)).toEqual(parseCertificate(certificate.raw).spki);
    expect(record).toMatchObject({ state: "Issued", hasKey: true, revision: 1 });
    expect(record.serialNumber).toBe(certificate.serialNumber.toLowerCase());
    expect(await primary.issuedFor()).toEqual(["gw-npr/Certificate/shop/web"]);
    const [known] = await primary.store.signed(npr.gatewayId, record.serialNumber);
    expect(known?.body).toContain('"uid":"uid-of-web"');
    const here = await primary.pki.store.certificatesBySerial(known?.id ?? "", record.serialNumber);
    expect(here).toMatchObject([{ hasKey: false, requester: { kind: "GatewayObject", namespaceUid: npr.gatewayId } }]);
  });

  test("is had once, however often the answer is lost", async () => {
    const authority = await gateway.authority();
    gateway.loses = 3;
    while (gateway.loses > 0) {
      const lost = failure(gateway.authorities.issue(gateway.pki.writer, leafOf(authority, "web")));
      expect(await lost).toMatchObject({ code: "PrimaryUnreachable" });
      expect(await primary.issuedFor()).toHaveLength(1);
    }
    const record = await gateway.issue("web");
    expect(await primary.issuedFor()).toHaveLength(1);
    expect(await gateway.issue("web")).toEqual(record);
    expect(gateway.pki.actions.filter((action) => action === "CertificateIssued")).toHaveLength(1);
  });

  test("waits for a leader, and has it then by the same request", async () => {
    const authority = await gateway.authority();
    primary.leads = false;
    const waiting = () => failure(gateway.authorities.issue(gateway.pki.writer, leafOf(authority, "web")));
    expect(await waiting()).toMatchObject({ name: "Waiting", code: "SignatureAwaited" });
    expect(await waiting()).toMatchObject({ name: "Waiting", code: "SignatureAwaited" });
    primary.leads = true;
    await gateway.issue("web");
    expect(await primary.issuedFor()).toHaveLength(1);
  });

  test("that was asked for while there was no leader for long is signed by the next one, as soon as it is asked for again", async () => {
    const authority = await gateway.authority();
    primary.leads = false;
    const issue = () => failure(gateway.authorities.issue(gateway.pki.writer, leafOf(authority, "web")));
    await issue();
    primary.pki.now = new Date(primary.pki.now.getTime() + HOUR_MS / 4);
    await issue();
    primary.leads = true;
    expect(await issue()).toBe("done");
    expect(await primary.issuedFor()).toHaveLength(1);
  });

  test("is the same also after the primary has forgotten that it was asked", async () => {
    const authority = await gateway.authority();
    gateway.loses = 1;
    await failure(gateway.authorities.issue(gateway.pki.writer, leafOf(authority, "web")));
    const { store, pki } = primary;
    expect(await store.forget(pki.writer, new Date(8.64e15), new Date(8.64e15))).toBe(1);
    await gateway.issue("web");
    expect(await primary.issuedFor()).toHaveLength(1);
  });

  test("may be for a key that only the requester has", async () => {
    const key = await generateKey(EC);
    const signer = new LocalSigner(key);
    const names = [{ kind: "dns", value: "own.shop.example" } as const];
    const csr = await createCsr([], [subjectAltName(names, true)], signer);
    const requester = {
      kind: "CertificateRequest",
      namespace: "shop",
      namespaceUid: "n",
      name: "own",
      uid: "own",
    } as const;
    const record = await gateway.issue("own", { requester, key: { spki: spkiOf(key), csr } });
    expect(parseCertificate(record.certificate ?? Buffer.alloc(0)).spki).toEqual(spkiOf(key));
    expect(record.hasKey).toBe(false);
    expect(await primary.issuedFor()).toEqual(["gw-npr/CertificateRequest/shop/own"]);
  });

  test("asked for otherwise, before it was signed, is another request; what was reserved is given up", async () => {
    const authority = await gateway.authority();
    primary.leads = false;
    await failure(gateway.authorities.issue(gateway.pki.writer, leafOf(authority, "web")));
    primary.leads = true;
    const record = await gateway.issue("web", { subjectAltNames: [{ kind: "dns", value: "other.shop.example" }] });
    expect(parseCertificate(record.certificate ?? Buffer.alloc(0)).subjectAltNames).toEqual([
      { kind: "dns", value: "other.shop.example" },
    ]);
    expect(gateway.pki.actions).toContain("CertificateAbandoned");
  });

  test("asked for under another registration is asked for anew, as the id stands for that; what was reserved is given up", async () => {
    const authority = await gateway.authority();
    gateway.loses = 1;
    await failure(gateway.authorities.issue(gateway.pki.writer, leafOf(authority, "web")));
    const moved = member(npr.name, "PRO");
    primary.gateways.set(npr.name, moved);
    await primary.issuer(ISSUER, { gatewayEnvironments: ["PRO"] });
    const record = await new TestGateway(gateway.pki, primary, moved).issue("web");
    expect(await primary.issuedFor()).toHaveLength(2);
    expect(gateway.pki.actions.filter((action) => action === "CertificateAbandoned")).toHaveLength(1);
    expect(await gateway.pki.store.certificatesOf("uid-of-web", 10)).toMatchObject([
      { serialNumber: record.serialNumber, state: "Issued" },
    ]);
  });

  test("that is not what was asked for is not taken", async () => {
    const authority = await gateway.authority();
    const other = await gateway.issue("other");
    const ca = { ...gateway.ca, sign: async () => [other.certificate ?? Buffer.alloc(0)] };
    const audit = new FakeAuditLog(gateway.pki.database);
    const { store, keys, writer } = gateway.pki;
    const deceived = new Authorities({ store, keys, audit, primary: ca as never });
    expect(await failure(deceived.issue(writer, leafOf(authority, "web")))).toMatchObject({
      code: "PrimaryAnswerInvalid",
      message: expect.stringMatching(/key.*alternative names/),
    });
    expect(await gateway.pki.store.certificatesOf("uid-of-web", 10)).toEqual([]);
  });
});

describe("what the primary refuses", () => {
  const asked = (from: Member, name = "web") => failure(new TestGateway(gateway.pki, primary, from).issue(name));

  test("an environment that the issuer does not list, told as if there were no such issuer, and once on record", async () => {
    const [unlisted, unknown] = [await asked(pro), await failure(gateway.ca.chainOf("nothing"))];
    expect(unlisted).toMatchObject({ code: "IssuerNotAllowed", message: expect.stringContaining("PRO") });
    expect(unknown).toMatchObject({ code: "IssuerNotAllowed" });
    const text = (error: unknown) => String((error as Error).message).replace(/nothing|payments-ca|PRO|NPR/g, "*");
    expect(text(unlisted)).toBe(text(unknown));
    await asked(pro);
    const denied = primary.pki.database.audit.filter(({ entry }) => entry.action === "GatewaySigningRefused");
    expect(denied.map(({ entry }) => [entry.subject.name, entry.outcome, entry.details.environment])).toEqual([
      ["gw-pro", "Denied", "PRO"],
      ["gw-npr", "Denied", "NPR"],
    ]);
  });

  test("an issuer that lists no environment", async () => {
    const { spec } = primary.issuers.get(ISSUER) as ClusterIssuer;
    const { gatewayEnvironments: _, ...silent } = spec;
    primary.issuers.set(ISSUER, { ...(primary.issuers.get(ISSUER) as ClusterIssuer), spec: silent });
    expect(await asked(npr)).toMatchObject({ code: "IssuerNotAllowed" });
  });

  test.each([
    ["a name outside of the policy", { subjectAltNames: [{ kind: "dns", value: "web.other.example" }] }, /dnsNames/],
    ["a common name", { subject: [[{ type: "2.5.4.3", value: "boss" }]] }, /commonName/],
    ["a validity", { durationMs: 400 * 24 * HOUR_MS }, /duration: is longer than the issuer allows/],
    ["a profile", { profile: "Client", usages: profileUsages("Client", EC) }, /profile/],
  ] as const)("%s", async (_what, change, told) => {
    const refused = await failure(gateway.issue("web", change as Partial<IssueRequest>));
    expect(refused).toMatchObject({ code: "PolicyViolated", message: expect.stringMatching(told) });
    expect((refused as Error).message).toContain("spec.policy of ClusterIssuer payments-ca");
    expect(await primary.issuedFor()).toEqual([]);
  });

  test("names that the policy has for namespaces of the primary's own cluster", async () => {
    const policy = { profiles: ["Server" as const], dnsNames: ["*.{namespace}.example", "{namespace}.example"] };
    await primary.issuer(ISSUER, { policy });
    expect(await asked(npr)).toMatchObject({ code: "PolicyViolated" });
  });

  test("an issuer whose requests a person approves", async () => {
    await primary.issuer(ISSUER, {
      policy: { profiles: ["Server"], dnsNames: ["*.shop.example"], approval: "Manual" },
    });
    expect(await asked(npr)).toMatchObject({ code: "IssuerNotAllowed", message: expect.stringContaining("Manual") });
  });

  test("what was allowed when it was asked, and is not when the leader comes to it", async () => {
    const authority = await gateway.authority();
    primary.leads = false;
    const issue = () => failure(gateway.authorities.issue(gateway.pki.writer, leafOf(authority, "web")));
    await issue();
    await primary.issuer(ISSUER, { gatewayEnvironments: ["PRO"] });
    await primary.orders.answer(primary.pki.writer);
    expect(await issue()).toMatchObject({ code: "IssuerNotAllowed" });
    expect(await primary.issuedFor()).toEqual([]);
    // A refusal is not for ever.
    await primary.issuer(ISSUER);
    primary.leads = true;
    expect(await issue()).toBe("done");
  });

  test.each([
    ["was revoked", () => primary.gateways.delete(npr.name)],
    ["has registered for another environment", () => primary.gateways.set(npr.name, member(npr.name, "PRO"))],
  ])("what a gateway asked for before it %s", async (_what, changes) => {
    const authority = await gateway.authority();
    primary.leads = false;
    const issue = () => failure(gateway.authorities.issue(gateway.pki.writer, leafOf(authority, "web")));
    await issue();
    changes();
    primary.leads = true;
    expect(await issue()).toMatchObject({ code: "GatewayRevoked" });
    expect(await primary.issuedFor()).toEqual([]);
  });

  test("an environment in the request: it is the certificate's", async () => {
    const body = { ...(await signing()), environment: "NPR" };
    expect(await primary.request(pro, SIGNING_ROUTES.sign, body)).toMatchObject({ status: 400 });
    const issuer = { issuer: { kind: "ClusterIssuer", name: ISSUER }, environment: "NPR" };
    expect(await primary.request(pro, SIGNING_ROUTES.issuer, issuer)).toMatchObject({ status: 400 });
  });

  test("a request by the id of another one", async () => {
    const first = await signing();
    expect(await primary.request(npr, SIGNING_ROUTES.sign, first)).toMatchObject({ status: 200 });
    const refused = await primary.request(npr, SIGNING_ROUTES.sign, { ...(await signing()), id: first.id });
    expect(refused).toMatchObject({ status: 409, body: { code: "RequestIdTaken" } });
    expect(await primary.issuedFor()).toHaveLength(1);
  });

  test("to have one gateway's request stand for another's: the same id is each one's own, and no requester's UID is chosen", async () => {
    const first = await signing();
    const answers = [
      await primary.request(npr, SIGNING_ROUTES.sign, first),
      await primary.request(otherNpr, SIGNING_ROUTES.sign, first),
    ];
    const given = answers.map(({ status, body }) => [status, (body as { certificates: string }).certificates]);
    expect(given.map(([status]) => status)).toEqual([200, 200]);
    expect(given[0]?.[1]).not.toBe(given[1]?.[1]);
    expect(await primary.issuedFor()).toEqual(["gw-npr/Certificate/shop/raw", "gw-npr-2/Certificate/shop/raw"]);
    expect(await primary.pki.store.certificatesOf(first.id, 10)).toEqual([]);
    const actors = primary.pki.database.audit.filter(
      ({ entry }) => entry.action === "CertificateIssued" && entry.details.kind === "GatewayObject",
    );
    expect(actors.map(({ entry: { actor } }) => actor)).toMatchObject(
      ["gw-npr", "gw-npr-2"].map((name) => ({
        subject: `Gateway ${name}`,
        via: "GatewayCertificate",
        session: first.id,
      })),
    );
  });

  test("a request whose id has a certificate already, when that it was asked is forgotten", async () => {
    const first = await signing();
    await primary.request(npr, SIGNING_ROUTES.sign, first);
    await primary.store.forget(primary.pki.writer, new Date(8.64e15), new Date(8.64e15));
    const other = { ...(await signing()), id: first.id };
    expect(await primary.request(npr, SIGNING_ROUTES.sign, other)).toMatchObject({ status: 409 });
    expect(await primary.issuedFor()).toHaveLength(1);
  });

  test("a row that somebody has written into the database, or changed there", async () => {
    primary.leads = false;
    const request = await signing();
    await primary.request(npr, SIGNING_ROUTES.sign, request);
    const [genuine] = await primary.store.pending(new Date(0), 10);
    if (genuine === undefined) throw new Error("nothing waits");
    const { store, pki } = primary;
    const forged = { ...genuine, id: uuidOf("forged"), gateway: { ...genuine.gateway, environment: "PRO" } };
    await store.ask(forged);
    await expect(primary.orders.answer(pki.writer)).rejects.toMatchObject({ code: "TamperDetected" });
    expect(await store.outcome(forged.id)).toBeUndefined();
    // It does not hold up the others.
    expect(await store.outcome(genuine.id)).toHaveProperty("certificates");
  });
});

async function signing(): Promise<SigningRequest> {
  const key = await generateKey(EC);
  const names = [{ kind: "dns", value: "raw.shop.example" } as const];
  return {
    id: crypto.randomUUID(),
    issuer: { kind: "ClusterIssuer", name: ISSUER },
    csr: pem("CERTIFICATE REQUEST", await createCsr([], [subjectAltName(names, true)], new LocalSigner(key))),
    profile: "Server",
    usages: { keyUsage: ["digitalSignature"], extendedKeyUsage: [oids.serverAuth] },
    durationSeconds: 3_600,
    requester: { kind: "Certificate", namespace: "shop", name: "raw", uid: "uid-of-raw" },
  };
}

describe("revocation", () => {
  const standing = async (serialNumber: string, of: Member = npr) => {
    const [order] = await primary.store.signed(of.gatewayId, serialNumber);
    return (await primary.pki.store.certificatesBySerial(order?.id ?? "", serialNumber))[0]?.revocation?.reason;
  };

  test("is done at the primary, then told here; a hold ends in both", async () => {
    const record = await gateway.issue("web");
    const { authorities, pki } = gateway;
    await authorities.revoke(pki.writer, record, { reason: "certificateHold" }, actor);
    expect(await standing(record.serialNumber)).toBe("certificateHold");
    const held = await pki.store.certificate(record.authorityId, record.serialNumber);
    expect(held?.revocation?.reason).toBe("certificateHold");
    await authorities.release(pki.writer, record, actor);
    expect(await standing(record.serialNumber)).toBeUndefined();
    await authorities.revoke(pki.writer, record, { reason: "certificateHold" }, actor);
    expect(await standing(record.serialNumber)).toBe("certificateHold");
    await authorities.revoke(pki.writer, record, { reason: "keyCompromise" }, actor);
    expect(await standing(record.serialNumber)).toBe("keyCompromise");
  });

  test("whose answer was lost is repeated, and nothing is told here before", async () => {
    const record = await gateway.issue("web");
    const { authorities, pki } = gateway;
    gateway.loses = 1;
    const revoke = () => failure(authorities.revoke(pki.writer, record, { reason: "superseded" }, actor));
    expect(await revoke()).toMatchObject({ code: "PrimaryUnreachable" });
    expect((await pki.store.certificate(record.authorityId, record.serialNumber))?.revocation).toBeUndefined();
    expect(await revoke()).toBe("done");
    const { audit } = primary.pki.database;
    const revoked = audit.filter(({ entry: { action } }) => action === "CertificateRevoked");
    expect(revoked).toHaveLength(1);
    // The same request: nothing but the one that was answered is kept.
    const { store, pki: at } = primary;
    expect(await store.forget(at.writer, new Date(at.now.getTime() + 2 * HOUR_MS), new Date(0))).toBe(1);
  });

  test.each([
    ["another gateway of the environment", otherNpr],
    ["one of another environment", pro],
    ["itself, after it has registered for another environment", member(npr.name, "PRO")],
  ])("of what was signed for a gateway is refused to %s", async (_who, from) => {
    const { serialNumber } = await gateway.issue("web");
    primary.gateways.set(from.name, from);
    const other = new TestGateway(await TestPki.start(), primary, from);
    const refused = await failure(other.ca.revoke(serialNumber, "keyCompromise", 1n));
    expect(refused).toMatchObject({ code: "SerialNumberUnknown" });
    expect(await standing(serialNumber)).toBeUndefined();
  });

  test("of what was issued to somebody of the primary's own cluster is refused", async () => {
    const { serialNumber } = await primary.pki.issue(await primary.pki.root(ISSUER), "own");
    expect(await failure(gateway.ca.revoke(serialNumber, "keyCompromise", 1n))).toMatchObject({
      code: "SerialNumberUnknown",
    });
  });
});

describe("the CA of the primary, as a gateway knows it", () => {
  test("has no key there, and nothing to publish", async () => {
    const authority = await gateway.authority();
    expect(authority).toMatchObject({ primaryIssuer: ISSUER, generations: [{ number: 1 }] });
    expect(authority.generations[0]).not.toHaveProperty("sealedKey");
    await gateway.issue("web");
    expect(await gateway.pki.store.listDueCrls(gateway.pki.now, 10)).toEqual([]);
    expect(await gateway.pki.store.authorities()).toEqual([]);
    const { actions } = gateway.pki;
    expect(await gateway.authority()).toEqual(authority);
    expect(gateway.pki.actions).toEqual(actions);
  });

  test("stays the one that it was", async () => {
    await gateway.authority();
    await primary.issuer("other-ca");
    expect(await failure(gateway.authority("other-ca"))).toMatchObject({ name: "Stalled", code: "AuthorityDiffers" });
    await expect(gateway.pki.root("of-primary")).rejects.toMatchObject({ code: "AuthorityDiffers" });
  });

  test("signs nothing where there is no primary", async () => {
    const authority = await gateway.authority();
    await expect(gateway.pki.restarted().issue(gateway.pki.writer, leafOf(authority, "web"))).rejects.toMatchObject({
      code: "NotAGateway",
    });
  });
});
