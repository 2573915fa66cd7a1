import { X509Certificate } from "node:crypto";
import { Fenced } from "../errors.ts";
import { parseCertificate } from "../pki/certificate.ts";
import { createCsr } from "../pki/csr.ts";
import { generateKey } from "../pki/key.ts";
import { parsePem, pem } from "../pki/pem.ts";
import { LocalSigner } from "../pki/signer.ts";
import { TestPki } from "../pki/testing/installation.ts";
import { FakeAuditLog } from "../ports/fake-audit-log.ts";
import { FakeFleetStore } from "../ports/fake-fleet-store.ts";
import type { FleetCertificateRequest, FleetStore, TokenRefusal } from "../ports/fleet-store.ts";
import { spkiFingerprint } from "./bootstrap-token.ts";
import { FleetRefused } from "./errors.ts";
import { FLEET_IDENTITY } from "./fleet-ca.ts";
import { type Member, memberOf } from "./member.ts";
import { CHANNEL_HOST } from "./protocol.ts";
import { certificatesOf, type Ground, NPR, newCsr, PRO, TestFleet } from "./testing/fleet.ts";

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;

let pki: TestPki;
let store: FakeFleetStore;
let ground: Ground;
let fleet: TestFleet;
let refused: (TokenRefusal | "OtherRoot")[];
/** Whether there is a leader that signs what is asked for. */
let leads: boolean;

beforeEach(async () => {
  pki = await TestPki.start();
  refused = [];
  leads = true;
  const onChange = () => {
    if (leads) void fleet.certificates.sign(pki.writer).finally(() => fleet.registrations.hint());
  };
  store = new FakeFleetStore(pki.database, pki.store, onChange, () => pki.now);
  const audit = new FakeAuditLog(pki.database);
  ground = { store, pki: pki.store, keys: pki.keys, audit, now: () => pki.now };
  fleet = new TestFleet(ground, { onRefused: (reason) => void refused.push(reason), patienceMs: 5_000 });
  await fleet.certificates.ensure(pki.writer);
});

/** The same stores, seen by a replica that gives up at once when nobody signs. */
const hasty = (): TestFleet => new TestFleet(ground, { patienceMs: 0 });
/** The store, some of whose methods do something else. */
const overriding = (change: Partial<FleetStore>): FleetStore =>
  new Proxy<FleetStore>(store, {
    get: (target, name) => Reflect.get(change, name) ?? Reflect.get(target, name).bind(target),
  });
const audited = (action: string) => pki.database.audit.filter(({ entry }) => entry.action === action);

async function member(chain: string): Promise<Member> {
  const [leaf] = certificatesOf(chain);
  const found = memberOf(parseCertificate(leaf.raw), pki.keys.installationId);
  if (found === undefined) throw new TypeError("no gateway's certificate");
  return found;
}

test("a gateway gets a certificate that says what it is, signed by the CA whose fingerprint its token has", async () => {
  const token = await fleet.token("gw-a");
  const registration = await fleet.register(token, await newCsr());
  expect(registration).toMatchObject({ name: "gw-a", ...NPR, heartbeatSeconds: 60 });
  const [leaf, root] = certificatesOf(registration.certificates);
  expect(leaf.verify(root.publicKey)).toBe(true);
  expect(spkiFingerprint(root.raw).toString("base64url")).toBe(token.split(".")[2]);
  const { gatewayId } = registration;
  expect(leaf.subject).toBe("CN=gw-a");
  expect(leaf.subjectAltName).toBe(
    `URI:mazevault://${pki.keys.installationId}/gateways/${gatewayId}/environments/NPR/roles/primary`,
  );
  expect(leaf.ca).toBe(false);
  expect(leaf.keyUsage).toContain("1.3.6.1.5.5.7.3.2");
  const days = (leaf.validToDate.getTime() - leaf.validFromDate.getTime()) / DAY_MS;
  expect(days).toBeCloseTo(90, 3);
  expect(root.ca).toBe(true);
  expect(await member(registration.certificates)).toMatchObject({ gatewayId, name: "gw-a", ...NPR });
});

test("the CA is made once, self-signed, for ten years", async () => {
  await fleet.certificates.ensure(pki.writer);
  const authorities = await pki.store.listAuthorities(undefined, 10);
  expect(authorities.map(({ identity }) => identity)).toEqual([FLEET_IDENTITY]);
  const root = new X509Certificate(await fleet.ca.root());
  expect(root.verify(root.publicKey)).toBe(true);
  expect(root.publicKey.asymmetricKeyDetails?.namedCurve).toBe("prime256v1");
  expect((root.validToDate.getTime() - root.validFromDate.getTime()) / DAY_MS).toBeCloseTo(3_652, 0);
});

