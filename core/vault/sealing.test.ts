import {
  createDecipheriv,
  createHmac,
  createPrivateKey,
  createPublicKey,
  diffieHellman,
  randomBytes,
  randomUUID,
} from "node:crypto";
import fc from "fast-check";
import { Sensitive } from "../sensitive.ts";
import {
  LONGEST_SEALED,
  type PrivateSealingKey,
  privateSealingKey,
  readSealingKeyFile,
  type SealedPlace,
  seal,
  sealingKeyFile,
  signingKey,
  signSealingKey,
  unseal,
} from "./sealing.ts";

const place: SealedPlace = {
  project: "payments",
  environment: "pro",
  namespace: "payments",
  name: "orders-db",
  key: "licence",
};
let key: PrivateSealingKey;
const material = randomBytes(32);

beforeAll(async () => {
  key = await privateSealingKey(randomUUID(), Buffer.from(material));
});

const keyOf = (id: string) => (id === key.id ? key : undefined);
const invalid = expect.objectContaining({ code: "SealedValueInvalid" });

test("what was sealed opens, whatever its bytes, and never looks the same twice", async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array({ maxLength: 200 }), async (bytes) => {
      const value = Buffer.from(bytes);
      const [one, two] = await Promise.all([
        seal(key, place, new Sensitive(value)),
        seal(key, place, new Sensitive(value)),
      ]);
      expect(one).not.toBe(two);
      expect((await unseal(keyOf, place, one)).reveal()).toEqual(value);
    }),
    { numRuns: 30 },
  );
});

test("the longest value fits into the field of the manifest, a longer one is refused", async () => {
  const longest = await seal(key, place, new Sensitive(Buffer.alloc(65_536)));
  expect(longest).toHaveLength(LONGEST_SEALED);
  expect(LONGEST_SEALED).toBe(87_468);
  await expect(seal(key, place, new Sensitive(Buffer.alloc(65_537)))).rejects.toMatchObject({ code: "ValueInvalid" });
});

test.each(Object.keys(place) as (keyof SealedPlace)[])("elsewhere, by its %s, it does not open", async (part) => {
  const sealed = await seal(key, place, new Sensitive("value"));
  const elsewhere = { ...place, [part]: "other" };
  await expect(unseal(keyOf, elsewhere, sealed)).rejects.toEqual(invalid);
  const { namespace, name, key: entry } = elsewhere;
  await expect(unseal(keyOf, elsewhere, sealed)).rejects.toThrow(
    `entry ${entry}: the sealed value does not open: it was sealed for another project, environment, namespace, name or ` +
      `key, or was damaged; seal it again with: mazevault seal ${namespace}/${name} ${entry}`,
  );
});

test("no flipped bit and no cut opens", async () => {
  const sealed = Buffer.from(await seal(key, place, new Sensitive("v")), "base64url");
  for (let byte = 0; byte < sealed.length; byte += 1) {
    const changed = Buffer.from(sealed);
    changed.writeUInt8(changed.readUInt8(byte) ^ (1 << (byte & 7)), byte);
    // The highest bit of an X25519 public key is ignored (RFC 7748, section 5), but HPKE binds the bytes as they came.
    await expect(unseal(keyOf, place, changed.toString("base64url"))).rejects.toEqual(invalid);
    await expect(unseal(keyOf, place, sealed.subarray(0, byte).toString("base64url"))).rejects.toEqual(invalid);
  }
});

test.each(["AQ", "not sealed", " ", "AQ=="])("what was never sealed is told: %p", async (text) => {
  await expect(unseal(keyOf, place, text)).rejects.toThrow("it is not what `mazevault seal` prints");
});

test("a key that the project does not have is named", async () => {
  const foreign = await privateSealingKey(randomUUID(), randomBytes(32));
  const sealed = await seal(foreign, place, new Sensitive("v"));
  await expect(unseal(keyOf, place, sealed)).rejects.toThrow(`project payments has no sealing key ${foreign.id}`);
});

