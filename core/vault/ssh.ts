/**
 * Keys as SSH has them: data types of RFC 4251 section 5, public keys of RFC 4253 section 6.6 (RSA), RFC 5656 section 3.1
 * (ECDSA) and RFC 8709 section 4 (Ed25519), private keys in the file format of OpenSSH (its PROTOCOL.key), unencrypted.
 */
import { createPublicKey, type KeyObject, randomBytes } from "node:crypto";

const MAGIC = Buffer.from("openssh-key-v1\0", "latin1");
const LABEL = "OPENSSH PRIVATE KEY";
const BLOCK = 8;
const LINE = 70;

const uint32 = (value: number): Buffer => {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
};

const string = (value: Buffer | string): Buffer => {
  const bytes = typeof value === "string" ? Buffer.from(value, "utf8") : value;
  return Buffer.concat([uint32(bytes.length), bytes]);
};

/** A number that is not negative, from base64url: as few bytes as keep the sign bit clear. */
const mpint = (value = ""): Buffer => {
  const bytes = Buffer.from(value, "base64url");
  const first = bytes.findIndex((byte) => byte !== 0);
  const digits = first < 0 ? Buffer.alloc(0) : bytes.subarray(first);
  return string((digits[0] ?? 0) > 0x7f ? Buffer.concat([Buffer.alloc(1), digits]) : digits);
};

const CURVES: Readonly<Record<string, string>> = {
  prime256v1: "nistp256",
  secp384r1: "nistp384",
  secp521r1: "nistp521",
};

/**
 * The public half of an RSA key, an ECDSA key on P-256, P-384 or P-521, or an Ed25519 key, as it stands in
 * `authorized_keys` before base64; undefined for other keys, which SSH does not know.
 */
export function sshPublicKey(key: KeyObject): Buffer | undefined {
  const publicKey = key.type === "private" ? createPublicKey(key) : key;
  switch (publicKey.asymmetricKeyType) {
    case "rsa": {
      const { e, n } = publicKey.export({ format: "jwk" });
      return Buffer.concat([string("ssh-rsa"), mpint(e), mpint(n)]);
    }
    case "ec": {
      const curve = CURVES[publicKey.asymmetricKeyDetails?.namedCurve ?? ""];
      if (curve === undefined) return undefined;
      const point = publicKey.export({ format: "raw-public" });
      return Buffer.concat([string(`ecdsa-sha2-${curve}`), string(curve), string(point)]);
    }
    case "ed25519":
      return Buffer.concat([string("ssh-ed25519"), string(publicKey.export({ format: "raw-public" }))]);
    default:
      return undefined;
  }
}

/** The private key file of a key that `sshPublicKey` knows, without passphrase and comment. */
export function openSshPrivateKey(key: KeyObject): string {
  const publicKey = sshPublicKey(key);
  if (publicKey === undefined) throw new TypeError("SSH has no keys of this type");
  // Where a file is encrypted, two equal numbers show that the passphrase was right.
  const check = randomBytes(4);
  const content = Buffer.concat([check, check, privateFields(key, publicKey), string("")]);
  const padding = Buffer.from(Array.from({ length: -content.length & (BLOCK - 1) }, (_, index) => index + 1));
  const file = Buffer.concat([
    MAGIC,
    ...["none", "none", ""].map(string),
    uint32(1),
    string(publicKey),
    string(Buffer.concat([content, padding])),
  ]);
  const lines = file.toString("base64").match(new RegExp(`.{1,${LINE}}`, "g")) ?? [];
  return [`-----BEGIN ${LABEL}-----`, ...lines, `-----END ${LABEL}-----`, ""].join("\n");
}

function privateFields(key: KeyObject, publicKey: Buffer): Buffer {
  const { n, e, d, p, q, qi } = key.export({ format: "jwk" });
  switch (key.asymmetricKeyType) {
    case "rsa":
      return Buffer.concat([string("ssh-rsa"), ...[n, e, d, qi, p, q].map(mpint)]);
    case "ec":
      return Buffer.concat([publicKey, mpint(d)]);
    default: {
      const point = createPublicKey(key).export({ format: "raw-public" });
      const seed = Buffer.from(d ?? "", "base64url");
      return Buffer.concat([publicKey, string(Buffer.concat([seed, point]))]);
    }
  }
}

/**
 * The public key that stands in a private key file of OpenSSH, which may be encrypted: this part never is. Undefined when
 * the text is no such file.
 */
export function publicKeyOfFile(text: string): Buffer | undefined {
  const body = new RegExp(`^\\s*-----BEGIN ${LABEL}-----([A-Za-z0-9+/=\\s]+)-----END ${LABEL}-----\\s*$`).exec(text);
  if (body?.[1] === undefined) return undefined;
  const file = Buffer.from(body[1], "base64");
  if (!file.subarray(0, MAGIC.length).equals(MAGIC)) return undefined;
  const read = reader(file.subarray(MAGIC.length));
  const [, , , count, publicKey] = [read.string(), read.string(), read.string(), read.uint32(), read.string()];
  if (count !== 1 || publicKey === undefined) return undefined;
  return sshKeyType(publicKey) === undefined ? undefined : publicKey;
}

/** The name that a public key begins with, such as `ssh-ed25519`; undefined when it begins with none. */
export function sshKeyType(publicKey: Buffer): string | undefined {
  const type = reader(publicKey).string()?.toString("latin1") ?? "";
  return /^[a-z0-9][a-z0-9.@-]{2,63}$/.test(type) ? type : undefined;
}

/** Undefined when fewer bytes are left. */
function reader(bytes: Buffer) {
  let at = 0;
  const take = (length: number): Buffer | undefined => {
    if (bytes.length - at < length) return undefined;
    at += length;
    return bytes.subarray(at - length, at);
  };
  const readUint32 = () => take(4)?.readUInt32BE();
  const readString = () => {
    const length = readUint32();
    return length === undefined ? undefined : take(length);
  };
  return { uint32: readUint32, string: readString };
}