test("without a CA nothing is promised", async () => {
  const other = await TestPki.start();
  const otherStore = new FakeFleetStore(other.database, other.store);
  const { registrations } = new TestFleet({ ...ground, store: otherStore, pki: other.store, keys: other.keys });
  const request = { name: "gw-a", place: {}, actor: { kind: "Controller", name: "test" } } as const;
  await expect(registrations.issueToken(pki.writer, request)).rejects.toMatchObject({ code: "FleetNotReady" });
  expect(await otherStore.gateways()).toEqual([]);
});

describe("tokens that do not count", () => {
  const refusal = async (attempt: Promise<unknown>): Promise<string> => {
    const error = await attempt.then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    expect(error).toBeInstanceOf(FleetRefused);
    const { code, message } = error as FleetRefused;
    return `${code} ${message}`;
  };

  test("unknown, foreign, expired, confirmed ones and those of another key are refused in the same words", async () => {
    const [token, expiring] = [await fleet.token("gw-a"), await fleet.token("gw-b")];
    const csr = await newCsr();
    const { certificates } = await fleet.register(token, csr);
    const replayed = await refusal(fleet.register(token, await newCsr()));
    await fleet.registrations.confirm(await member(certificates), spkiFingerprint(certificatesOf(certificates)[0].raw));
    const confirmed = await refusal(fleet.register(token, csr));
    const [, secret, fingerprint] = token.split(".");
    const foreign = await refusal(fleet.register(`mvg1.${secret}.${"A".repeat(43)}`, csr));
    const unknown = await refusal(fleet.register(`mvg1.${"A".repeat(43)}.${fingerprint}`, csr));
    pki.passes(DAY_MS);
    const expired = await refusal(fleet.register(expiring, await newCsr()));
    expect(new Set([replayed, confirmed, foreign, unknown, expired]).size).toBe(1);
    expect(replayed).toMatch(/^TokenRefused token: /);
    expect(refused).toEqual(["OtherKey", "Confirmed", "OtherRoot", "Unknown", "Expired"]);
  });

  test("one that was had is put on record once, one that was guessed is not", async () => {
    const token = await fleet.token("gw-a");
    await fleet.register(token, await newCsr());
    for (let round = 0; round < 3; round += 1) {
      await refusal(fleet.register(token, await newCsr()));
      await refusal(fleet.register(token.replace(/^mvg1\.[^.]+/, `mvg1.${"A".repeat(43)}`), await newCsr()));
    }
    const rows = audited("GatewayTokenRefused");
    expect(rows.map(({ entry }) => [entry.outcome, entry.details])).toEqual([["Denied", { reason: "OtherKey" }]]);
  });

  test("one for another place says so, and is not used up", async () => {
    const token = await fleet.token("gw-a", { environment: "NPR" });
    expect(await refusal(fleet.register(token, await newCsr(), PRO))).toMatch(/^PlaceDiffers environment, role: /);
    expect(await fleet.register(token, await newCsr(), { role: "dr-standby" })).toMatchObject({ role: "dr-standby" });
    const again = { name: "gw-a", place: PRO, actor: { kind: "Controller", name: "test" } } as const;
    expect(await refusal(fleet.registrations.issueToken(pki.writer, again))).toMatch(/^PlaceDiffers /);
  });

  test("one whose row was written by somebody else does not count, whatever it says", async () => {
    const token = await fleet.token("gw-a");
    const moved = overriding({
      redeem: async (redemption) => {
        const found = await store.redeem(redemption);
        return typeof found === "string" ? found : { ...found, name: "gw-pro" };
      },
    });
    const attempt = new TestFleet({ ...ground, store: moved }).register(token, await newCsr());
    await expect(attempt).rejects.toMatchObject({ code: "TamperDetected" });
    expect(audited("CertificateReserved").filter(({ entry }) => entry.details.kind === "Gateway")).toEqual([]);
  });
});

