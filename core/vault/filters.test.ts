import { createPublicKey, createSecretKey, generateKeyPairSync, randomBytes } from "node:crypto";
import { compareSync } from "bcryptjs";
import fc from "fast-check";
import type { GeneratorSpec, SecretEntry } from "../../crds/secret.ts";
import { identity } from "../ports/samples.ts";
import { Sensitive } from "../sensitive.ts";
import { Digester } from "./fingerprint.ts";
import { generate } from "./generate.ts";
import { makeEntries, replaceEntries } from "./material.ts";
import { renderTemplate } from "./template.ts";

const render = async (template: string, values: Record<string, string> = {}): Promise<string> => {
  const given = new Map(Object.entries(values).map(([key, value]) => [key, new Sensitive(value)]));
  return (await renderTemplate("derived", template, given)).revealText();
};
const generated = async (spec: GeneratorSpec): Promise<string> => (await generate("entry", spec)).revealText();
const pem = (type: "x25519" | "ed25519") =>
  generateKeyPairSync(type as "ed25519").privateKey.export({ type: "pkcs8", format: "pem" }) as string;

describe("public_key", () => {
  test.each<GeneratorSpec>([{ kind: "RSA", size: 2048 }, { kind: "EC", size: 521 }, { kind: "Ed25519" }])(
    "gives the public half of %j as SubjectPublicKeyInfo",
    async (spec) => {
      const key = await generated(spec);
      const derived = await render("{{ key | public_key }}", { key });
      expect(derived).toMatch(/^-----BEGIN PUBLIC KEY-----\n/);
      expect(createPublicKey(derived).equals(createPublicKey(key))).toBe(true);
    },
  );
});

describe("ssh_public_key", () => {
  test("gives the same line of an SSH key and of a PEM key, with the comment asked for", async () => {
    const key = generateKeyPairSync("ed25519").privateKey.export({ type: "pkcs8", format: "pem" }) as string;
    const line = await render("{{ key | ssh_public_key }}", { key });
    expect(line).toMatch(/^ssh-ed25519 [A-Za-z0-9+/]{68}$/);
    expect(await render("{{ key | ssh_public_key: 'deploy@ci' }}", { key })).toBe(`${line} deploy@ci`);
    expect(await render("{{ key | ssh_public_key: user }}", { key, user: "root" })).toBe(`${line} root`);
  });
});

describe("bcrypt and htpasswd", () => {
  test("give hashes that hold for the value alone, at the cost asked for", async () => {
    const password = "pässword";
    const hash = await render("{{ password | bcrypt: 5 }}", { password });
    expect(hash).toMatch(/^\$2b\$05\$[./A-Za-z0-9]{53}$/);
    expect([compareSync(password, hash), compareSync(`${password}.`, hash)]).toEqual([true, false]);
    const line = await render("{{ password | htpasswd: user, 4 }}", { password, user: "anna" });
    expect(line).toMatch(/^anna:\$2y\$04\$[./A-Za-z0-9]{53}$/);
    expect(compareSync(password, line.slice("anna:".length))).toBe(true);
    expect(await render("{{ password | htpasswd: 'anna' }}", { password })).toMatch(/^anna:\$2y\$10\$/);
  });

  test("salt each hash anew, and stand beside the rest of the template", async () => {
    const template =
      "{% assign h = a | bcrypt: 4 %}{{ h }} {{ b | bcrypt: 4 }} {{ a | htpasswd: 'x', 5 }} {{ h }} {{ b }}";
    const [first, second] = [await render(template, { a: "1", b: "2" }), await render(template, { a: "1", b: "2" })];
    const [own, other, line = "", again, plain] = first.split(" ");
    expect(again).toBe(own);
    expect(plain).toBe("2");
    expect([compareSync("1", own ?? ""), compareSync("2", other ?? ""), compareSync("1", line.slice(2))]).toEqual([
      true,
      true,
      true,
    ]);
    expect(second.split(" ")[0]).not.toBe(own);
  });

  test("take up to 72 bytes, and leave time for other work", async () => {
    let turns = 0;
    const turning = setInterval(() => {
      turns += 1;
    }, 1);
    const longest = "ö".repeat(36);
    const hash = await render("{{ a | bcrypt: 11 }}", { a: longest });
    clearInterval(turning);
    expect(turns).toBeGreaterThan(5);
    expect(compareSync(longest, hash)).toBe(true);
  });

  test("are for a few hashes in one template", async () => {
    const hashes = (count: number) =>
      Array.from({ length: count }, (_, index) => `{{ a | append: '${index}' | bcrypt: 4 }}`);
    expect((await render(hashes(8).join(" "), { a: "x" })).split(" ")).toHaveLength(8);
    await expect(render(hashes(9).join(" "), { a: "x" })).rejects.toThrow(
      "entry derived: the template asks for more than 8 hashes of bcrypt or htpasswd; divide it into several entries",
    );
  });

  test("wait for each other, whoever asks", async () => {
    const all = await Promise.all(
      Array.from({ length: 20 }, (_, index) => render("{{ a | bcrypt: 4 }} {{ a }}", { a: `value-${index}` })),
    );
    for (const [index, text] of all.entries()) {
      const [hash = "", value] = text.split(" ");
      expect(value).toBe(`value-${index}`);
      expect(compareSync(`value-${index}`, hash)).toBe(true);
    }
  });
});

