import { createSecretKey, randomBytes } from "node:crypto";
import type { RootKey } from "../../../core/ports/key-store.ts";
import { Vault } from "../../../core/vault/vault.ts";
import { LocalRootKey } from "../../rootkey/local-root-key.ts";
import type { DatabaseOptions } from "../database.ts";
import { openStores, type Stores } from "../stores.ts";

/** The stores and the vault on them, as the operator has them. */
export interface TestInstallation {
  readonly database: DatabaseOptions;
  readonly root: RootKey;
  readonly stores: Stores;
  readonly vault: Vault;
}

export async function openInstallation(
  database: DatabaseOptions,
  root: RootKey = new LocalRootKey("test", createSecretKey(randomBytes(32))),
): Promise<TestInstallation> {
  const stores = await openStores(database, root);
  const vault = new Vault({ store: stores.vault, keys: stores.keys, audit: stores.audit });
  return { database, root, stores, vault };
}
