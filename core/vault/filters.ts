/** What a template can make of another value: the public half of a key, a hash that can be verified, a part of it. */
import { isUtf8 } from "node:buffer";
import { createPrivateKey, createPublicKey, type KeyObject } from "node:crypto";
import { type Json, get as valueAt } from "@hyperjump/json-pointer";
import { LONGEST_BCRYPT_TEXT } from "./bcrypt.ts";
import { publicKeyOfFile, sshKeyType, sshPublicKey } from "./ssh.ts";

/** Safe to show: it says what a filter takes, not what it was given. */
export class FilterFault extends Error {
  readonly code: "ValueInvalid" | "TemplateInvalid";
  private constructor(code: FilterFault["code"], message: string) {
    super(message);
    this.code = code;
  }
  /** The value cannot be worked on. */
  static value(filter: string, takes: string): FilterFault {
    return new FilterFault("ValueInvalid", `${filter} ${takes}`);
  }
  /** What stands behind the filter's name is wrong. */
  static argument(filter: string, takes: string): FilterFault {
    return new FilterFault("TemplateInvalid", `${filter} ${takes}`);
  }
}

export type ValueFilter = (value: unknown, ...args: unknown[]) => string;

const DEFAULT_COST = 10;
const LOWEST_COST = 4;
const HIGHEST_COST = 14;

/** @param hashOf bcrypt of a text at a cost, `$2b$` */
export function valueFilters(hashOf: (text: string, cost: number) => string): Readonly<Record<string, ValueFilter>> {
  const bcrypt = (filter: string, value: unknown, cost: unknown = DEFAULT_COST): string => {
    if (typeof cost !== "number" || !Number.isInteger(cost) || cost < LOWEST_COST || cost > HIGHEST_COST) {
      throw FilterFault.argument(filter, `takes a whole number from ${LOWEST_COST} to ${HIGHEST_COST} as its cost`);
    }
    const text = textOf(filter, value);
    if (text === "" || text.includes("\0") || Buffer.byteLength(text) > LONGEST_BCRYPT_TEXT) {
      throw FilterFault.value(
        filter,
        `takes 1 to ${LONGEST_BCRYPT_TEXT} bytes without a NUL, since bcrypt reads no more; make the value that it is given shorter`,
      );
    }
    return hashOf(text, cost);
  };
  return {
    public_key(value) {
      const text = textOf("public_key", value);
      if (publicKeyOfFile(text) !== undefined) {
        throw FilterFault.value("public_key", "takes a private key in PEM, not OpenSSH's file: use ssh_public_key");
      }
      return createPublicKey(privateKey("public_key", text)).export({ type: "spki", format: "pem" });
    },

    ssh_public_key(value, comment = "") {
      const text = textOf("ssh_public_key", value);
      if (typeof comment !== "string" || /\p{Cc}/u.test(comment)) {
        throw FilterFault.argument("ssh_public_key", "takes a text of one line as its comment");
      }
      const publicKey = publicKeyOfFile(text) ?? sshPublicKey(privateKey("ssh_public_key", text));
      if (publicKey === undefined) {
        throw FilterFault.value("ssh_public_key", "takes RSA, ECDSA on P-256, P-384 or P-521, and Ed25519 keys");
      }
      const line = `${sshKeyType(publicKey)} ${publicKey.toString("base64")}`;
      return comment === "" ? line : `${line} ${comment}`;
    },

    wireguard_public_key(value) {
      const text = textOf("wireguard_public_key", value).trim();
      const key = Buffer.from(text, "base64");
      if (key.length !== 32 || key.toString("base64") !== text) {
        throw FilterFault.value("wireguard_public_key", "takes a private key of WireGuard: 32 bytes in base64");
      }
      const secret = createPrivateKey({ key, format: "raw-private", asymmetricKeyType: "x25519" });
      return createPublicKey(secret).export({ format: "raw-public" }).toString("base64");
    },

    bcrypt: (value, cost) => bcrypt("bcrypt", value, cost),

    htpasswd(value, user, cost) {
      if (typeof user !== "string" || user === "" || /[:\p{Cc}]/u.test(user) || Buffer.byteLength(user) > 255) {
        throw FilterFault.argument(
          "htpasswd",
          "takes a user name as its argument, such as htpasswd: 'admin': up to 255 bytes, without a colon",
        );
      }
      // The same algorithm by the name that Apache knows.
      return `${user}:${bcrypt("htpasswd", value, cost).replace(/^\$2b\$/, () => "$2y$")}`;
    },

    base64_decode(value) {
      const text = textOf("base64_decode", value).replace(/\s/g, "");
      const digits = text.replace(/={1,2}$/, "");
      const padded = digits.length < text.length;
      if (!/^[A-Za-z0-9+/_-]*$/.test(digits) || digits.length % 4 === 1 || (padded && text.length % 4 !== 0)) {
        throw FilterFault.value("base64_decode", "takes base64 or base64url");
      }
      const bytes = Buffer.from(digits, "base64");
      if (!isUtf8(bytes)) throw FilterFault.value("base64_decode", "gives text, and what was encoded is not UTF-8");
      return bytes.toString("utf8");
    },

    json_pointer(value, pointer) {
      const text = textOf("json_pointer", value);
      if (typeof pointer !== "string" || !/^(\/([^~/]|~[01])*)*$/.test(pointer)) {
        throw FilterFault.argument("json_pointer", "takes a JSON Pointer (RFC 6901), such as '/data/password'");
      }
      const found = findInJson(text, pointer);
      if (found === undefined || found === null) {
        throw FilterFault.value("json_pointer", "found nothing there, or null: compare the pointer with the value");
      }
      return found;
    },
  };
}

function textOf(filter: string, value: unknown): string {
  if (typeof value === "string") return value;
  if (typeof value === "number") return String(value);
  throw FilterFault.value(filter, "takes a text");
}

function privateKey(filter: string, text: string): KeyObject {
  try {
    return createPrivateKey({ key: text, format: "pem" });
  } catch {
    // What Node says may quote the text.
    throw FilterFault.value(
      filter,
      "takes a private key in PEM (PKCS #8, PKCS #1 or SEC 1) that is not encrypted; it cannot read this value as one",
    );
  }
}

/** TypeScript does not know the source text of JSON yet (ECMAScript 2026). */
const json = JSON as typeof JSON & { rawJSON(text: string): object };
const numbersAsWritten = (_: string, value: unknown, { source = "" }: { source?: string } = {}): unknown =>
  typeof value === "number" ? json.rawJSON(source) : value;

/** A string as it is, anything else as JSON, numbers as they are written; undefined when nothing is there. */
function findInJson(text: string, pointer: string): string | null | undefined {
  let whole: Json;
  try {
    whole = JSON.parse(text);
  } catch {
    throw FilterFault.value("json_pointer", "takes JSON, and the value is none");
  }
  try {
    const found = valueAt(pointer, whole);
    if (typeof found === "string" || found === undefined || found === null) return found;
    return JSON.stringify(valueAt(pointer, JSON.parse(text, numbersAsWritten)));
  } catch {
    return undefined;
  }
}
