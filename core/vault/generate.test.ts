import fc from "fast-check";
import type { GeneratorSpec } from "../../crds/secret.ts";
import { generate, generatorParameters } from "./generate.ts";

const text = (spec: GeneratorSpec): string => generate("entry", spec).reveal().toString("utf8");

test("a password has letters, digits and symbols in the length asked for", () => {
  expect(text({ kind: "Password" })).toHaveLength(32);
  for (let count = 0; count < 200; count += 1) {
    const password = text({ kind: "Password", length: 8 });
    expect(password).toMatch(/^[!-~]{8}$/);
    for (const characters of [/[A-Z]/, /[a-z]/, /[0-9]/, /[^A-Za-z0-9]/]) expect(password).toMatch(characters);
  }
});

test("excluded characters never appear, and a class that is excluded as a whole is not asked for", () => {
  const exclude = "0123456789!#$%&()*+,-./:;<=>?@[]^_{|}~";
  for (let count = 0; count < 50; count += 1) {
    expect(text({ kind: "Password", length: 12, exclude })).toMatch(/^(?=.*[a-z])(?=.*[A-Z])[A-Za-z]{12}$/);
  }
  fc.assert(
    fc.property(fc.string({ minLength: 1, maxLength: 20 }), (characters) => {
      const password = text({ kind: "Password", length: 64, exclude: characters });
      for (const character of characters) expect(password).not.toContain(character);
    }),
  );
});

test("characters are about equally frequent", () => {
  const counts = new Map<string, number>();
  // Long passwords contain every class anyway, so that the rule does not shift the frequencies.
  for (let count = 0; count < 800; count += 1) {
    for (const character of text({ kind: "Password", length: 256 })) {
      counts.set(character, (counts.get(character) ?? 0) + 1);
    }
  }
  const expected = (800 * 256) / counts.size;
  expect(counts.size).toBe(90);
  // Six standard deviations: fails once in some ten million runs.
  for (const seen of counts.values()) expect(Math.abs(seen - expected)).toBeLessThan(6 * Math.sqrt(expected));
});

test("too few characters are refused and the entry is named", () => {
  const exclude = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+,-./:;<=>?@[]^_{|}~";
  expect(() => text({ kind: "Password", exclude })).toThrow(expect.objectContaining({ code: "ValueInvalid" }));
  expect(() => text({ kind: "Password", exclude })).toThrow("entry entry");
});

test("bytes come as hex or base64, a UUID as version 4", () => {
  expect(text({ kind: "Hex" })).toMatch(/^[0-9a-f]{64}$/);
  expect(text({ kind: "Hex", bytes: 8 })).toMatch(/^[0-9a-f]{16}$/);
  expect(Buffer.from(text({ kind: "Base64", bytes: 33 }), "base64")).toHaveLength(33);
  expect(text({ kind: "UUID" })).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
});

test("no value comes twice", () => {
  for (const kind of ["Password", "Hex", "Base64", "UUID"] as const) {
    expect(new Set(Array.from({ length: 100 }, () => text({ kind }))).size).toBe(100);
  }
});

test("spelling out a default or the order of excluded characters is no change", () => {
  expect(generatorParameters({ kind: "Password", length: 32 })).toEqual(generatorParameters({ kind: "Password" }));
  expect(generatorParameters({ kind: "Hex", bytes: 32 })).toEqual(generatorParameters({ kind: "Hex" }));
  expect(generatorParameters({ kind: "Password", exclude: "aab" })).toEqual(
    generatorParameters({ kind: "Password", exclude: "ba" }),
  );
  expect(generatorParameters({ kind: "Password", length: 33 })).not.toEqual(generatorParameters({ kind: "Password" }));
});
