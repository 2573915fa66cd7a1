/**
 * By what a gateway and its primary know a core Secret again that one of them cannot see and the other did not make: keyed digests
 * (HMAC-SHA-256, hex). The primary has the key anew for each task and tells it to the gateway, which keeps none.
 */
import { createHmac } from "node:crypto";
import { encodeFields, type Field } from "../canonical.ts";
import type { Sensitive } from "../sensitive.ts";

/** 32 bytes in hex. */
export type CopyKey = string;

/** Of one core Secret; nobody without the project's keys can tell it from chance, and it tells nothing of another one. */
export const copyKey = (
  project: { digest(purpose: string, fields: readonly string[]): string },
  { namespace, secretName }: { readonly namespace: string; readonly secretName: string },
): CopyKey => project.digest("gateway-copy", [namespace, secretName]);

export class CopyDigests {
  readonly #key: Buffer;

  constructor(key: CopyKey) {
    this.#key = Buffer.from(key, "hex");
  }

  fingerprint(key: string, value: Sensitive): string {
    return this.#digest("copy-fingerprint", [key, value.reveal()]);
  }

  digest(purpose: string, fields: readonly string[]): string {
    return this.#digest(`copy-${purpose}`, fields);
  }

  #digest(purpose: string, fields: readonly Field[]): string {
    return createHmac("sha256", this.#key)
      .update(encodeFields(`mazevault ${purpose}`, fields))
      .digest("hex");
  }
}
