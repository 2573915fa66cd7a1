import { execFileSync } from "node:child_process";
import fc from "fast-check";
import { isOid, oids } from "../oid.ts";
import { DerError, type DerReader, readDer } from "./reader.ts";
import * as der from "./writer.ts";

const read = <T>(hex: string, as: (reader: DerReader) => T): T => readDer(Buffer.from(hex, "hex"), as);

describe("what is written is read again", () => {
  test("integers of any size", () => {
    fc.assert(
      fc.property(fc.bigInt({ min: 0n, max: 1n << 200n }), (value) => {
        const content = readDer(der.integer(value), (r) => r.integer());
        expect(BigInt(`0x${content.toString("hex")}`)).toBe(value);
        expect(content[0]).toBeLessThan(0x80);
      }),
    );
  });

  test("an integer from octets with zeros in front is minimal", () => {
    expect(der.integer(Buffer.from("000080", "hex")).toString("hex")).toBe("02020080");
    expect(der.integer(Buffer.alloc(3)).toString("hex")).toBe("020100");
  });

  test("object identifiers", () => {
    const arc = fc.bigInt({ min: 0n, max: 1n << 128n });
    const dotted = fc.oneof(
      fc.tuple(fc.integer({ min: 0, max: 1 }), fc.integer({ min: 0, max: 39 }), fc.array(arc, { maxLength: 3 })),
      fc.tuple(fc.constant(2), arc, fc.array(arc, { maxLength: 2 })),
    );
    fc.assert(
      fc.property(dotted, ([root, second, rest]) => {
        const text = [root, second, ...rest].join(".");
        expect(isOid(text)).toBe(true);
        expect(readDer(der.oid(text), (r) => r.oid())).toBe(text);
      }),
    );
    for (const text of Object.values(oids)) expect(readDer(der.oid(text), (r) => r.oid())).toBe(text);
  });

  test("times to the second, by the rule of the year 2050", () => {
    const second = fc.integer({ min: -631152000, max: 253402300799 });
    fc.assert(
      fc.property(second, (seconds) => {
        const at = new Date(seconds * 1000);
        const encoded = der.time(at);
        expect(encoded[0]).toBe(at.getUTCFullYear() < 2050 ? der.tags.utcTime : der.tags.generalizedTime);
        expect(readDer(encoded, (r) => r.time())).toEqual(at);
        expect(readDer(der.generalizedTime(at), (r) => r.generalizedTime())).toEqual(at);
      }),
    );
  });

  test("named bits", () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.integer({ min: 0, max: 40 })), (bits) => {
        expect(readDer(der.namedBits(bits), (r) => r.namedBits())).toEqual(bits.sort((a, b) => a - b));
      }),
    );
  });

  test.each([0, 1, 127, 128, 255, 256, 65535, 65536, 1 << 19])("an element of %i octets", (length) => {
    const content = Buffer.alloc(length, 7);
    expect(readDer(der.octetString(content), (r) => r.octetString())).toEqual(content);
    expect(der.header(der.tags.octetString, length)).toEqual(
      der.octetString(content).subarray(0, -length || undefined),
    );
  });

  test("a SET OF stands in the order of its encodings", () => {
    const set = der.setOf(der.integer(300), der.integer(2), der.integer(1));
    expect(readDer(set, (r) => r.setOf((inner) => inner.number()))).toEqual([1, 2, 300]);
  });

  test("implicit and explicit tags", () => {
    expect(der.implicit(6, der.ia5("a")).toString("hex")).toBe("860161");
    expect(der.implicit(1, der.sequence(der.nothing())).toString("hex")).toBe("a1020500");
    expect(der.explicit(0, der.integer(2)).toString("hex")).toBe("a003020102");
    expect(
      readDer(der.explicit(3, der.utf8("é")), (r) => r.explicit(3, (i) => i.content(der.tags.utf8String))),
    ).toEqual(Buffer.from("é"));
  });

  test("openssl reads the same", () => {
    const encoded = der.sequence(
      der.integer(65537),
      der.oid(oids.serverAuth),
      der.boolean(true),
      der.enumerated(3),
      der.namedBits([0, 2]),
      der.utf8("Zürich"),
      der.printable("CH"),
      der.time(new Date("2049-12-31T23:59:59Z")),
      der.time(new Date("2050-01-01T00:00:00Z")),
    );
    const text = execFileSync("openssl", ["asn1parse", "-inform", "DER"], { input: encoded, encoding: "utf8" });
    const values = text.split("\n").map((line) => line.replace(/^.*prim: /, "").replace(/ +/g, " "));
    expect(values.slice(1, -1)).toEqual([
      "INTEGER :010001",
      "OBJECT :TLS Web Server Authentication",
      "BOOLEAN :255",
      "ENUMERATED :03",
      "BIT STRING ",
      "UTF8STRING :Zürich",
      "PRINTABLESTRING :CH",
      "UTCTIME :491231235959Z",
      "GENERALIZEDTIME :20500101000000Z",
    ]);
  });
});

