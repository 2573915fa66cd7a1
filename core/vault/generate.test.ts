import { createHash, createPrivateKey, createSecretKey } from "node:crypto";
import fc from "fast-check";
import { DEFAULT_WORDLIST } from "secure-password-utilities/wordlists";
import { GENERATOR_KINDS, type GeneratorSpec } from "../../crds/secret.ts";
import { identity } from "../ports/samples.ts";
import { Digester } from "./fingerprint.ts";
import { generate, generatorParameters } from "./generate.ts";
import { recipeOf } from "./recipe.ts";

const text = async (spec: GeneratorSpec): Promise<string> => (await generate("entry", spec)).revealText();
const invalid = expect.objectContaining({ code: "ValueInvalid" });

test("a password has letters, digits and symbols in the length asked for", async () => {
  expect(await text({ kind: "Password" })).toHaveLength(32);
  for (let count = 0; count < 200; count += 1) {
    const password = await text({ kind: "Password", length: 8 });
    expect(password).toMatch(/^[!-~]{8}$/);
    for (const characters of [/[A-Z]/, /[a-z]/, /[0-9]/, /[^A-Za-z0-9]/]) expect(password).toMatch(characters);
  }
});

test("excluded characters never appear, and a class that is excluded as a whole is not asked for", async () => {
  const exclude = "0123456789!#$%&()*+,-./:;<=>?@[]^_{|}~";
  for (let count = 0; count < 50; count += 1) {
    expect(await text({ kind: "Password", length: 12, exclude })).toMatch(/^(?=.*[a-z])(?=.*[A-Z])[A-Za-z]{12}$/);
  }
  await fc.assert(
    fc.asyncProperty(fc.string({ minLength: 1, maxLength: 20 }), async (characters) => {
      const password = await text({ kind: "Password", length: 64, exclude: characters });
      for (const character of characters) expect(password).not.toContain(character);
    }),
  );
});

test("characters are about equally frequent", async () => {
  const counts = new Map<string, number>();
  // Long passwords contain every class anyway, so that the rule does not shift the frequencies.
  for (let count = 0; count < 800; count += 1) {
    for (const character of await text({ kind: "Password", length: 256 })) {
      counts.set(character, (counts.get(character) ?? 0) + 1);
    }
  }
  const expected = (800 * 256) / counts.size;
  expect(counts.size).toBe(90);
  // Six standard deviations: fails once in some ten million runs.
  for (const seen of counts.values()) expect(Math.abs(seen - expected)).toBeLessThan(6 * Math.sqrt(expected));
});

test("too few characters are refused and the entry is named", async () => {
  const exclude = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+,-./:;<=>?@[]^_{|}~";
  await expect(text({ kind: "Password", exclude })).rejects.toThrow(invalid);
  await expect(text({ kind: "Password", exclude })).rejects.toThrow("entry entry");
});

test("bytes come as hex or base64, a UUID as version 4", async () => {
  expect(await text({ kind: "Hex" })).toMatch(/^[0-9a-f]{64}$/);
  expect(await text({ kind: "Hex", bytes: 8 })).toMatch(/^[0-9a-f]{16}$/);
  expect(Buffer.from(await text({ kind: "Base64", bytes: 33 }), "base64")).toHaveLength(33);
  expect(await text({ kind: "UUID" })).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
});

