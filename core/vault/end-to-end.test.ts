import { Sensitive } from "../sensitive.ts";
import { assertSealedFor, newReaderKey, openAs, readerFingerprint, sealFor } from "./end-to-end.ts";
import type { SealedPlace } from "./sealing.ts";

const place: SealedPlace = { project: "shop", environment: "pro", namespace: "shop", name: "card", key: "pan" };
const [alice, bob, carol] = [newReaderKey(), newReaderKey(), newReaderKey()];
const readers = [
  { name: "alice", publicKey: alice.publicKey },
  { name: "bob", publicKey: bob.publicKey },
];
const invalid = expect.objectContaining({ code: "SealedValueInvalid" });

test.each(["", "4111", "x".repeat(10_000)])("each reader reads what was written, and nobody else", async (value) => {
  const text = await sealFor(readers, place, new Sensitive(value));
  for (const { privateKey } of [alice, bob]) {
    expect((await openAs(privateKey, place, text)).revealText()).toBe(value);
  }
  await expect(openAs(carol.privateKey, place, text)).rejects.toThrow(
    `entry pan: the value does not open: it is not sealed for the reader ${readerFingerprint(carol.publicKey)}`,
  );
});

test("a private key that is none is refused", async () => {
  const text = await sealFor(readers, place, new Sensitive("value"));
  await expect(openAs(new Sensitive("AQ"), place, text)).rejects.toMatchObject({ code: "ValueInvalid" });
});

test.each(Object.keys(place) as (keyof SealedPlace)[])("elsewhere, by its %s, it does not open", async (part) => {
  const text = await sealFor(readers, place, new Sensitive("value"));
  await expect(openAs(alice.privateKey, { ...place, [part]: "other" }, text)).rejects.toEqual(invalid);
});

test("no flipped bit opens, wherever it is: the list of readers is bound too", async () => {
  const bytes = Buffer.from(await sealFor(readers, place, new Sensitive("v")), "base64url");
  // The last part is bob's own: alice cannot see it.
  const length = 2 + 32 + (32 + 17);
  for (let byte = 0; byte < length; byte += 1) {
    const changed = Buffer.from(bytes);
    changed.writeUInt8(changed.readUInt8(byte) ^ (1 << (byte & 7)), byte);
    await expect(openAs(alice.privateKey, place, changed.toString("base64url"))).rejects.toEqual(invalid);
  }
});

test("what is stored must be sealed for the readers, all of them and no others", async () => {
  const sealed = async (...for_: readonly { name: string; publicKey: string }[]) =>
    new Sensitive(await sealFor(for_, place, new Sensitive("v")));
  const [first, second] = readers;
  const third = { name: "carol", publicKey: carol.publicKey };
  if (first === undefined || second === undefined) throw new Error("expected readers");
  assertSealedFor(readers, "pan", await sealed(second, first));
  const refused = [
    new Sensitive("plain text"),
    new Sensitive(""),
    new Sensitive(Buffer.from([2, 0])),
    await sealed(first),
    await sealed(first, second, third),
    await sealed(first, third),
    await sealed(first, first),
  ];
  for (const value of refused) {
    expect(() => assertSealedFor(readers, "pan", value)).toThrow(
      "entry pan: with protection EndToEnd the writer seals the value, for exactly the readers alice, bob",
    );
  }
});

test("fingerprints are told apart, and are of the key and not of its spelling", () => {
  expect(readerFingerprint(alice.publicKey)).toMatch(/^SHA256:[A-Za-z0-9+/]{43}$/);
  expect(readerFingerprint(alice.publicKey)).not.toBe(readerFingerprint(bob.publicKey));
  expect(readerFingerprint("A".repeat(43))).toBe("SHA256:Zmh6rfhivXdsj8GLjp+OIAiXFIVu4jOzkCpZHQ1fKSU");
});