describe("what is not DER is refused", () => {
  const any = (r: DerReader) => r.any();
  test.each<[string, string, (r: DerReader) => unknown, RegExp]>([
    ["nothing", "", any, /ends inside/],
    ["half a header", "30", any, /ends inside/],
    ["an indefinite length", "30800000", any, /indefinite/],
    ["a length of five octets", "30850000000001ff", any, /too large/],
    ["a long form for a short length", "30810100", any, /not minimal/],
    ["a length with a zero in front", `30820080${"00".repeat(128)}`, any, /not minimal/],
    ["a cut length", "3082", any, /ends inside/],
    ["a tag number above 30", "1f8101", any, /tag number/],
    ["content longer than the input", "040200", any, /longer than what holds it/],
    ["content longer than its parent", "3003040500", (r) => r.sequence(any), /longer than what holds it/],
    ["something after the end", "050000", (r) => r.null(), /unexpected data/],
    ["something after the last element", "300405000500", (r) => r.sequence((s) => s.null()), /unexpected data/],
    ["another tag", "0500", (r) => r.integer(), /element 0x05 where 0x02 is expected/],
    ["an empty sequence", "3000", (r) => r.sequence((s) => s.oid()), /ends where an element 0x06/],
    ["an empty INTEGER", "0200", (r) => r.integer(), /INTEGER is not canonical/],
    ["a padded INTEGER", "02020001", (r) => r.integer(), /INTEGER is not canonical/],
    ["a padded negative INTEGER", "0202ff80", (r) => r.integer(), /INTEGER is not canonical/],
    ["a negative number", "0201ff", (r) => r.number(), /out of range/],
    ["a large number", "02050100000000", (r) => r.number(), /out of range/],
    ["a BOOLEAN of 1", "010101", (r) => r.boolean(), /BOOLEAN is not canonical/],
    ["an encoded default", "010100", (r) => r.flag(), /default value/],
    ["a NULL with content", "050100", (r) => r.null(), /NULL has content/],
    ["an empty BIT STRING", "0300", (r) => r.bitString(), /whole octets/],
    ["unused bits", "03020101", (r) => r.bitString(), /whole octets/],
    ["trailing zero bits", "03020080", (r) => r.namedBits(), /BIT STRING is not canonical/],
    ["unused bits that are set", "030207c0", (r) => r.namedBits(), /BIT STRING is not canonical/],
    ["too many named bits", `031200${"ff".repeat(17)}`, (r) => r.namedBits(), /too many/],
    ["an empty OID", "0600", (r) => r.oid(), /OBJECT IDENTIFIER/],
    ["an OID cut off", "060181", (r) => r.oid(), /cut off/],
    ["a padded OID", "06032a8001", (r) => r.oid(), /not canonical/],
    ["an endless OID", `0641${"ff".repeat(64)}01`, (r) => r.oid(), /too long/],
    ["30 February", Buffer.from("\x17\x0d250230000000Z").toString("hex"), (r) => r.time(), /valid time/],
    ["a time without seconds", Buffer.from("\x17\x0b2502100000Z").toString("hex"), (r) => r.time(), /valid time/],
    ["a fraction", Buffer.from("\x18\x1120250210000000.5Z").toString("hex"), (r) => r.time(), /valid time/],
    ["hour 24", Buffer.from("\x18\x0f20250210240000Z").toString("hex"), (r) => r.time(), /valid time/],
    ["minute 60", Buffer.from("\x18\x0f20250210236000Z").toString("hex"), (r) => r.time(), /valid time/],
    ["second 60", Buffer.from("\x18\x0f20250210235960Z").toString("hex"), (r) => r.time(), /valid time/],
    ["month 13", Buffer.from("\x18\x0f20251310000000Z").toString("hex"), (r) => r.time(), /valid time/],
    ["month 0", Buffer.from("\x18\x0f20250010000000Z").toString("hex"), (r) => r.time(), /valid time/],
    ["a letter for a digit", Buffer.from("\x18\x0f2025021000000aZ").toString("hex"), (r) => r.time(), /valid time/],
    ["a time of another zone", Buffer.from("\x18\x0f20250210000000+").toString("hex"), (r) => r.time(), /valid time/],
    ["a SET OF out of order", "3106020102020101", (r) => r.setOf((s) => s.integer()), /DER order/],
  ])("%s", (_, hex, as, message) => {
    expect(() => read(hex, as)).toThrow(DerError);
    expect(() => read(hex, as)).toThrow(message);
  });

  test("deep nesting", () => {
    let deep = der.nothing();
    for (let i = 0; i < 20; i++) deep = der.sequence(deep);
    const descend = (r: DerReader): unknown => (r.next === der.tags.sequence ? r.sequence(descend) : r.null());
    expect(() => readDer(deep, descend)).toThrow(/nested too deeply/);
  });

  test("more than allowed", () => {
    expect(() => readDer(Buffer.alloc(11), (r) => r.any(), 10)).toThrow(/longer than 10 octets/);
  });

  test("the offset is that of the whole input", () => {
    expect.assertions(1);
    try {
      read("30060101ff020200", (r) => r.sequence((s) => [s.boolean(), s.integer()]));
    } catch (error) {
      expect((error as DerError).offset).toBe(5);
    }
  });
});

test.each([-1, 0.5, Number.MAX_SAFE_INTEGER + 1, -1n])("the integer %p is refused", (value) => {
  expect(() => der.integer(value)).toThrow(RangeError);
});

test.each(["", "1", "3.1", "1.40", "1.2.", "1.02", "1..2", "a", `1.2.${"9".repeat(200)}`, "1.2.3 "])(
  "%p is no object identifier",
  (text) => {
    expect(isOid(text)).toBe(false);
    expect(() => der.oid(text)).toThrow(RangeError);
  },
);

test("a year that does not fit is refused", () => {
  expect(() => der.generalizedTime(new Date("+010000-01-01T00:00:00Z"))).toThrow(RangeError);
});
