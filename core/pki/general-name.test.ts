import fc from "fast-check";
import { DerError, readDer } from "./der/reader.ts";
import * as der from "./der/writer.ts";
import {
  canonical,
  encodeGeneralName,
  type GeneralName,
  generalNameToString,
  inIpRange,
  ipAddress,
  mailboxOf,
  nameConstraints,
  readGeneralName,
  subjectAltNames,
} from "./general-name.ts";
import { MalformedInput } from "./malformed-input.ts";
import { parseLiteralSubject } from "./name.ts";
import { oids } from "./oid.ts";

type Field = "dnsNames" | "ipAddresses" | "uris" | "emailAddresses";
const value = (field: Field, text: string) => {
  const [name] = subjectAltNames({ [field]: [text] });
  return name && (mailboxOf(name) ?? (name.kind === "directory" ? "" : name.value.toString()));
};

test.each<[Field, string, string]>([
  ["dnsNames", "Orders.Payments.svc", "orders.payments.svc"],
  ["dnsNames", "localhost", "localhost"],
  ["dnsNames", "*.example.com", "*.example.com"],
  ["dnsNames", "bücher.example", "xn--bcher-kva.example"],
  ["dnsNames", "*.BÜCHER.example", "*.xn--bcher-kva.example"],
  ["dnsNames", "faß.example", "xn--fa-hia.example"],
  ["dnsNames", "日本語。jp", "xn--wgv71a119e.jp"],
  ["dnsNames", "xn--bcher-kva.example", "xn--bcher-kva.example"],
  ["dnsNames", "10.example", "10.example"],
  ["dnsNames", `${"a".repeat(63)}.example`, `${"a".repeat(63)}.example`],
  ["ipAddresses", "10.0.0.1", "10.0.0.1"],
  ["ipAddresses", "2001:DB8:0::1", "2001:db8::1"],
  ["ipAddresses", "::", "::"],
  ["ipAddresses", "1::", "1::"],
  ["ipAddresses", "::ffff:10.0.0.1", "::ffff:a00:1"],
  ["uris", "SPIFFE://Example.com/ns/A", "spiffe://example.com/ns/A"],
  ["uris", "https://bücher.example:8443/ä?q=ö#ü", "https://xn--bcher-kva.example:8443/%C3%A4?q=%C3%B6#%C3%BC"],
  ["uris", "https://[2001:db8::1]/", "https://[2001:db8::1]/"],
  ["uris", "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6", "urn:uuid:f81d4fae-7dec-11d0-a765-00a0c91e6bf6"],
  ["uris", "https://u@example.com", "https://u@example.com"],
  ["emailAddresses", "Orders@Example.com", "Orders@example.com"],
  ["emailAddresses", "a@bücher.example", "a@xn--bcher-kva.example"],
  ["emailAddresses", "grün@bücher.example", "grün@xn--bcher-kva.example"],
])("%s %s becomes %s", (field, text, canonicalText) => {
  expect(value(field, text)).toBe(canonicalText);
});

test.each<[Field, string]>([
  ...[
    "",
    ".",
    "a..b",
    "-a.example",
    "a-.example",
    "a_b.example",
    "a b",
    "*",
    "*.*.example",
    "a.*.example",
    "f*.example",
  ].map((text): [Field, string] => ["dnsNames", text]),
  ...[
    "10.0.0.1",
    "a.1",
    "example.com.",
    "a/b",
    "a:443",
    `${"a".repeat(64)}.example`,
    `${"a.".repeat(127)}aa`,
    "xn--a-",
    "a\0b",
  ].map((text): [Field, string] => ["dnsNames", text]),
  ...["", "10.0.0", "10.0.0.256", "010.0.0.1", "fe80::1%eth0", "1:2", "10.0.0.0/8", "example.com"].map(
    (text): [Field, string] => ["ipAddresses", text],
  ),
  ...[
    "",
    "example.com",
    "/path",
    "https:",
    "https://",
    "https:///path",
    "https://a b/",
    "https://a/b c",
    "https://a/%zz",
  ].map((text): [Field, string] => ["uris", text]),
  ...["https://a/\ud800", "https://a_b/", "https://a/<x>", `https://a/${"b".repeat(2048)}`].map(
    (text): [Field, string] => ["uris", text],
  ),
  ...[
    "",
    "a",
    "@b",
    "a@",
    "a@b@c",
    "a b@c",
    ".a@b",
    "a..b@c",
    '"a"@b',
    "a\u00a0b@c",
    `${"a".repeat(65)}@b`,
    "ä\u200d\ud800@b",
  ].map((text): [Field, string] => ["emailAddresses", text]),
])("%s %p is refused with its field", (field, text) => {
  expect.assertions(2);
  try {
    subjectAltNames({ [field]: [text] });
  } catch (error) {
    expect(error).toBeInstanceOf(MalformedInput);
    expect((error as MalformedInput).field).toBe(`${field}[0]`);
  }
});

test("names are taken once, in the order of the fields", () => {
  const names = subjectAltNames({
    uris: ["urn:a"],
    dnsNames: ["a.example", "A.example", "b.example"],
    otherNames: [{ oid: "1.2.3", utf8Value: "x" }],
  });
  expect(names.map(generalNameToString)).toEqual(["DNS:a.example", "DNS:b.example", "URI:urn:a", "otherName:1.2.3"]);
});