describe("base64_decode", () => {
  test("takes whatever text was encoded in either alphabet", async () => {
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: "grapheme" }), async (text) => {
        const bytes = Buffer.from(text);
        const folded = bytes.toString("base64").replace(/.{1,76}/g, "$&\n");
        expect(await render("{{ a | base64_decode }}", { a: folded })).toBe(text);
        expect(await render("{{ a | base64_decode }}", { a: bytes.toString("base64url") })).toBe(text);
        expect(await render("{{ a | base64_encode | base64_decode }}", { a: text })).toBe(text);
      }),
    );
  });
});

describe("json_pointer", () => {
  // The examples of RFC 6901 section 5.
  const document =
    '{"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4, "i\\\\j": 5, "k\\"l": 6, " ": 7, "m~n": 8}';
  test.each([
    ["/foo", '["bar","baz"]'],
    ["/foo/0", "bar"],
    ["/", "0"],
    ["/a~1b", "1"],
    ["/c%d", "2"],
    ["/e^f", "3"],
    ["/g|h", "4"],
    ["/i\\j", "5"],
    ['/k"l', "6"],
    ["/ ", "7"],
    ["/m~0n", "8"],
  ])("%s of the RFC's example is %s", async (pointer, expected) => {
    expect(await render("{{ a | json_pointer: pointer }}", { a: document, pointer })).toBe(expected);
  });

  test("gives strings as they are, and the rest as JSON with numbers as they were written", async () => {
    const a =
      '{"id": 12345678901234567890, "rate": 1.0, "on": true, "text": "q\\"ö", "in": {"list": [1.50, null]}, "__proto__": "own"}';
    const at = (pointer: string) => render(`{{ a | json_pointer: '${pointer}' }}`, { a });
    expect(await Promise.all(["/id", "/rate", "/on", "/text", "/in", "/__proto__"].map(at))).toEqual([
      "12345678901234567890",
      "1.0",
      "true",
      'q"ö',
      '{"list":[1.50,null]}',
      "own",
    ]);
    expect(JSON.parse(await at(""))).toMatchObject({ rate: 1 });
  });
});