describe("rules of a password", () => {
  const classes = { uppercase: /[A-Z]/g, lowercase: /[a-z]/g, digits: /[0-9]/g, symbols: /[^A-Za-z0-9]/g };
  const numbers = (password: string) =>
    Object.fromEntries(Object.entries(classes).map(([name, each]) => [name, password.match(each)?.length ?? 0]));

  test("whatever they are, a password follows them", async () => {
    const least = fc.nat(20);
    const rule = fc.record({ uppercase: least, lowercase: least, digits: least, symbols: least });
    const allowed = fc.constantFrom("-_.", "\"'`\\", "!#$%&()*+,-./:;<=>?@[]^_{|}~");
    await fc.assert(
      fc.asyncProperty(rule, allowed, fc.nat(8), async (minimum, symbols, more) => {
        const sum = Object.values(minimum).reduce((total, each) => total + each, 0);
        const length = Math.max(8, sum + more);
        const password = await text({ kind: "Password", length, symbols, minimum });
        expect(password).toHaveLength(length);
        const found = numbers(password);
        for (const [name, each] of Object.entries(minimum)) expect(found[name]).toBeGreaterThanOrEqual(each);
        for (const symbol of password.match(classes.symbols) ?? []) expect(symbols).toContain(symbol);
      }),
      { numRuns: 300 },
    );
  });

  test("without symbols there are none", async () => {
    expect(await text({ kind: "Password", length: 256, symbols: "" })).toMatch(/^[A-Za-z0-9]{256}$/);
  });

  test("a class with minimum 0 may be missing", async () => {
    const minimum = { digits: 0 };
    const passwords = await Promise.all(
      Array.from({ length: 200 }, () => text({ kind: "Password", length: 8, minimum })),
    );
    expect(passwords.some((each) => !/[0-9]/.test(each))).toBe(true);
    expect(passwords.some((each) => /[0-9]/.test(each))).toBe(true);
  });

  test("passwords that fulfil a strict rule are equally likely", async () => {
    // At least 7 digits of 8 characters: 10^8 texts of digits alone, 8 * 10^7 * (26 + 26 + 1) with one other.
    const minimum = { uppercase: 0, lowercase: 0, digits: 7, symbols: 0 };
    const share = 10 ** 8 / (10 ** 8 + 8 * 10 ** 7 * 53);
    const count = 4_000;
    let digitsOnly = 0;
    const places = Array.from({ length: 8 }, () => 0);
    for (let each = 0; each < count; each += 1) {
      const password = await text({ kind: "Password", length: 8, symbols: "_", minimum });
      const place = password.search(/[^0-9]/);
      if (place < 0) digitsOnly += 1;
      else places[place] = (places[place] ?? 0) + 1;
    }
    // Six standard deviations.
    const near = (seen: number, wanted: number) =>
      expect(Math.abs(seen - count * wanted)).toBeLessThan(6 * Math.sqrt(count * wanted * (1 - wanted)));
    near(digitsOnly, share);
    for (const seen of places) near(seen, (1 - share) / 8);
  });

  test.each<[string, GeneratorSpec, string]>([
    ["more than the length", { kind: "Password", length: 8, minimum: { digits: 9 } }, "asks for 12 characters"],
    [
      "what is excluded",
      { kind: "Password", exclude: "0123456789", minimum: { digits: 1 } },
      "minimum.digits asks for 1, and generate.exclude leaves none",
    ],
  ])("%s cannot be asked for", async (_, spec, says) => {
    await expect(text(spec)).rejects.toThrow(invalid);
    await expect(text(spec)).rejects.toThrow(`entry entry: generate.`);
    await expect(text(spec)).rejects.toThrow(says);
  });
});