describe("what is asked for", () => {
  test("a name or a time that cannot be is refused with its field", async () => {
    const actor = { kind: "Controller", name: "test" } as const;
    const issue = (change: object) =>
      fleet.registrations.issueToken(pki.writer, { name: "gw-a", place: {}, actor, ...change });
    for (const name of ["", "Gw", "gw_a", "-gw", "g".repeat(64)]) {
      await expect(issue({ name })).rejects.toMatchObject({ field: "name" });
    }
    for (const validForMs of [0, -1, Number.NaN, 8 * DAY_MS]) {
      await expect(issue({ validForMs })).rejects.toMatchObject({ field: "validFor" });
    }
    const { expiresAt } = await issue({ validForMs: HOUR_MS });
    expect(expiresAt.getTime() - pki.now.getTime()).toBe(HOUR_MS);
    await expect(fleet.registrations.issueToken({ epoch: 99n }, { name: "gw-b", place: {}, actor })).rejects.toThrow(
      Fenced,
    );
  });

  test.each([
    ["no request", async () => "hello"],
    ["a certificate", async () => pem("CERTIFICATE", await fleet.ca.root())],
    ["two requests", async () => `${await newCsr()}${await newCsr()}`],
    [
      "a request that was changed",
      async () => {
        const [block] = parsePem(await newCsr(), "csr");
        const der = Buffer.from(block?.der ?? "");
        der.writeUInt8(der.readUInt8(der.length - 1) ^ 1, der.length - 1);
        return pem("CERTIFICATE REQUEST", der);
      },
    ],
  ])("%s is refused, and the token stays as it is", async (_, csr) => {
    const token = await fleet.token("gw-a");
    await expect(fleet.register(token, await csr())).rejects.toMatchObject({ name: "MalformedInput", field: "csr" });
    expect(await fleet.register(token, await newCsr())).toMatchObject({ name: "gw-a" });
  });

  test("of the request only the key counts", async () => {
    const key = await generateKey({ algorithm: "Ed25519" });
    const subject = [[{ type: "2.5.4.3", value: "gw-pro" }]];
    const csr = pem("CERTIFICATE REQUEST", await createCsr(subject, [], new LocalSigner(key)));
    const { certificates } = await fleet.register(await fleet.token("gw-a"), csr);
    const [leaf] = certificatesOf(certificates);
    expect(leaf.subject).toBe("CN=gw-a");
    expect(leaf.checkPrivateKey(key)).toBe(true);
  });
});

describe("while nobody signs", () => {
  test("the same key goes on where it was, another one does not", async () => {
    leads = false;
    const token = await fleet.token("gw-a");
    const csr = await newCsr();
    await expect(hasty().register(token, csr)).rejects.toMatchObject({ code: "FleetNotReady" });
    leads = true;
    await expect(fleet.register(token, await newCsr())).rejects.toMatchObject({ code: "TokenRefused" });
    const first = await fleet.register(token, csr);
    expect(await fleet.register(token, csr)).toEqual(first);
    expect(audited("GatewayRegistered")).toHaveLength(1);
    expect(audited("CertificateIssued").filter(({ entry }) => entry.details.kind === "Gateway")).toHaveLength(1);
  });

  test("who gives up is told at once", async () => {
    leads = false;
    const abort = new AbortController();
    const waiting = fleet.register(await fleet.token("gw-a"), await newCsr(), {}, abort.signal);
    const over = expect(waiting).rejects.toThrow("gone");
    abort.abort(new Error("gone"));
    await over;
  });
});

