import fc from "fast-check";
import { encodeFields, type Field } from "./canonical.ts";

const field: fc.Arbitrary<Field> = fc.oneof(
  fc.string({ unit: "grapheme" }),
  fc.uint8Array().map((bytes) => Buffer.from(bytes)),
  fc.maxSafeInteger(),
  fc.bigInt(),
  fc.date({ noInvalidDate: true }),
  fc.constant(undefined),
);
const list = fc.tuple(fc.string({ unit: "grapheme", maxLength: 4 }), fc.array(field, { maxLength: 5 }));

/** Numbers of both kinds are one type: 1 and 1n mean the same. */
const meaning = ([purpose, fields]: [string, Field[]]): string =>
  JSON.stringify([
    purpose,
    ...fields.map((value) => {
      if (value === undefined) return ["absent"];
      if (Buffer.isBuffer(value)) return ["bytes", value.toString("hex")];
      if (value instanceof Date) return ["time", value.toISOString()];
      return typeof value === "string" ? ["text", value] : ["number", value.toString()];
    }),
  ]);

test("different lists have different bytes, equal ones the same", () => {
  fc.assert(
    fc.property(list, list, (a, b) => {
      expect(encodeFields(...a).equals(encodeFields(...b))).toBe(meaning(a) === meaning(b));
    }),
  );
});

test("a list within a list is the field that its own bytes are", () => {
  fc.assert(
    fc.property(list, list, field, ([purpose, fields], inner, last) => {
      const nested = { purpose: inner[0], fields: inner[1] };
      const bytes = encodeFields(purpose, [...fields, encodeFields(...inner), last]);
      expect(encodeFields(purpose, [...fields, nested, last])).toEqual(bytes);
      const twice = encodeFields("p", [encodeFields(purpose, [nested])]);
      expect(encodeFields("p", [{ purpose, fields: [nested] }])).toEqual(twice);
    }),
  );
});

test("moving the border between two fields changes the bytes", () => {
  fc.assert(
    fc.property(fc.string({ minLength: 1 }), fc.nat(), fc.nat(), (text, i, j) => {
      const [a, b] = [i % (text.length + 1), j % (text.length + 1)];
      const split = (at: number) => encodeFields("p", [text.slice(0, at), text.slice(at)]);
      expect(split(a).equals(split(b))).toBe(a === b);
    }),
  );
});

test("no list is the beginning of another", () => {
  fc.assert(
    fc.property(list, list, (a, b) => {
      const [x, y] = [encodeFields(...a), encodeFields(...b)];
      fc.pre(x.length < y.length);
      expect(y.subarray(0, x.length).equals(x)).toBe(false);
    }),
  );
});

test.each([
  ["absent and empty", undefined, ""],
  ["text and bytes", "a", Buffer.from("a")],
  ["text and number", "1", 1],
  ["text and time", "2026-01-01T00:00:00.000Z", new Date("2026-01-01T00:00:00Z")],
])("%s differ", (_, a, b) => {
  expect(encodeFields("p", [a]).equals(encodeFields("p", [b]))).toBe(false);
});

test("what would not be unambiguous is refused", () => {
  expect(() => encodeFields("p", ["\ud800"])).toThrow(RangeError);
  expect(() => encodeFields("p", [0.5])).toThrow(RangeError);
  expect(() => encodeFields("p", [Number.NaN])).toThrow(RangeError);
});