describe("a passphrase", () => {
  test("has six words of the list and dashes between them, or what is asked for", async () => {
    const words = new Set(DEFAULT_WORDLIST);
    const six = (await text({ kind: "Passphrase" })).split("-");
    expect(six).toHaveLength(6);
    for (const word of six) expect(words).toContain(word);
    expect((await text({ kind: "Passphrase", words: 9, separator: " " })).split(" ")).toHaveLength(9);
    expect(await text({ kind: "Passphrase", words: 4, separator: "" })).toMatch(/^[a-z]{12,36}$/);
  });

  test("can be told apart from every other, whatever stands between its words", () => {
    // The EFF's list of 2016-07-18 without drop-down, felt-tip, t-shirt and yo-yo.
    expect(DEFAULT_WORDLIST).toHaveLength(7_772);
    expect(createHash("sha256").update(DEFAULT_WORDLIST.join("\n")).digest("hex")).toBe(
      "76e3348ad957cad7d9c5c68873e89410ed998c19f4956367ab52d9aec4eee884",
    );
    const sorted = [...DEFAULT_WORDLIST].sort();
    expect(sorted.filter((word, index) => sorted[index + 1]?.startsWith(word))).toEqual([]);
    expect(sorted.filter((word) => !/^[a-z]+$/.test(word))).toEqual([]);
  });

  test("has every word about equally often", async () => {
    const counts = new Map<string, number>();
    for (let each = 0; each < 7_772; each += 1) {
      const words = await text({ kind: "Passphrase", words: 32 });
      for (const word of words.split("-")) counts.set(word, (counts.get(word) ?? 0) + 1);
    }
    expect(counts.size).toBe(7_772);
    // 32 expected; eight standard deviations, since there are so many words.
    expect(Math.max(...counts.values())).toBeLessThan(32 + 8 * Math.sqrt(32));
  });
});

describe("a private key", () => {
  test.each<[GeneratorSpec, object]>([
    [{ kind: "RSA" }, { type: "rsa", modulusLength: 3072 }],
    [
      { kind: "RSA", size: 2048 },
      { type: "rsa", modulusLength: 2048 },
    ],
    [{ kind: "EC" }, { type: "ec", namedCurve: "prime256v1" }],
    [
      { kind: "EC", size: 384 },
      { type: "ec", namedCurve: "secp384r1" },
    ],
    [
      { kind: "EC", size: 521 },
      { type: "ec", namedCurve: "secp521r1" },
    ],
    [{ kind: "Ed25519" }, { type: "ed25519" }],
  ])("%j is PKCS #8 in PEM", async (spec, expected) => {
    const pem = await text(spec);
    expect(pem).toMatch(/^-----BEGIN PRIVATE KEY-----\n[\s\S]+\n-----END PRIVATE KEY-----\n$/);
    const { asymmetricKeyType: type, asymmetricKeyDetails } = createPrivateKey(pem);
    expect({ type, ...asymmetricKeyDetails }).toMatchObject(expected);
  });

  test("making a large one leaves time for other work", async () => {
    let turns = 0;
    const turning = setInterval(() => {
      turns += 1;
    }, 1);
    await text({ kind: "RSA", size: 4096 });
    clearInterval(turning);
    expect(turns).toBeGreaterThan(5);
  });

  test("one for WireGuard is clamped (RFC 7748 section 5)", async () => {
    for (let count = 0; count < 50; count += 1) {
      const key = Buffer.from(await text({ kind: "WireGuard" }), "base64");
      expect(key).toHaveLength(32);
      expect([(key[0] ?? 0) & 7, (key[31] ?? 0) >> 6]).toEqual([0, 1]);
    }
  });
});

test("no value comes twice", async () => {
  for (const kind of GENERATOR_KINDS.filter((each) => each !== "RSA")) {
    const values = await Promise.all(Array.from({ length: 100 }, () => text({ kind })));
    expect(new Set(values).size).toBe(100);
  }
  expect(await text({ kind: "RSA", size: 2048 })).not.toBe(await text({ kind: "RSA", size: 2048 }));
});

test("spelling out a default or the order of excluded characters is no change", () => {
  expect(generatorParameters({ kind: "Password", length: 32 })).toEqual(generatorParameters({ kind: "Password" }));
  expect(generatorParameters({ kind: "Hex", bytes: 32 })).toEqual(generatorParameters({ kind: "Hex" }));
  expect(generatorParameters({ kind: "Password", exclude: "aab" })).toEqual(
    generatorParameters({ kind: "Password", exclude: "ba" }),
  );
  expect(generatorParameters({ kind: "Password", length: 33 })).not.toEqual(generatorParameters({ kind: "Password" }));
});