test.each([
  [{ oid: "1.2.x", utf8Value: "a" }, "otherNames[0].oid"],
  [{ oid: "1.2.3", utf8Value: "" }, "otherNames[0].utf8Value"],
])("the other name %p is refused", (otherName, field) => {
  expect(() => subjectAltNames({ otherNames: [otherName] })).toThrow(expect.objectContaining({ field }));
});

test("every kind comes back from its DER", () => {
  const label = fc.stringMatching(/^[a-z][a-z0-9]{0,10}$/);
  const host = fc.array(label, { minLength: 1, maxLength: 4 }).map((labels) => labels.join("."));
  const name: fc.Arbitrary<GeneralName> = fc.oneof(
    host.map((text): GeneralName => ({ kind: "dns", value: text })),
    host.map((text): GeneralName => ({ kind: "email", value: `a@${text}` })),
    host.map((text): GeneralName => ({ kind: "uri", value: `https://${text}/` })),
    fc.ipV4().map((text): GeneralName => ({ kind: "ip", value: text })),
    fc.ipV6().map((text) => ipAddress(text, "ip")),
    label.map((text): GeneralName => ({ kind: "other", oid: "1.2.3", value: der.utf8(text) })),
    label.map((text): GeneralName => ({ kind: "directory", rdns: parseLiteralSubject(`CN=${text}`) })),
  );
  fc.assert(
    fc.property(name, (one) => {
      const read = readDer(encodeGeneralName(one), (r) => readGeneralName(r));
      expect(read).toEqual(one);
      expect(canonical(read, "name")).toEqual(one);
    }),
  );
});

test.each<[string, string]>([
  ["x400Address", "a300"],
  ["ediPartyName", "a500"],
  ["registeredID", "88022a03"],
  ["an address of 5 octets", "87050102030405"],
  ["a DNS name that is not ASCII", "8201fc"],
  ["an otherName without a value", "a0032a0304"],
])("%s is refused", (_, hex) => {
  expect(() => readDer(Buffer.from(hex, "hex"), (r) => readGeneralName(r))).toThrow(DerError);
});

test("a SmtpUTF8Mailbox that is none is refused", () => {
  for (const bytes of [der.ia5("a@b"), der.utf8("a"), der.element(der.tags.utf8String, [Buffer.from("ff40", "hex")])]) {
    const name: GeneralName = { kind: "other", oid: oids.smtpUtf8Mailbox, value: bytes };
    expect(() => canonical(name, "names")).toThrow(MalformedInput);
  }
});

describe("name constraints", () => {
  test("ranges are masked, domains are in A-labels", () => {
    const spec = {
      permitted: {
        dnsDomains: ["BÜCHER.example", ".a.example"],
        ipRanges: ["10.1.2.3/9", "::1/0"],
        emailAddresses: ["a@b.c"],
      },
      excluded: { uriDomains: [".example"] },
    };
    const constraints = nameConstraints(spec);
    expect(constraints?.permitted.map(generalNameToString)).toEqual([
      "DNS:xn--bcher-kva.example",
      "DNS:.a.example",
      "IP:10.0.0.0/9",
      "IP:::/0",
      "email:a@b.c",
    ]);
    expect(constraints?.excluded.map(generalNameToString)).toEqual(["URI:.example"]);
    expect(nameConstraints(undefined)).toBeUndefined();
    expect(nameConstraints({ permitted: {} })).toBeUndefined();
  });

  test.each([
    [{ permitted: { dnsDomains: ["ok", "*.example"] } }, "nameConstraints.permitted.dnsDomains[1]"],
    [{ excluded: { ipRanges: ["10.0.0.0/33"] } }, "nameConstraints.excluded.ipRanges[0]"],
    [{ excluded: { ipRanges: ["10.0.0.0"] } }, "nameConstraints.excluded.ipRanges[0]"],
    [{ excluded: { emailAddresses: ["a b@c"] } }, "nameConstraints.excluded.emailAddresses[0]"],
    [{ excluded: { emailAddresses: ["ä@c"] } }, "nameConstraints.excluded.emailAddresses[0]"],
    [{ excluded: { uriDomains: ["https://a"] } }, "nameConstraints.excluded.uriDomains[0]"],
  ])("%p is refused", (spec, field) => {
    expect(() => nameConstraints(spec)).toThrow(expect.objectContaining({ name: "MalformedInput", field }));
  });

  test("a mask with a hole is refused", () => {
    const range = Buffer.from("87080a000000ff00ff00", "hex");
    expect(() => readDer(range, (r) => readGeneralName(r, true))).toThrow(/not contiguous/);
  });

  test.each([
    ["10.1.2.3", "10.0.0.0/8", true],
    ["11.1.2.3", "10.0.0.0/8", false],
    ["10.1.2.3", "10.1.2.3/32", true],
    ["10.1.2.2", "10.1.2.3/32", false],
    ["10.128.0.0/9", "10.0.0.0/8", true],
    ["10.0.0.0/7", "10.0.0.0/8", false],
    ["192.168.0.1", "0.0.0.0/0", true],
    ["::ffff:10.0.0.1", "10.0.0.0/8", false],
    ["10.0.0.1", "::/0", false],
    ["2001:db8:8000::", "2001:db8::/33", false],
    ["2001:db8:7fff::1", "2001:db8::/33", true],
  ])("%s in %s: %p", (ip, range, inside) => {
    expect(inIpRange(ip, range)).toBe(inside);
  });
});
