import type { KeyObject } from "node:crypto";

/** What a keystore holds: a key with its certificates, certificates trusted by themselves, or both. */
export interface KeyStoreContents {
  /** `chain`: DER certificates, the key's own first. */
  readonly key?: { readonly alias: string; readonly privateKey: KeyObject; readonly chain: readonly Buffer[] };
  /** DER certificates that Java takes as trust anchors. */
  readonly trusted?: readonly { readonly alias: string; readonly certificate: Buffer }[];
}

/** The keystore cannot be written as asked; the message is for whoever asked and holds no value. */
export class KeyStoreError extends Error {
  constructor(message: string) {
    super(message);
    this.name = "KeyStoreError";
  }
}
