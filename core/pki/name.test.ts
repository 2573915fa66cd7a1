import fc from "fast-check";
import { DerError } from "./der/reader.ts";
import * as der from "./der/writer.ts";
import { MalformedInput } from "./malformed-input.ts";
import {
  encodeName,
  fromSubject,
  nameToString,
  parseLiteralSubject,
  parseName,
  type RdnSequence,
  sameName,
} from "./name.ts";
import { oids } from "./oid.ts";
import { Judge } from "./testing/judge.ts";

const judge = new Judge();
afterAll(() => judge.dispose());

const text = fc.string({ unit: "grapheme", minLength: 1, maxLength: 12 }).filter((s) => !/[\p{Cc}\p{Cs}]/u.test(s));
const types = [oids.commonName, oids.organizationName, oids.localityName, oids.userId, "1.2.3.4.5"];
const rdn = fc
  .uniqueArray(fc.constantFrom(...types), { minLength: 1, maxLength: 3 })
  .chain((chosen) => fc.tuple(...chosen.map((type) => text.map((value) => ({ type, value })))))
  // In the order of DER, as a name that was read has it.
  .map((attributes) => parseName(encodeName([attributes])).flat());
const name = fc.array(rdn, { minLength: 1, maxLength: 5 });

test("a name comes back from its DER and from its text", () => {
  fc.assert(
    fc.property(name, (rdns) => {
      expect(parseName(encodeName(rdns))).toEqual(rdns);
      expect(parseLiteralSubject(nameToString(rdns))).toEqual(rdns);
      expect(sameName(rdns, rdns)).toBe(true);
    }),
  );
});

test("each attribute has the string type that it needs", () => {
  const rdns = parseLiteralSubject("CN=a,SERIALNUMBER=1,C=AT,DC=example,EMAILADDRESS=a@b");
  const encoded = encodeName(rdns);
  judge.write("name.der", encoded);
  const parsed = judge.run("openssl", "asn1parse", "-inform", "DER", "-in", "name.der");
  expect([...parsed.matchAll(/(\w+STRING) *:/g)].map(([, type]) => type)).toEqual([
    "IA5STRING",
    "IA5STRING",
    "PRINTABLESTRING",
    "PRINTABLESTRING",
    "UTF8STRING",
  ]);
});

test("the subject of a resource, the common name last", () => {
  const rdns = fromSubject({ commonName: "orders", organizations: ["A", "B"], countries: ["AT"], provinces: ["Wien"] });
  expect(nameToString(rdns)).toBe("CN=orders,O=B,O=A,ST=Wien,C=AT");
  expect(fromSubject({})).toEqual([]);
  expect(encodeName([]).toString("hex")).toBe("3000");
});

test.each<[string, RdnSequence]>([
  // RFC 4514 section 4
  [
    "UID=jsmith,DC=example,DC=net",
    [
      [{ type: oids.domainComponent, value: "net" }],
      [{ type: oids.domainComponent, value: "example" }],
      [{ type: oids.userId, value: "jsmith" }],
    ],
  ],
  [
    "OU=Sales+CN=J.  Smith",
    [
      [
        { type: oids.organizationalUnitName, value: "Sales" },
        { type: oids.commonName, value: "J.  Smith" },
      ],
    ],
  ],
  ['CN=James \\"Jim\\" Smith\\, III', [[{ type: oids.commonName, value: 'James "Jim" Smith, III' }]]],
  ["CN=Before\\20\\20", [[{ type: oids.commonName, value: "Before  " }]]],
  ["1.3.6.1.4.1.1466.0=#0C0548616C6C6F", [[{ type: "1.3.6.1.4.1.1466.0", value: "Hallo" }]]],
  ["CN=Lu\\C4\\8Di\\C4\\87", [[{ type: oids.commonName, value: "Lučić" }]]],
  // What people write
  [
    "cn = orders , o = Example GmbH ",
    [[{ type: oids.organizationName, value: "Example GmbH" }], [{ type: oids.commonName, value: "orders" }]],
  ],
  ["CN=a=b", [[{ type: oids.commonName, value: "a=b" }]]],
  ["CN=\\ a\\ ", [[{ type: oids.commonName, value: " a " }]]],
  ["CN=a\\\\ ", [[{ type: oids.commonName, value: "a\\" }]]],
  ["E=a@example.com", [[{ type: oids.emailAddress, value: "a@example.com" }]]],
])("the literal subject %s", (literal, rdns) => {
  expect(parseLiteralSubject(literal)).toEqual(rdns);
});