test("it is HPKE as RFC 9180 has it, computed step by step", async () => {
  const sealed = Buffer.from(await seal(key, place, new Sensitive("by hand")), "base64url");
  const [header, enc, ciphertext] = [sealed.subarray(0, 17), sealed.subarray(17, 49), sealed.subarray(49)];
  const spki = (raw: Buffer) =>
    createPublicKey({ key: { kty: "OKP", crv: "X25519", x: raw.toString("base64url") }, format: "jwk" });
  const privateKey = createPrivateKey({
    key: Buffer.concat([Buffer.from("302e020100300506032b656e04220420", "hex"), material]),
    format: "der",
    type: "pkcs8",
  });
  const hmac = (with_: Buffer, data: Buffer) => createHmac("sha256", with_).update(data).digest();
  const labeled = (suite: Buffer) => ({
    // Section 4: LabeledExtract and LabeledExpand; one block of HKDF is enough for every length here.
    extract: (salt: Buffer, label: string, ikm: Buffer) =>
      hmac(salt, Buffer.concat([Buffer.from("HPKE-v1"), suite, Buffer.from(label), ikm])),
    expand: (prk: Buffer, label: string, info: Buffer, length: number) => {
      const head = Buffer.from([0, length]);
      const text = Buffer.concat([head, Buffer.from("HPKE-v1"), suite, Buffer.from(label), info, Buffer.from([1])]);
      return hmac(prk, text).subarray(0, length);
    },
  });
  const none = Buffer.alloc(0);
  const kem = labeled(Buffer.from("KEM\x00\x20", "latin1"));
  const shared = diffieHellman({ privateKey, publicKey: spki(enc) });
  const kemContext = Buffer.concat([enc, Buffer.from(key.publicKey, "base64url")]);
  const secret = kem.expand(kem.extract(none, "eae_prk", shared), "shared_secret", kemContext, 32);
  const suite = labeled(Buffer.from("HPKE\x00\x20\x00\x01\x00\x02", "latin1"));
  const fields = ["mazevault sealed value", ...Object.values(place)];
  const info = Buffer.concat([
    Buffer.from([0, 0, 0, 5]),
    ...fields.flatMap((text) => [Buffer.from([1, 0, 0, 0, text.length]), Buffer.from(text)]),
  ]);
  const context = Buffer.concat([
    Buffer.from([0]),
    suite.extract(none, "psk_id_hash", none),
    suite.extract(none, "info_hash", info),
  ]);
  const schedule = suite.extract(secret, "secret", none);
  const decipher = createDecipheriv(
    "aes-256-gcm",
    suite.expand(schedule, "key", context, 32),
    suite.expand(schedule, "base_nonce", context, 12),
  );
  decipher.setAAD(header);
  decipher.setAuthTag(ciphertext.subarray(-16));
  const opened = Buffer.concat([decipher.update(ciphertext.subarray(0, -16)), decipher.final()]);
  expect(opened.toString()).toBe("by hand");
  expect(header).toEqual(Buffer.concat([Buffer.from([1]), Buffer.from(key.id.replaceAll("-", ""), "hex")]));
});

describe("the key file", () => {
  const signer = signingKey(randomBytes(32));
  const signed = () =>
    signSealingKey(signer, { id: key.id, publicKey: key.publicKey, project: "payments", installation: "one" });

  test("is read as it was written, and seals", async () => {
    const read = readSealingKeyFile(sealingKeyFile(signed()), signed().signedBy);
    expect(read).toEqual(signed());
    const sealed = await seal(read, place, new Sensitive("value"));
    expect((await unseal(keyOf, place, sealed)).revealText()).toBe("value");
  });

  test.each(["id", "publicKey", "project", "installation", "signature"] as const)(
    "with another %s is refused",
    (field) => {
      const forged = { ...signed(), [field]: signed()[field].replace(/^./, (first) => (first === "A" ? "B" : "A")) };
      expect(() => readSealingKeyFile(sealingKeyFile(forged))).toThrow("does not match its signature");
    },
  );

  test("signed by somebody else, or no key at all, is refused", () => {
    const other = signSealingKey(signingKey(randomBytes(32)), signed());
    expect(readSealingKeyFile(sealingKeyFile(other))).toEqual(other);
    expect(() => readSealingKeyFile(sealingKeyFile(other), signed().signedBy)).toThrow("another installation");
    for (const text of ["", "null", "[]", "{}", '{"kind":"SealingKey"}', JSON.stringify(signed())]) {
      expect(() => readSealingKeyFile(text)).toThrow(expect.objectContaining({ code: "ValueInvalid" }));
    }
  });
});

test("a key that is none is refused with what is wrong", async () => {
  const value = new Sensitive("v");
  await expect(seal({ id: key.id, publicKey: "AQ" }, place, value)).rejects.toThrow("not 32 bytes in base64url");
  await expect(seal({ id: "1", publicKey: key.publicKey }, place, value)).rejects.toThrow("no UUID");
});
