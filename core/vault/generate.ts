import { randomBytes, randomInt, randomUUID } from "node:crypto";
import type { GeneratorSpec } from "../../crds/secret.ts";
import { Stalled } from "../errors.ts";
import { Sensitive } from "../sensitive.ts";

/** Symbols that need no quoting in shells, URLs, YAML and connection strings more often than they do. */
const CLASSES = [
  "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
  "abcdefghijklmnopqrstuvwxyz",
  "0123456789",
  "!#$%&()*+,-./:;<=>?@[]^_{|}~",
] as const;

const DEFAULT_PASSWORD_LENGTH = 32;
const DEFAULT_BYTES = 32;
/** Below 16 characters to choose from, 8 positions have fewer than 32 bits. */
const FEWEST_CHARACTERS = 16;

/** A fresh value. `entry` is named in `Stalled("ValueInvalid")` when the parameters allow none. */
export function generate(entry: string, spec: GeneratorSpec): Sensitive {
  switch (spec.kind) {
    case "Password":
      return text(password(entry, spec.length ?? DEFAULT_PASSWORD_LENGTH, spec.exclude ?? ""));
    case "Hex":
      return text(randomBytes(spec.bytes ?? DEFAULT_BYTES).toString("hex"));
    case "Base64":
      return text(randomBytes(spec.bytes ?? DEFAULT_BYTES).toString("base64"));
    case "UUID":
      return text(randomUUID());
  }
}

const text = (value: string) => new Sensitive(Buffer.from(value, "utf8"));

/**
 * Letters, digits and symbols, at least one of each class that `exclude` leaves. Drawn uniformly and drawn again until
 * every class is there, so that all passwords which fulfil the rule are equally likely (`randomInt` has no modulo bias).
 */
function password(entry: string, length: number, exclude: string): string {
  const classes = CLASSES.map((characters) => [...characters].filter((c) => !exclude.includes(c))).filter(
    (characters) => characters.length > 0,
  );
  const alphabet = classes.flat();
  if (alphabet.length < FEWEST_CHARACTERS) {
    throw new Stalled(
      "ValueInvalid",
      `entry ${entry}: generate.exclude leaves ${alphabet.length} characters to choose from, at least ${FEWEST_CHARACTERS} are needed`,
    );
  }
  for (;;) {
    const drawn = Array.from({ length }, () => alphabet[randomInt(alphabet.length)]);
    if (classes.every((characters) => drawn.some((c) => c !== undefined && characters.includes(c)))) {
      return drawn.join("");
    }
  }
}

/** The parameters that decide a value's form, with defaults filled in: spelling out a default changes nothing. */
export function generatorParameters(spec: GeneratorSpec): readonly (string | number)[] {
  switch (spec.kind) {
    case "Password":
      return [spec.kind, spec.length ?? DEFAULT_PASSWORD_LENGTH, [...new Set(spec.exclude ?? "")].sort().join("")];
    case "Hex":
    case "Base64":
      return [spec.kind, spec.bytes ?? DEFAULT_BYTES];
    case "UUID":
      return [spec.kind];
  }
}