test.each<[string, RegExp]>([
  ["", /attribute type and = .* at character 1/],
  ["orders", /attribute type/],
  ["CN=", /a value/],
  ["CN=a,", /attribute type .* at character 6/],
  ["CN=a;O=b", /";" before character 6 must be escaped/],
  ['CN="a"', /a value/],
  ["CN=a\\", /"\\\\" before character 6 must be escaped/],
  ["CN=a\\x", /must be escaped/],
  ["CN=\\C4", /not UTF-8/],
  ["CN=#zz", /a value/],
  ["CN=#0500", /DER of a string/],
  ["FOO=a", /"FOO" is no attribute type/],
  ["1.99.1=a", /"1.99.1" is no attribute type/],
  [`CN=${"a".repeat(5000)}`, /more than 4096/],
])("the literal subject %p is refused", (literal, message) => {
  expect(() => parseLiteralSubject(literal)).toThrow(MalformedInput);
  expect(() => parseLiteralSubject(literal)).toThrow(message);
});

test.each<[string, RdnSequence, RegExp]>([
  ["a common name of 65 characters", fromSubject({ commonName: "x".repeat(65) }), /CN has 65 characters; at most 64/],
  ["a country that is none", fromSubject({ countries: ["Austria"] }), /C "Austria" must be two capital letters/],
  ["a control character", fromSubject({ commonName: "a\nb" }), /CN "a\\nb" must be text without control/],
  ["half a surrogate pair", fromSubject({ commonName: "a\ud800" }), /CN/],
  ["an empty value", fromSubject({ organizations: [""] }), /O "" must be/],
  ["a mail address that is not ASCII", [[{ type: oids.emailAddress, value: "ä@b" }]], /ASCII/],
  ["an underscore where PrintableString is", [[{ type: oids.serialNumber, value: "a_b" }]], /SERIALNUMBER/],
  ["an RDN without attributes", [[]], /part of the name is empty/],
  ["a type twice in one RDN", [[1, 2].map((n) => ({ type: oids.commonName, value: `${n}` }))], /type twice/],
])("%s is refused", (_, rdns, message) => {
  expect(() => encodeName(rdns, "subject")).toThrow(MalformedInput);
  expect(() => encodeName(rdns, "subject")).toThrow(message);
});

test("64 characters beyond the basic plane fit", () => {
  expect(() => encodeName(fromSubject({ commonName: "😀".repeat(64) }))).not.toThrow();
});

describe("names of other CAs", () => {
  const of = (tag: number, content: Buffer) =>
    der.sequence(der.setOf(der.sequence(der.oid(oids.commonName), der.element(tag, [content]))));
  test.each<[string, number, Buffer, string]>([
    ["BMPString", der.tags.bmpString, Buffer.from("004a00fc", "hex"), "Jü"],
    ["TeletexString", der.tags.teletexString, Buffer.from("4afc", "hex"), "Jü"],
    ["NumericString", der.tags.numericString, Buffer.from("12 3"), "12 3"],
    ["PrintableString", der.tags.printableString, Buffer.from("a-b"), "a-b"],
  ])("%s", (_, tag, content, value) => {
    expect(parseName(of(tag, content))).toEqual([[{ type: oids.commonName, value }]]);
  });
  test.each<[string, number, Buffer]>([
    ["UTF-8 that is none", der.tags.utf8String, Buffer.from("c3", "hex")],
    ["an odd BMPString", der.tags.bmpString, Buffer.from("00", "hex")],
    ["a star in PrintableString", der.tags.printableString, Buffer.from("*")],
    ["eight bits in IA5String", der.tags.ia5String, Buffer.from("ff", "hex")],
    ["letters in NumericString", der.tags.numericString, Buffer.from("a")],
    ["no text", der.tags.utf8String, Buffer.alloc(0)],
    ["no string", der.tags.integer, Buffer.from("01", "hex")],
  ])("%s is refused", (_, tag, content) => {
    expect(() => parseName(of(tag, content))).toThrow(DerError);
  });
});

test.each<[string, string, boolean]>([
  ["CN=Example  CA", "cn=example ca", true],
  ["CN=Straße", "CN=STRASSE", false],
  ["CN=ＡＢ", "CN=ab", true],
  ["CN=a+O=b", "O=b+CN=a", true],
  ["CN=a,O=b", "O=b,CN=a", false],
  ["CN=a", "CN=a,O=b", false],
  ["CN=a", "O=a", false],
])("%s and %s", (a, b, same) => {
  expect(sameName(parseLiteralSubject(a), parseLiteralSubject(b))).toBe(same);
});
