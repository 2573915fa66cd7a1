import { createSecretKey, randomBytes } from "node:crypto";
import fc from "fast-check";
import { identity } from "../ports/samples.ts";
import { dataKeyContext, entryContext, keyContext, open, openOrTampered, seal } from "./envelope.ts";

const key = createSecretKey(randomBytes(32));
const context = Buffer.from("context");
const bytes = fc.uint8Array({ maxLength: 300 }).map((array) => Buffer.from(array));

test("what was sealed opens, under the same key and context only", () => {
  fc.assert(
    fc.property(bytes, (plaintext) => {
      const sealed = seal(key, plaintext, context);
      expect(sealed).toHaveLength(12 + plaintext.length + 16);
      expect(open(key, sealed, context)).toEqual(plaintext);
      expect(open(key, sealed, Buffer.from("contexT"))).toBeUndefined();
      expect(open(createSecretKey(randomBytes(32)), sealed, context)).toBeUndefined();
    }),
  );
});

test("no flipped bit and no cut goes unnoticed", () => {
  const sealed = seal(key, Buffer.from("value"), context);
  for (let bit = 0; bit < sealed.length * 8; bit += 1) {
    const changed = Buffer.from(sealed);
    const byte = bit >> 3;
    changed.writeUInt8(changed.readUInt8(byte) ^ (1 << (bit & 7)), byte);
    expect(open(key, changed, context)).toBeUndefined();
  }
  for (let length = 0; length < sealed.length; length += 1) {
    expect(open(key, sealed.subarray(0, length), context)).toBeUndefined();
  }
  expect(() => openOrTampered(key, sealed.subarray(1), context, "it")).toThrow(
    expect.objectContaining({ code: "TamperDetected" }),
  );
});

test("nonces do not repeat", () => {
  const nonces = new Set(Array.from({ length: 1_000 }, () => seal(key, context, context).toString("hex", 0, 12)));
  expect(nonces.size).toBe(1_000);
});

test("every part of the identity is part of the context, and purposes never meet", () => {
  const digest = { key: "password", recipe: "r", fingerprint: "f" };
  const one = identity("one");
  const contexts = [
    entryContext("i", one, 1, "k", digest),
    entryContext("j", one, 1, "k", digest),
    entryContext("i", one, 2, "k", digest),
    entryContext("i", one, 1, "l", digest),
    ...(["project", "environment", "namespace", "namespaceUid", "name"] as const).map((part) =>
      entryContext("i", { ...one, [part]: "other" }, 1, "k", digest),
    ),
    ...(["key", "recipe", "fingerprint"] as const).map((part) =>
      entryContext("i", one, 1, "k", { ...digest, [part]: "other" }),
    ),
    dataKeyContext("i", one, 1, "k"),
    keyContext("i", { id: "k", purpose: "Project", scope: "payments", version: 1, wrappedBy: "w" }),
  ];
  expect(new Set(contexts.map((each) => each.toString("hex"))).size).toBe(contexts.length);
});
