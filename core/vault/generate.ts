import { generateKeyPairSync, randomBytes, randomInt, randomUUID } from "node:crypto";
import type { GeneratorSpec } from "../../crds/secret.ts";
import { Stalled } from "../errors.ts";
import { generateKey, type KeySpec } from "../pki/key.ts";
import { Sensitive } from "../sensitive.ts";
import { openSshPrivateKey } from "./ssh.ts";

const CLASSES = {
  uppercase: "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
  lowercase: "abcdefghijklmnopqrstuvwxyz",
  digits: "0123456789",
  /** Those that need no quoting in shells, URLs, YAML and connection strings more often than they do. */
  symbols: "!#$%&()*+,-./:;<=>?@[]^_{|}~",
} as const;
type ClassName = keyof typeof CLASSES;
const CLASS_NAMES = ["uppercase", "lowercase", "digits", "symbols"] as const satisfies readonly ClassName[];

const DEFAULT_PASSWORD_LENGTH = 32;
const DEFAULT_LEAST = 1;
const DEFAULT_BYTES = 32;
const DEFAULT_WORDS = 6;
const DEFAULT_SEPARATOR = "-";
const DEFAULT_RSA_SIZE = 3072;
const DEFAULT_EC_SIZE = 256;
/** Below 16 characters to choose from, 8 positions have fewer than 32 bits. */
const FEWEST_CHARACTERS = 16;

/** A fresh value. `entry` is named in `Stalled("ValueInvalid")` when the parameters allow none. */
export async function generate(entry: string, spec: GeneratorSpec): Promise<Sensitive> {
  switch (spec.kind) {
    case "Password":
      return text(password(entry, spec));
    case "Passphrase":
      return text(await passphrase(spec.words ?? DEFAULT_WORDS, spec.separator ?? DEFAULT_SEPARATOR));
    case "Hex":
      return text(randomBytes(spec.bytes ?? DEFAULT_BYTES).toString("hex"));
    case "Base64":
      return text(randomBytes(spec.bytes ?? DEFAULT_BYTES).toString("base64"));
    case "UUID":
      return text(randomUUID());
    case "RSA":
    case "EC":
    case "Ed25519":
      return text(pem(await generateKey(keySpec(spec))));
    case "SSH":
      return text(openSshPrivateKey(await generateKey(keySpec(spec))));
    case "WireGuard":
      return text(generateKeyPairSync("x25519").privateKey.export({ format: "raw-private" }).toString("base64"));
  }
}

const text = (value: string) => new Sensitive(Buffer.from(value, "utf8"));

const pem = (key: Awaited<ReturnType<typeof generateKey>>): string => key.export({ type: "pkcs8", format: "pem" });

function keySpec({ kind, algorithm = "Ed25519", size }: GeneratorSpec): KeySpec {
  switch (kind === "SSH" ? algorithm : kind) {
    case "RSA":
      return { algorithm: "RSA", size: size ?? DEFAULT_RSA_SIZE };
    case "EC":
    case "ECDSA":
      return { algorithm: "ECDSA", size: (size ?? DEFAULT_EC_SIZE) as 256 | 384 | 521 };
    default:
      return { algorithm: "Ed25519" };
  }
}

/**
 * Words of the EFF's long list without its four that have a dash. None is the beginning of another, so that with any
 * separator, and without one, no two choices of words give the same passphrase.
 */
async function passphrase(words: number, separator: string): Promise<string> {
  const { DEFAULT_WORDLIST: list } = await import("secure-password-utilities/wordlists");
  return Array.from({ length: words }, () => list[randomInt(list.length)]).join(separator);
}

/** Characters of one class, and how many of them there are at least. */
interface CharacterClass {
  readonly characters: readonly string[];
  readonly least: number;
}

/** So many are drawn from the whole alphabet before the numbers of each class are chosen first. */
const DRAWS = 100;

/**
 * Letters, digits and symbols, of each class as many as asked for. Drawn uniformly and drawn again until the rule is
 * fulfilled, so that all passwords which fulfil it are equally likely (`randomInt` has no modulo bias).
 */
function password(entry: string, { length = DEFAULT_PASSWORD_LENGTH, ...spec }: GeneratorSpec): string {
  const classes = classesOf(entry, length, spec);
  const alphabet = classes.flatMap(({ characters }) => characters);
  if (alphabet.length < FEWEST_CHARACTERS) {
    throw new Stalled(
      "ValueInvalid",
      `entry ${entry}: generate.exclude leaves ${alphabet.length} characters to choose from, at least ${FEWEST_CHARACTERS} are needed`,
    );
  }
  for (let draw = 0; draw < DRAWS; draw += 1) {
    const drawn = Array.from({ length }, () => pick(alphabet));
    if (classes.every(({ characters, least }) => drawn.filter((c) => characters.includes(c)).length >= least)) {
      return drawn.join("");
    }
  }
  return drawByNumbers(classes, length);
}

