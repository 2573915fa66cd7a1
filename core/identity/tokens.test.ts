import {
  createHmac,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type KeyObject,
  randomUUID,
  sign,
} from "node:crypto";
import { testRootKey } from "../pki/testing/installation.ts";
import { FakeDatabase } from "../ports/fake-database.ts";
import { FakeKeyStore } from "../ports/fake-key-store.ts";
import { KeyRing } from "../vault/keyring.ts";
import type { Session } from "./sessions.ts";
import { EMAIL, from, PASSWORD, TestIdentities } from "./testing/installation.ts";

const unauthenticated = { code: "Unauthenticated" };
const DAY_MS = 86_400_000;

let installation: TestIdentities;
let session: Session;
let header: Record<string, unknown>;
let claims: Record<string, unknown>;
/** The key that signs, as an attacker never has it: to show that a forgery fails for the one thing that is wrong. */
let key: KeyObject;

const decoded = (part: string | undefined) =>
  JSON.parse(Buffer.from(part ?? "", "base64url").toString("utf8")) as Record<string, unknown>;
const encoded = (value: unknown): string => Buffer.from(JSON.stringify(value)).toString("base64url");

beforeEach(async () => {
  installation = await TestIdentities.start();
  await installation.create();
  session = await installation.login();
  const [protectedHeader, payload] = session.token.split(".");
  header = decoded(protectedHeader);
  claims = decoded(payload);
  const [seed] = await installation.keys.identityKeys("Token");
  if (seed === undefined) throw new Error("expected a signing key");
  const pkcs8 = Buffer.concat([Buffer.from("302e020100300506032b657004220420", "hex"), seed.key.export()]);
  key = createPrivateKey({ key: pkcs8, format: "der", type: "pkcs8" });
});

const signed = (head: unknown, body: unknown, signer: (input: Buffer) => Buffer): string => {
  const input = `${encoded(head)}.${encoded(body)}`;
  return `${input}.${signer(Buffer.from(input)).toString("base64url")}`;
};
const ed25519 = (by: KeyObject) => (input: Buffer) => sign(null, input, by);
const authenticate = (token: string) => installation.identities.authenticate(token);

test("what this test signs by itself is taken, so that every refusal below has its own reason", async () => {
  expect(header).toEqual({ alg: "EdDSA", typ: "at+jwt", kid: expect.any(String) });
  expect(claims).toEqual({
    iss: installation.keys.installationId,
    aud: "mazevault",
    sub: expect.any(String),
    sid: expect.any(String),
    jti: expect.any(String),
    iat: expect.any(Number),
    nbf: expect.any(Number),
    exp: Number(claims.iat) + 600,
  });
  expect(await authenticate(signed(header, claims, ed25519(key)))).toMatchObject({ via: "Token", id: claims.sid });
});

describe("a forged token is refused:", () => {
  const seconds = () => Math.floor(Date.now() / 1_000);
  const cases: readonly [string, () => string][] = [
    ["alg none", () => `${encoded({ ...header, alg: "none" })}.${encoded(claims)}.`],
    ["alg None", () => `${encoded({ ...header, alg: "None" })}.${encoded(claims)}.`],
    ["alg none with our signature", () => signed({ ...header, alg: "none" }, claims, ed25519(key))],
    ["no signature", () => `${encoded(header)}.${encoded(claims)}.`],
    [
      "HMAC with the public key in DER",
      () =>
        signed({ ...header, alg: "HS256" }, claims, (input) =>
          createHmac("sha256", createPublicKey(key).export({ type: "spki", format: "der" }))
            .update(input)
            .digest(),
        ),
    ],
    [
      "HMAC with the public key in PEM",
      () =>
        signed({ ...header, alg: "HS256" }, claims, (input) =>
          createHmac("sha256", createPublicKey(key).export({ type: "spki", format: "pem" }))
            .update(input)
            .digest(),
        ),
    ],
    [
      "ES256 under our kid",
      () => {
        const { privateKey } = generateKeyPairSync("ec", { namedCurve: "P-256" });
        return signed({ ...header, alg: "ES256" }, claims, (input) =>
          sign("sha256", input, { key: privateKey, dsaEncoding: "ieee-p1363" }),
        );
      },
    ],
    ["another key under our kid", () => signed(header, claims, ed25519(generateKeyPairSync("ed25519").privateKey))],
    [
      "another key that it brings itself",
      () => {
        const { privateKey, publicKey } = generateKeyPairSync("ed25519");
        return signed({ ...header, jwk: publicKey.export({ format: "jwk" }) }, claims, ed25519(privateKey));
      },
    ],
    ["a foreign kid", () => signed({ ...header, kid: randomUUID() }, claims, ed25519(key))],
    ["a kid that is a path", () => signed({ ...header, kid: "../../dev/null" }, claims, ed25519(key))],
    ["a kid that is no text", () => signed({ ...header, kid: 1 }, claims, ed25519(key))],
    ["no kid", () => signed({ ...header, kid: undefined }, claims, ed25519(key))],
    ["another type", () => signed({ ...header, typ: "JWT" }, claims, ed25519(key))],
    ["a critical header that nobody knows", () => signed({ ...header, crit: ["x"], x: 1 }, claims, ed25519(key))],
    ["a foreign audience", () => signed(header, { ...claims, aud: "elsewhere" }, ed25519(key))],
    ["no audience", () => signed(header, { ...claims, aud: undefined }, ed25519(key))],
    ["a foreign issuer", () => signed(header, { ...claims, iss: randomUUID() }, ed25519(key))],
    ["expired", () => signed(header, { ...claims, exp: seconds() - 6 }, ed25519(key))],
    ["no expiry", () => signed(header, { ...claims, exp: undefined }, ed25519(key))],
    ["an expiry that is no number", () => signed(header, { ...claims, exp: "9999999999" }, ed25519(key))],
    ["not valid yet", () => signed(header, { ...claims, nbf: seconds() + 10 }, ed25519(key))],
    ["no session", () => signed(header, { ...claims, sid: undefined }, ed25519(key))],
    ["a session that there is not", () => signed(header, { ...claims, sid: randomUUID() }, ed25519(key))],
    ["another user than the session's", () => signed(header, { ...claims, sub: randomUUID() }, ed25519(key))],
    ["changed claims under the old signature", () => changedClaims({ sub: randomUUID() })],
    ["nothing", () => ""],
    ["no JWT", () => "token"],
    ["JSON that is none", () => `${Buffer.from("{").toString("base64url")}.${encoded(claims)}.AAAA`],
    ["one that is very long", () => signed(header, { ...claims, more: "x".repeat(4_000) }, ed25519(key))],
  ];
  const changedClaims = (change: object) => {
    const [head, , signature] = session.token.split(".");
    return `${head}.${encoded({ ...claims, ...change })}.${signature}`;
  };

  test.each(cases)("%s", async (_, forge) => {
    await expect(authenticate(forge())).rejects.toMatchObject(unauthenticated);
    expect(await authenticate(session.token)).toBeDefined();
  });

  test("one of another installation", async () => {
    const other = await TestIdentities.start();
    await other.create();
    const theirs = await other.login();
    await expect(authenticate(theirs.token)).rejects.toMatchObject(unauthenticated);
  });

  test("every single bit of the signature counts", async () => {
    const [head, body, signature = ""] = session.token.split(".");
    const bytes = Buffer.from(signature, "base64url");
    for (let at = 0; at < bytes.length; at += 1) {
      const turned = Buffer.from(bytes);
      turned.writeUInt8(turned.readUInt8(at) ^ 1, at);
      await expect(authenticate(`${head}.${body}.${turned.toString("base64url")}`)).rejects.toMatchObject(
        unauthenticated,
      );
    }
  });
});