test("spelling out the defaults of a rule, a passphrase or a key is no change either", () => {
  const same: readonly [GeneratorSpec, GeneratorSpec][] = [
    [{ kind: "Password" }, { kind: "Password", minimum: {} }],
    [
      { kind: "Password" },
      { kind: "Password", symbols: "~}|{_^][@?>=<;:/.-,+*)(&%$#!", minimum: { uppercase: 1, digits: 1, symbols: 1 } },
    ],
    [{ kind: "Passphrase" }, { kind: "Passphrase", words: 6, separator: "-" }],
    [{ kind: "RSA" }, { kind: "RSA", size: 3072 }],
    [{ kind: "EC" }, { kind: "EC", size: 256 }],
    [{ kind: "SSH" }, { kind: "SSH", algorithm: "Ed25519" }],
    [
      { kind: "SSH", algorithm: "ECDSA" },
      { kind: "SSH", algorithm: "ECDSA", size: 256 },
    ],
  ];
  for (const [one, other] of same) expect(generatorParameters(one)).toEqual(generatorParameters(other));
  const different: readonly GeneratorSpec[] = [
    { kind: "Password" },
    { kind: "Password", symbols: "" },
    { kind: "Password", symbols: "-_" },
    { kind: "Password", exclude: "-_" },
    { kind: "Password", minimum: { digits: 2 } },
    { kind: "Password", minimum: { symbols: 2 } },
    { kind: "Password", minimum: { symbols: 0 } },
    ...GENERATOR_KINDS.filter((kind) => kind !== "Password").map((kind) => ({ kind })),
    { kind: "Passphrase", words: 7 },
    { kind: "Passphrase", separator: "" },
    { kind: "RSA", size: 2048 },
    { kind: "EC", size: 384 },
    { kind: "SSH", algorithm: "RSA" },
    { kind: "SSH", algorithm: "RSA", size: 2048 },
    { kind: "SSH", algorithm: "ECDSA" },
    { kind: "SSH", algorithm: "ECDSA", size: 521 },
  ];
  expect(new Set(different.map((spec) => JSON.stringify(generatorParameters(spec)))).size).toBe(different.length);
});

/** A changed recipe is a changed value: applications would be given another password because MazeVault was upgraded. */
test("recipes of values that are stored stay what they are", () => {
  const digester = new Digester(createSecretKey(Buffer.alloc(32, 7)), "installation", identity("one"));
  const recipe = (spec: GeneratorSpec) =>
    recipeOf(digester, { entry: { key: "a", generate: spec }, references: [] }, () => undefined);
  const stored: readonly [GeneratorSpec, string][] = [
    [{ kind: "Password" }, "8fa11787b30474a6c0061c80f3e4a94d4e5152a0e5a159a04df9bab5ab4f7c16"],
    [
      { kind: "Password", length: 24, exclude: "'\"`b a" },
      "e0e54684efe49d3d475eed112e10e3e96a4355035460031491f97276531ddb66",
    ],
    [{ kind: "Hex" }, "620d1da8945aa3094697c9d336e81bd8018f38166a2ae877a20e833d8c051ad7"],
    [{ kind: "Base64", bytes: 48 }, "d3057a91dd4b6d1a148142db0c0766b3ade47b25a95401661fcde89e1db210b6"],
    [{ kind: "UUID" }, "3bbab1c269a4306254361e5e0a026e70b4d014d6584bc32cf4f0b2d556f8ee42"],
  ];
  for (const [spec, expected] of stored) expect(recipe(spec)).toBe(expected);
  const template = { entry: { key: "a", template: "{{ b | base64_encode }}" }, references: ["b"] };
  expect(recipeOf(digester, template, () => "fingerprint")).toBe(
    "ba45838569ced32300963e75217c78510f3dc66d4f4d03790db4fe14cac79331",
  );
});