function classesOf(entry: string, length: number, spec: GeneratorSpec): readonly CharacterClass[] {
  const classes = CLASS_NAMES.map((name): CharacterClass => {
    const allowed = name === "symbols" ? (spec.symbols ?? CLASSES.symbols) : CLASSES[name];
    const characters = [...new Set(allowed)].filter((c) => !spec.exclude?.includes(c));
    const asked = spec.minimum?.[name];
    if (characters.length === 0 && asked !== undefined && asked > 0) {
      throw new Stalled(
        "ValueInvalid",
        `entry ${entry}: generate.minimum.${name} asks for ${asked}, and generate.exclude leaves none; set it to 0`,
      );
    }
    return { characters, least: characters.length === 0 ? 0 : (asked ?? DEFAULT_LEAST) };
  });
  const least = classes.reduce((sum, each) => sum + each.least, 0);
  if (least > length) {
    throw new Stalled(
      "ValueInvalid",
      `entry ${entry}: generate.minimum asks for ${least} characters, and generate.length is ${length}`,
    );
  }
  return classes;
}

/**
 * For rules that a random text hardly ever fulfils: first how many characters of each class, each number with the share
 * of passwords that have it, then where, then which. All passwords that fulfil the rule are equally likely here too.
 */
function drawByNumbers(classes: readonly CharacterClass[], length: number): string {
  // texts[i][n]: how many texts of n characters the classes from the i-th on can make.
  const texts: bigint[][] = [[1n, ...Array.from({ length }, () => 0n)]];
  const shares = (own: CharacterClass, others: readonly bigint[], n: number): readonly bigint[] => {
    let arrangements = 1n;
    return Array.from({ length: n + 1 }, (_, k) => {
      if (k > 0) arrangements = (arrangements * BigInt(n - k + 1)) / BigInt(k);
      if (k < own.least) return 0n;
      return arrangements * BigInt(own.characters.length) ** BigInt(k) * (others[n - k] ?? 0n);
    });
  };
  for (const own of classes.toReversed()) {
    const [others = []] = texts;
    texts.unshift(Array.from({ length: length + 1 }, (_, n) => sum(shares(own, others, n))));
  }
  const chosen: CharacterClass[] = [];
  for (const [index, own] of classes.entries()) {
    const parts = shares(own, texts[index + 1] ?? [], length - chosen.length);
    let ticket = randomBelow(sum(parts));
    const number = parts.findIndex((part) => {
      ticket -= part;
      return ticket < 0n;
    });
    for (let count = 0; count < number; count += 1) chosen.push(own);
  }
  return shuffled(chosen)
    .map(({ characters }) => pick(characters))
    .join("");
}

const sum = (numbers: readonly bigint[]): bigint => numbers.reduce((total, each) => total + each, 0n);

function randomBelow(bound: bigint): bigint {
  const bits = bound.toString(2).length;
  const bytes = Math.ceil(bits / 8);
  for (;;) {
    const drawn = BigInt(`0x${randomBytes(bytes).toString("hex")}`) >> BigInt(bytes * 8 - bits);
    if (drawn < bound) return drawn;
  }
}

function shuffled<T>(list: readonly T[]): readonly T[] {
  const left = [...list];
  return list.flatMap(() => left.splice(randomInt(left.length), 1));
}

const pick = (characters: readonly string[]): string => characters[randomInt(characters.length)] ?? "";

/**
 * The parameters that decide a value's form, with defaults filled in: spelling out a default changes nothing. They are
 * part of recipes that are stored: what a spec gives here, it gives for ever, else its value is made anew.
 */
export function generatorParameters(spec: GeneratorSpec): readonly (string | number)[] {
  switch (spec.kind) {
    case "Password":
      return [spec.kind, spec.length ?? DEFAULT_PASSWORD_LENGTH, setOf(spec.exclude ?? ""), ...passwordRule(spec)];
    case "Passphrase":
      return [spec.kind, spec.words ?? DEFAULT_WORDS, spec.separator ?? DEFAULT_SEPARATOR];
    case "Hex":
    case "Base64":
      return [spec.kind, spec.bytes ?? DEFAULT_BYTES];
    case "UUID":
    case "WireGuard":
      return [spec.kind];
    case "RSA":
    case "EC":
    case "Ed25519":
    case "SSH": {
      const key = keySpec(spec);
      return [spec.kind, key.algorithm, ...("size" in key ? [key.size] : [])];
    }
  }
}

/** Empty for the rule that a Password has when none is given: recipes are older than rules. */
function passwordRule({ symbols = CLASSES.symbols, minimum = {} }: GeneratorSpec): readonly (string | number)[] {
  const least = CLASS_NAMES.map((name) => minimum[name] ?? DEFAULT_LEAST);
  return [
    ...(setOf(symbols) === setOf(CLASSES.symbols) ? [] : ["symbols", setOf(symbols)]),
    ...(least.every((number) => number === DEFAULT_LEAST) ? [] : ["minimum", ...least]),
  ];
}

const setOf = (characters: string): string => [...new Set(characters)].sort().join("");
