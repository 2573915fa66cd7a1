/**
 * The place of a value in a Key Vault, and the form that it has there. It is sealed into a version where the value itself
 * would be, so that it can neither be exchanged nor carried over to another secret.
 */
import { isUtf8 } from "node:buffer";
import { Stalled, Unavailable } from "../errors.ts";
import { Sensitive } from "../sensitive.ts";

export interface Place {
  readonly entryName: string;
  /** 32 hex digits. */
  readonly version: string;
  /** How the value stands there: as text, or as base64 of its bytes, which are no text. */
  readonly form: "text" | "base64";
}

/** A value as it goes into the vault. Dispose of `text`, unless it is the value itself. */
export interface VaultText {
  readonly text: Sensitive;
  readonly form: Place["form"];
}

/** Tells people and other programs that read the vault. */
export const BASE64_CONTENT_TYPE = "application/octet-stream;base64";

/** Key Vault keeps values of at most 25 KB. */
export const MOST_BYTES = 25 * 1024;

/**
 * @throws Stalled ValueTooLarge
 */
export function vaultText(key: string, value: Sensitive): VaultText {
  const bytes = value.reveal();
  // Key Vault takes no empty value.
  const form = bytes.length > 0 && isUtf8(bytes) ? "text" : "base64";
  const text = form === "text" ? value : new Sensitive(bytes.toString("base64") || "=");
  if (text.byteLength <= MOST_BYTES) return { text, form };
  if (text !== value) text.dispose();
  const inBase64 = form === "text" ? "" : `, which is no text and has ${text.byteLength} in base64`;
  throw new Stalled(
    "ValueTooLarge",
    `entry ${key}: the value has ${bytes.length} bytes${inBase64}; Key Vault, where this project has its values, accepts ${MOST_BYTES}: make it smaller, or keep it in a project with storage Platform`,
  );
}

/** The opposite, of what the vault has; disposes of it where it is not the value itself. */
export function unpacked(text: Sensitive, form: Place["form"]): Sensitive {
  if (form === "text") return text;
  const value = new Sensitive(Buffer.from(text.revealText(), "base64"));
  text.dispose();
  return value;
}

export const sealedPlace = ({ entryName, version, form }: Place): Sensitive =>
  new Sensitive(JSON.stringify({ entryName, version, form }));

export function placeOf(key: string, sealed: Sensitive): Place {
  try {
    const { entryName, version, form } = JSON.parse(sealed.revealText()) as Partial<Record<keyof Place, unknown>>;
    if (typeof entryName === "string" && typeof version === "string" && (form === "text" || form === "base64")) {
      return { entryName, version, form };
    }
  } catch {
    // Its message would quote what is there.
  }
  throw new Unavailable("TamperDetected", `entry ${key}: what is stored is no place in a Key Vault; see the runbook`);
}
