import { secretDisabled } from "../errors.ts";
import type { Reply } from "../exchange.ts";
import type { BackupCipher } from "./backup.ts";
import { Bundles } from "./bundles.ts";
import type { Page, Pager } from "./paging.ts";
import { pageSize, parseRestore, parseSet, parseUpdate, type SecretRequest } from "./requests.ts";
import type { DeletedSecret, SecretAt, Vault } from "./vault.ts";

/** An operation's result, and whether it showed a secret's value or changed the vault. */
export interface Outcome {
  readonly reply: Reply;
  readonly effect: "value" | "write" | "none";
  /** That was set or shown. */
  readonly version?: string;
}

/** The secrets operations of one vault, see "Key Vault REST API: Secrets". */
export class SecretsApi {
  readonly #vault: Vault;
  readonly #bundles: Bundles;
  readonly #pager: Pager;
  readonly #backups: BackupCipher;

  constructor(vault: Vault, pager: Pager, backups: BackupCipher) {
    this.#vault = vault;
    this.#bundles = new Bundles(vault.configuration);
    this.#pager = pager;
    this.#backups = backups;
  }

  /** @throws KeyVaultError */
  async perform({ operation, name, version }: SecretRequest, query: URLSearchParams, body: string): Promise<Outcome> {
    const vault = this.#vault;
    const bundles = this.#bundles;
    switch (operation) {
      case "SecretSet": {
        const { value, properties } = parseSet(body);
        const at = await vault.set(name, value, properties);
        return { ...write(bundles.secret(at)), version: at.version.version };
      }
      case "SecretGet": {
        const at = enabled(vault.get(name, version));
        return { reply: { status: 200, body: bundles.secret(at) }, effect: "value", version: at.version.version };
      }
      case "SecretUpdate":
        return write(bundles.properties(await vault.update(name, version, parseUpdate(body))));
      case "SecretDelete":
        return write(bundles.deleted(await vault.delete(name)));
      case "SecretGetDeleted":
        return read(bundles.deleted(enabled(vault.getDeleted(name))));
      case "SecretRecover":
        return write(bundles.properties(await vault.recover(name)));
      case "SecretPurge":
        await vault.purge(name);
        return { reply: { status: 204 }, effect: "write" };
      case "SecretBackup":
        return read({ value: this.#backups.seal(vault.backup(name)) });
      case "SecretRestore": {
        const { name: restored, versions } = this.#backups.open(parseRestore(body));
        return write(bundles.properties(await vault.restore(restored, versions)));
      }
      case "SecretList": {
        const page = this.#page(query, (after) => vault.list(after), byName);
        return this.#list("/secrets", query, page, (at) => bundles.item(at));
      }
      case "SecretListVersions": {
        const page = this.#page(query, (after) => vault.listVersions(name, after), byVersion);
        return this.#list(`/secrets/${name}/versions`, query, page, (at) => bundles.properties(at));
      }
      case "SecretListDeleted": {
        const page = this.#page(query, (after) => vault.listDeleted(after), byName);
        return this.#list("/deletedsecrets", query, page, (at: DeletedSecret) => bundles.deletedItem(at));
      }
    }
  }

  #page<Item>(
    query: URLSearchParams,
    list: (after: string) => Iterable<Item>,
    key: (item: Item) => string,
  ): Page<Item> {
    return this.#pager.page(list, key, pageSize(query), query.get("$skiptoken"));
  }

  #list<Item>(path: string, query: URLSearchParams, page: Page<Item>, render: (item: Item) => object): Outcome {
    const nextLink =
      page.skipToken === undefined
        ? null
        : this.#bundles.nextLink(path, query.get("api-version") ?? "", page.skipToken, pageSize(query));
    return read({ value: page.items.map(render), nextLink });
  }
}

const byName = (at: SecretAt) => at.name;
const byVersion = (at: SecretAt) => at.version.version;
const read = (body: object): Outcome => ({ reply: { status: 200, body }, effect: "none" });
const write = (body: object): Outcome => ({ reply: { status: 200, body }, effect: "write" });

/** Neither a disabled secret nor a deleted one that was disabled can be read. */
function enabled<At extends SecretAt>(at: At): At {
  if (!at.version.enabled) {
    throw secretDisabled();
  }
  return at;
}
