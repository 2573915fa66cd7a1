import { createCipheriv, createDecipheriv, hkdfSync, type KeyObject, randomBytes } from "node:crypto";
import { badParameter } from "../errors.ts";
import type { SecretVersion } from "./state.ts";

const IV_BYTES = 12;
const TAG_BYTES = 16;

export interface Backup {
  readonly name: string;
  readonly versions: readonly SecretVersion[];
}

/** Backups are blobs that only the service can read; see "Azure Key Vault backup and restore". */
export class BackupCipher {
  readonly #key: Uint8Array;

  constructor(secret: KeyObject) {
    const material = secret.export({ type: "pkcs8", format: "der" });
    this.#key = new Uint8Array(hkdfSync("sha256", material, "", "secret backup", 32));
  }

  /** @returns base64url */
  seal(backup: Backup): string {
    const iv = randomBytes(IV_BYTES);
    const cipher = createCipheriv("aes-256-gcm", this.#key, iv);
    const text = Buffer.concat([cipher.update(JSON.stringify(backup)), cipher.final()]);
    return Buffer.concat([iv, cipher.getAuthTag(), text]).toString("base64url");
  }

  /** @throws KeyVaultError BadParameter for a blob that this service did not make */
  open(blob: string): Backup {
    const bytes = Buffer.from(blob, "base64url");
    try {
      const decipher = createDecipheriv("aes-256-gcm", this.#key, bytes.subarray(0, IV_BYTES));
      decipher.setAuthTag(bytes.subarray(IV_BYTES, IV_BYTES + TAG_BYTES));
      const text = Buffer.concat([decipher.update(bytes.subarray(IV_BYTES + TAG_BYTES)), decipher.final()]);
      return JSON.parse(text.toString("utf8")) as Backup;
    } catch {
      throw badParameter("Backup blob is invalid or corrupted.");
    }
  }
}
