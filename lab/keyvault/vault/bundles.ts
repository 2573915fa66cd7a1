import type { VaultConfiguration } from "../config.ts";
import { type DeletedSecret, type SecretAt, seconds } from "./vault.ts";

/** Renders secrets as the REST reference shows them: SecretBundle, SecretItem and their deleted forms. */
export class Bundles {
  readonly #base: string;
  readonly #recovery: { readonly recoveryLevel: string; readonly recoverableDays: number };

  constructor(vault: VaultConfiguration) {
    this.#base = `https://${vault.name.toLowerCase()}.vault.azure.net`;
    // "DeletionRecoveryLevel": the level says "Customized" when the retention is below 90 days.
    const level = vault.softDeleteRetentionDays < 90 ? "CustomizedRecoverable" : "Recoverable";
    this.#recovery = {
      recoveryLevel: vault.purgeProtection ? level : `${level}+Purgeable`,
      recoverableDays: vault.softDeleteRetentionDays,
    };
  }

  /** With the value: only get and set show it. */
  secret(at: SecretAt): object {
    return { value: at.version.value, ...this.properties(at) };
  }

  properties(at: SecretAt): object {
    return this.#describe(at, `${this.#base}/secrets/${at.name}/${at.version.version}`);
  }

  /** A list item: its id names the secret without a version. */
  item(at: SecretAt): object {
    return this.#describe(at, `${this.#base}/secrets/${at.name}`);
  }

  deleted(at: DeletedSecret): object {
    return { ...this.#deletion(at), ...this.properties(at) };
  }

  deletedItem(at: DeletedSecret): object {
    return { ...this.#deletion(at), ...this.item(at) };
  }

  /** The page after this one; the port stands in it as the service writes it. */
  nextLink(path: string, apiVersion: string, skipToken: string, pageSize: number): string {
    return `${this.#base}:443${path}?api-version=${apiVersion}&$skiptoken=${skipToken}&maxresults=${pageSize}`;
  }

  #deletion(at: DeletedSecret): object {
    return {
      recoveryId: `${this.#base}/deletedsecrets/${at.name}`,
      deletedDate: seconds(at.deletedAt),
      scheduledPurgeDate: seconds(at.purgeAt),
    };
  }

  #describe({ version }: SecretAt, id: string): object {
    const { contentType, tags, enabled, nbf, exp, created, updated, managed } = version;
    return {
      ...(contentType === undefined ? {} : { contentType }),
      id,
      attributes: {
        enabled,
        ...(nbf === undefined ? {} : { nbf }),
        ...(exp === undefined ? {} : { exp }),
        created,
        updated,
        ...this.#recovery,
      },
      ...(tags === undefined ? {} : { tags }),
      ...(managed === undefined ? {} : { managed }),
    };
  }
}