describe("the leader", () => {
  test("a crash before the answer leaves one certificate, which the next turn hands out", async () => {
    leads = false;
    const token = await fleet.token("gw-a");
    const csr = await newCsr();
    await expect(hasty().register(token, csr)).rejects.toMatchObject({ code: "FleetNotReady" });
    const broken = overriding({ answerRequest: () => Promise.reject(new Error("killed")) });
    await expect(new TestFleet({ ...ground, store: broken }).certificates.sign(pki.writer)).rejects.toThrow("killed");
    const successor = { epoch: await pki.database.acquireEpoch("other") };
    await expect(fleet.certificates.sign(pki.writer)).rejects.toThrow(Fenced);
    expect(await new TestFleet(ground).certificates.sign(successor)).toBe(1);
    const { gatewayId } = await hasty().register(token, csr);
    expect(await pki.store.certificatesOf(gatewayId, 10)).toHaveLength(1);
  });

  test("a request that was changed, or put back later, is not signed, and does not hold up others", async () => {
    leads = false;
    await expect(hasty().register(await fleet.token("gw-a"), await newCsr())).rejects.toThrow();
    await expect(hasty().register(await fleet.token("gw-b"), await newCsr())).rejects.toThrow();
    const changed = (change: (request: FleetCertificateRequest) => Partial<FleetCertificateRequest>) => {
      const pendingRequests: FleetStore["pendingRequests"] = async (...page) =>
        (await store.pendingRequests(...page)).map((each) =>
          each.gateway?.name === "gw-a" ? { ...each, ...change(each) } : each,
        );
      return new TestFleet({ ...ground, store: overriding({ pendingRequests }) }).certificates.sign(pki.writer);
    };
    const rejected = { code: "TamperDetected" };
    const inPro = ({ gateway }: FleetCertificateRequest) => ({ gateway: gateway && { ...gateway, ...PRO } });
    await expect(changed(inPro)).rejects.toMatchObject(rejected);
    await expect(changed(() => ({ requestedAt: new Date(pki.now.getTime() + 1) }))).rejects.toMatchObject(rejected);
    await expect(changed(({ revision }) => ({ revision: revision + 1 }))).rejects.toMatchObject(rejected);
    await expect(changed(() => ({ kind: "Replica", gateway: undefined }))).rejects.toMatchObject(rejected);
    const issuedTo = audited("CertificateIssued").map(({ entry }) => entry.subject.name);
    expect(issuedTo.filter((name) => name.startsWith("gw"))).toEqual(["gw-b"]);
  });

  test("a gateway that asks again and again waits, and others do not", async () => {
    const { certificates } = await fleet.register(await fleet.token("gw-a"), await newCsr());
    const greedy = await member(certificates);
    const signal = new AbortController().signal;
    const digest = spkiFingerprint(certificatesOf(certificates)[0].raw);
    const renew = async (by: TestFleet) => by.registrations.renew(greedy, digest, await newCsr(), signal);
    for (let count = 1; count < 20; count += 1) await renew(fleet);
    await expect(renew(hasty())).rejects.toMatchObject({ code: "FleetNotReady" });
    expect(await fleet.register(await fleet.token("gw-b"), await newCsr())).toMatchObject({ name: "gw-b" });
    pki.passes(HOUR_MS + 1);
    expect(await renew(fleet)).toContain("BEGIN CERTIFICATE");
  });

  test("what is old is forgotten, and a gateway that lost its answer asks anew", async () => {
    const token = await fleet.token("gw-a");
    const csr = await newCsr();
    const first = await fleet.register(token, csr);
    expect(await fleet.certificates.forget(pki.writer)).toBe(0);
    pki.passes(HOUR_MS + 1);
    expect(await fleet.certificates.forget(pki.writer)).toBe(1);
    const again = await fleet.register(token, csr);
    expect(again.gatewayId).toBe(first.gatewayId);
    pki.passes(DAY_MS);
    expect(await fleet.certificates.forget(pki.writer)).toBe(2);
    await expect(fleet.register(token, csr)).rejects.toMatchObject({ code: "TokenRefused" });
  });
});