describe("signing keys", () => {
  const kidOf = ({ token }: Session) => decoded(token.split(".")[0]).kid;
  /** A token of the first key for that session, which by itself would never end. */
  const endless = ({ token }: Session): string =>
    signed(header, { ...decoded(token.split(".")[1]), exp: 9_999_999_999 }, ed25519(key));

  test("follow each other by age, and then the old one verifies only what it can have signed", async () => {
    const { identities, writer } = installation;
    await identities.rotateKeys(writer);
    expect(kidOf(await installation.login())).toBe(header.kid);
    expect(await authenticate(endless(session))).toMatchObject({ id: claims.sid });
    // Keys are dated by their store, whose clock stays behind: the old key's last token has ended long ago.
    installation.passes(31 * DAY_MS);
    await identities.rotateKeys(writer);
    const young = await installation.login();
    expect(kidOf(young)).not.toBe(header.kid);
    expect(await authenticate(young.token)).toBeDefined();
    await expect(authenticate(endless(young))).rejects.toMatchObject(unauthenticated);
    expect(await installation.keys.identityKeys("Token")).toHaveLength(2);
  });

  test("of a successor that was made elsewhere are known when its first token comes, and the old one goes on", async () => {
    const leader = installation.replica({ signingKeyMs: 0 });
    const replica = installation.replica();
    expect(await replica.authenticate(session.token)).toBeDefined();
    await leader.rotateKeys(installation.writer);
    const young = await leader.login(EMAIL, PASSWORD, from);
    expect(kidOf(young)).not.toBe(header.kid);
    expect(await leader.authenticate(session.token)).toBeDefined();
    // A second passes until it looks again for a key that it does not know.
    let known: unknown;
    while (known === undefined) known = await replica.authenticate(young.token).catch(() => undefined);
    expect(known).toMatchObject({ via: "Token" });
    installation.passes(650_000);
    expect(await replica.authenticate(endless(session))).toBeDefined();
    installation.passes(15_000);
    await expect(replica.authenticate(endless(session))).rejects.toMatchObject(unauthenticated);
  });

  test("are made once when several replicas want the next one", async () => {
    const leaders = Array.from({ length: 4 }, () => installation.replica({ signingKeyMs: 0 }));
    await Promise.all(leaders.map((leader) => leader.rotateKeys(installation.writer)));
    const versions = (await installation.keys.identityKeys("Token")).map(({ version }) => version);
    expect(versions).toEqual(Array.from(versions, (_, at) => at + 1));
  });

  test("are not there before the leader has made them", async () => {
    const database = new FakeDatabase();
    const keys = await KeyRing.open(new FakeKeyStore(database), testRootKey());
    const early = installation.replica({}, { keys });
    await expect(early.login(EMAIL, PASSWORD, from)).rejects.toMatchObject({ code: "KeyUnavailable" });
    await expect(early.ensureFirstAdmin()).rejects.toMatchObject({ code: "KeyUnavailable" });
    await early.rotateKeys({ epoch: await database.acquireEpoch("test") });
    await expect(early.login("nobody@example.com", PASSWORD, from)).rejects.toMatchObject(unauthenticated);
  });
});