describe("what a filter does not take is refused, entry and fix are named, and no value is shown:", () => {
  const canary = "canary";
  const encrypted = generateKeyPairSync("ed25519").privateKey.export({
    type: "pkcs8",
    format: "pem",
    cipher: "aes-256-cbc",
    passphrase: canary,
  });
  const inPem = "takes a private key in PEM (PKCS #8, PKCS #1 or SEC 1) that is not encrypted";
  const nothingThere = "json_pointer found nothing there, or null";
  const refused = "entry derived: the template cannot be rendered: ";

  test.each<[string, Record<string, string>, string, string]>([
    ["{{ a | public_key }}", { a: canary }, "ValueInvalid", `public_key ${inPem}`],
    ["{{ a | public_key }}", { a: encrypted as string }, "ValueInvalid", `public_key ${inPem}`],
    ["{{ a | ssh_public_key }}", { a: canary }, "ValueInvalid", `ssh_public_key ${inPem}`],
    ["{{ a | ssh_public_key }}", { a: pem("x25519") }, "ValueInvalid", "takes RSA, ECDSA on P-256"],
    ["{{ a | ssh_public_key: a }}", { a: `${canary}\n` }, "TemplateInvalid", "takes a text of one line"],
    ["{{ a | wireguard_public_key }}", { a: canary }, "ValueInvalid", "32 bytes in base64"],
    ["{{ a | wireguard_public_key }}", { a: randomBytes(33).toString("base64") }, "ValueInvalid", "32 bytes in base64"],
    ["{{ a | bcrypt }}", { a: canary.repeat(13) }, "ValueInvalid", "bcrypt takes 1 to 72 bytes"],
    ["{{ a | bcrypt }}", { a: `${canary}\0` }, "ValueInvalid", "without a NUL"],
    ["{{ a | bcrypt }}", { a: "" }, "ValueInvalid", "takes 1 to 72 bytes"],
    ["{{ a | bcrypt: 3 }}", { a: canary }, "TemplateInvalid", "from 4 to 14 as its cost"],
    ["{{ a | bcrypt: 15 }}", { a: canary }, "TemplateInvalid", "from 4 to 14 as its cost"],
    ["{{ a | bcrypt: a }}", { a: canary }, "TemplateInvalid", "from 4 to 14 as its cost"],
    ["{{ a | htpasswd }}", { a: canary }, "TemplateInvalid", "takes a user name"],
    ["{{ a | htpasswd: b }}", { a: canary, b: "x:canary" }, "TemplateInvalid", "without a colon"],
    ["{{ a | htpasswd: 'x' }}", { a: canary.repeat(13) }, "ValueInvalid", "htpasswd takes 1 to 72 bytes"],
    ["{{ a | base64_decode }}", { a: `${canary}!` }, "ValueInvalid", "takes base64 or base64url"],
    ["{{ a | base64_decode }}", { a: "canar" }, "ValueInvalid", "takes base64 or base64url"],
    ["{{ a | base64_decode }}", { a: "canary=" }, "ValueInvalid", "takes base64 or base64url"],
    ["{{ a | base64_decode }}", { a: "//79/w==" }, "ValueInvalid", "what was encoded is not UTF-8"],
    ["{{ a | json_pointer: '/a' }}", { a: canary }, "ValueInvalid", "takes JSON, and the value is none"],
    ["{{ a | json_pointer: '/b' }}", { a: '{"a": "canary"}' }, "ValueInvalid", nothingThere],
    ["{{ a | json_pointer: '/a' }}", { a: '{"a": null, "b": "canary"}' }, "ValueInvalid", nothingThere],
    ["{{ a | json_pointer: '/a/b' }}", { a: '{"a": "canary"}' }, "ValueInvalid", nothingThere],
    ["{{ a | json_pointer: '/a/rawJSON' }}", { a: '{"a": 1}' }, "ValueInvalid", nothingThere],
    ["{{ a | json_pointer: '/constructor' }}", { a: '{"a": "canary"}' }, "ValueInvalid", nothingThere],
    ["{{ a | json_pointer: b }}", { a: "{}", b: canary }, "TemplateInvalid", "takes a JSON Pointer (RFC 6901)"],
    ["{{ a | json_pointer: '/~2' }}", { a: "{}" }, "TemplateInvalid", "takes a JSON Pointer (RFC 6901)"],
    ["{{ a | json_pointer }}", { a: "{}" }, "TemplateInvalid", "such as '/data/password'"],
  ])("%s, case %#", async (template, values, code, says) => {
    const error = await render(template, values).catch((thrown: unknown) => thrown as Error);
    expect(error).toMatchObject({ code });
    const { message, cause, stack } = error as Error;
    expect(message.startsWith(refused)).toBe(true);
    expect(message).toContain(says);
    expect(`${message}${String(cause)}${stack?.split("\n    at ")[0]}`).not.toContain(canary);
  });

  test("an SSH key where PEM is needed is told from the rest", async () => {
    const key = await generated({ kind: "SSH" });
    await expect(render("{{ key | public_key }}", { key })).rejects.toThrow("use ssh_public_key");
  });

  test("a file that begins as an SSH key and ends early is none", async () => {
    const [first, body = "", ...rest] = (await generated({ kind: "SSH" })).split("\n");
    for (const part of ["", body.slice(0, 16), body.slice(0, 40)]) {
      const key = [first, part, rest.at(-2), ""].join("\n");
      await expect(render("{{ key | ssh_public_key }}", { key })).rejects.toThrow(inPem);
    }
  });
});

describe("when an entry cannot be made, the values of the others are zeroed, and what was given is left alone:", () => {
  const digester = new Digester(createSecretKey(randomBytes(32)), "installation", identity("one"));
  const seen: Sensitive[] = [];
  /** Takes note of each value that is made. */
  const noting = Object.assign(Object.create(digester), {
    fingerprint: (key: string, value: Sensitive) => {
      seen.push(value);
      return digester.fingerprint(key, value);
    },
    digest: digester.digest.bind(digester),
  }) as Digester;
  const zeroed = (value: Sensitive): boolean => value.reveal().every((byte) => byte === 0);
  const entries: readonly SecretEntry[] = [
    { key: "a", generate: { kind: "Hex" } },
    { key: "b", secretRef: { name: "source", key: "b" } },
    { key: "c", external: {} },
    { key: "d", template: "{{ a }}{{ b }}" },
    { key: "e", template: "{{ d | public_key }}" },
  ];

  beforeEach(() => {
    seen.length = 0;
  });

  test("of a new version", async () => {
    const [source, written] = [new Sensitive("source"), new Sensitive("written")];
    const making = makeEntries(noting, entries, new Map([["b", source]]), new Map([["c", written]]));
    await expect(making).rejects.toThrow("entry e");
    expect(seen).toHaveLength(4);
    expect(seen.filter((value) => !zeroed(value))).toEqual([source, written]);
  });

  test("of a version with other values", async () => {
    const current = await makeEntries(
      digester,
      entries.slice(0, 3),
      new Map([["b", new Sensitive("source")]]),
      new Map(),
    );
    const written = new Sensitive("written");
    await expect(replaceEntries(noting, entries, current, new Map([["c", written]]))).rejects.toThrow("entry e");
    expect(seen.map(zeroed)).toEqual([false, true]);
    expect(current.map(({ value }) => zeroed(value))).toEqual([false, false]);
  });
});