describe("a member", () => {
  const signal = new AbortController().signal;
  const digestOf = (chain: string): Buffer => spkiFingerprint(certificatesOf(chain)[0].raw);

  test("renews with a new key, as what it was", async () => {
    const { certificates } = await fleet.register(await fleet.token("gw-a"), await newCsr());
    const before = await member(certificates);
    const renewed = await fleet.registrations.renew(before, digestOf(certificates), await newCsr(), signal);
    const { serialNumber, ...same } = await member(renewed);
    expect(before).toMatchObject(same);
    expect(serialNumber).not.toBe(before.serialNumber);
    await expect(fleet.registrations.renew(before, digestOf(certificates), "no request", signal)).rejects.toMatchObject(
      { field: "csr" },
    );
  });

  test("that has confirmed a new key has its older certificates revoked, and no others", async () => {
    const { certificates } = await fleet.register(await fleet.token("gw-a"), await newCsr());
    const other = await fleet.register(await fleet.token("gw-b"), await newCsr());
    const first = await member(certificates);
    await fleet.registrations.confirm(first, digestOf(certificates));
    expect(await fleet.certificates.revokeSuperseded(pki.writer)).toBe(0);
    const renewed = await fleet.registrations.renew(first, digestOf(certificates), await newCsr(), signal);
    const second = await member(renewed);
    await fleet.registrations.confirm(second, digestOf(renewed));
    await fleet.registrations.confirm(first, digestOf(certificates));
    expect(await fleet.certificates.revokeSuperseded(pki.writer)).toBe(1);
    expect(await fleet.certificates.revokeSuperseded(pki.writer)).toBe(0);
    const statuses = await pki.store.certificatesOf(first.gatewayId, 10);
    expect(statuses.map(({ serialNumber, revocation }) => [serialNumber, revocation?.reason])).toEqual([
      [second.serialNumber, undefined],
      [first.serialNumber, "superseded"],
    ]);
    const [elsewhere] = await pki.store.certificatesOf(other.gatewayId, 10);
    expect(elsewhere?.revocation).toBeUndefined();
    expect(audited("GatewayConfirmed")).toHaveLength(2);
  });

  test("that was revoked gets nothing more, and all its certificates are", async () => {
    const { certificates, gatewayId } = await fleet.register(await fleet.token("gw-a"), await newCsr());
    const gone = await member(certificates);
    await fleet.registrations.renew(gone, digestOf(certificates), await newCsr(), signal);
    await store.revoke(pki.writer, gatewayId, pki.now, []);
    const refusedAs = { code: "GatewayRevoked" };
    await expect(fleet.registrations.renew(gone, digestOf(certificates), await newCsr(), signal)).rejects.toMatchObject(
      refusedAs,
    );
    await fleet.registrations.confirm(gone, digestOf(certificates));
    expect(await fleet.certificates.revokeSuperseded(pki.writer)).toBe(1);
    const reasons = (await pki.store.certificatesOf(gatewayId, 10)).map(({ revocation }) => revocation?.reason);
    expect(reasons).toEqual(["cessationOfOperation", "cessationOfOperation"]);
  });

  test("that is still admitted somewhere after its revocation gets nothing under the name that was made anew", async () => {
    const { certificates, gatewayId } = await fleet.register(await fleet.token("gw-a"), await newCsr());
    const gone = await member(certificates);
    await fleet.registrations.confirm(gone, digestOf(certificates));
    await store.revoke(pki.writer, gatewayId, pki.now, []);
    const token = await fleet.token("gw-a");
    const attempt = fleet.registrations.renew(gone, digestOf(certificates), await newCsr(), signal);
    await expect(attempt).rejects.toMatchObject({ code: "GatewayRevoked" });
    expect(await fleet.register(token, await newCsr())).toMatchObject({ gatewayId });
  });

  test("gets nothing while another key has registered under its name and not confirmed", async () => {
    const { certificates } = await fleet.register(await fleet.token("gw-a"), await newCsr());
    const leaked = await member(certificates);
    await fleet.registrations.confirm(leaked, digestOf(certificates));
    const again = await fleet.register(await fleet.token("gw-a"), await newCsr());
    const renew = async () => fleet.registrations.renew(leaked, digestOf(certificates), await newCsr(), signal);
    await expect(renew()).rejects.toMatchObject({ name: "Unavailable", code: "RegistrationOpen" });
    await fleet.registrations.confirm(await member(again.certificates), digestOf(again.certificates));
    await expect(renew()).rejects.toMatchObject({ code: "GatewayRevoked" });
  });

  test("that nobody has certified cannot confirm", async () => {
    const stranger = { gatewayId: "no gateway", name: "gw-a", ...NPR, serialNumber: "01" };
    await expect(fleet.registrations.confirm(stranger, Buffer.alloc(32))).rejects.toMatchObject({
      code: "CertificateUnknown",
    });
  });

  test("is told with each heartbeat whether it acts, and for which epoch", async () => {
    const { certificates } = await fleet.register(await fleet.token("gw-a"), await newCsr());
    const beating = await member(certificates);
    const beat = { version: "1.0.0", problems: [], queueLength: 0, certificateNotAfter: "2026-07-01T00:00:00Z" };
    expect(await fleet.registrations.heartbeat(beating, beat)).toEqual({
      active: true,
      environmentEpoch: "1",
      leaseMs: 20_000,
      epoch: pki.writer.epoch.toString(),
      heartbeatSeconds: 60,
    });
    expect((await store.gateway("gw-a"))?.heartbeat).toEqual({ ...beat, at: pki.now });
    const standby = { ...beating, role: "dr-standby" } as const;
    expect(await fleet.registrations.heartbeat(standby, beat)).toMatchObject({ active: false });
  });
});

test("a replica gets a certificate for the name that gateways expect, and not that of a gateway", async () => {
  const [block] = parsePem(await newCsr(), "csr");
  const chain = await fleet.registrations.replicaCertificate(
    block?.der ?? Buffer.alloc(0),
    new AbortController().signal,
  );
  const [leaf, root] = chain.map((der) => new X509Certificate(der));
  expect(root?.raw).toEqual(await fleet.ca.root());
  expect(leaf?.verify(root?.publicKey ?? leaf.publicKey)).toBe(true);
  expect(leaf?.checkHost(CHANNEL_HOST)).toBe(CHANNEL_HOST);
  expect(leaf?.keyUsage).toEqual(["1.3.6.1.5.5.7.3.1"]);
  expect(memberOf(parseCertificate(leaf?.raw ?? Buffer.alloc(0)), pki.keys.installationId)).toBeUndefined();
});
