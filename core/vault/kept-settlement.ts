/**
 * What is left to be done in Key Vaults that have the only copy of values: entries of secrets that were deleted, recovered or
 * purged, and writes that never came to their commit. The state of the secret is committed first, so all of it can be done
 * later and again, by whoever leads; a vault that cannot be reached holds up nothing but its own entries.
 */
import { randomUUID } from "node:crypto";
import { Fenced, Stalled, Waiting } from "../errors.ts";
import { failpoint } from "../failpoints.ts";
import type { Actor, AuditAction, AuditLog } from "../ports/audit-log.ts";
import type { KeptEntries, KeptEntry } from "../ports/kept-entries.ts";
import type { TargetVault, VaultEntry } from "../ports/target-vault.ts";
import type { SecretIdentity, SecretRecord, Writer } from "../ports/vault-store.ts";
import { INSTALLATION_TAG, isOurs, OWNER_TAG, ownerOf, SECRET_TAG } from "../sync/ownership.ts";
import { type EntryContext, KeptEntryWrite, recovering, vaultEntryAudit } from "./kept-entry-write.ts";
import { LEASE_MS } from "./key-vault-storage.ts";
import { vaultText } from "./place.ts";
import type { Vault } from "./vault.ts";

export interface KeptSettlementParts {
  readonly entries: KeptEntries;
  readonly vault: Pick<Vault, "describe" | "open">;
  readonly audit: Pick<AuditLog, "append" | "read">;
  readonly installation: string;
  readonly assertLeading: () => void;
  /** The vault that has the values of such a secret. */
  readonly open: (identity: SecretIdentity, vaultUrl: string) => Promise<TargetVault>;
  readonly now?: () => number;
}

export interface Settled {
  /** How many are as wanted now. */
  readonly settled: number;
  /** Of each vault the last one; what failed is on record as before. */
  readonly failures: readonly unknown[];
}

const ACTOR: Actor = { kind: "Controller", name: "housekeeping" };
const ENTRY_MS = 40_000;
/** How long a vault that failed is left alone, and twice as long each time that it fails again. */
const PAUSE_MS = 4_000;
const LONGEST_PAUSE_MS = 60_000;

interface Pause {
  readonly ms: number;
  readonly until: number;
}

export class KeptSettlement {
  readonly #parts: KeptSettlementParts;
  readonly #pauses = new Map<string, Pause>();
  /** What was told before an effect that is not there yet. */
  readonly #told = new Set<string>();

  constructor(parts: KeptSettlementParts) {
    this.#parts = parts;
  }

  async settle(writer: Writer, limit: number): Promise<Settled> {
    const now = this.#parts.now ?? Date.now;
    const failures = new Map<string, unknown>();
    const paused = [...this.#pauses].filter(([, { until }]) => until > now()).map(([url]) => url);
    let settled = 0;
    for (const entry of await this.#parts.entries.unsettled(writer, limit, paused)) {
      const { vaultUrl } = entry;
      if ((this.#pauses.get(vaultUrl)?.until ?? 0) > now()) continue;
      try {
        if (await this.#settleOne(writer, entry)) settled += 1;
        this.#pauses.delete(vaultUrl);
      } catch (error) {
        if (error instanceof Fenced) throw error;
        failures.set(vaultUrl, error);
        // What a person or time has to change is of this entry; all else is likely of the whole vault.
        if (error instanceof Stalled || error instanceof Waiting) continue;
        const ms = Math.min(LONGEST_PAUSE_MS, (this.#pauses.get(vaultUrl)?.ms ?? PAUSE_MS / 2) * 2);
        this.#pauses.set(vaultUrl, { ms, until: now() + ms });
      }
    }
    return { settled, failures: [...failures.values()] };
  }

  async #settleOne(writer: Writer, entry: KeptEntry): Promise<boolean> {
    const { entries, open, audit, installation, assertLeading } = this.#parts;
    const takeId = randomUUID();
    if (!(await entries.take(writer, entry, takeId, LEASE_MS))) return false;
    let settled = false;
    let work: EntryWork | undefined;
    try {
      const vault = await open(entry.identity, entry.vaultUrl);
      const signal = AbortSignal.timeout(ENTRY_MS);
      work = new EntryWork(
        { vault, audit, installation, actor: ACTOR, assertLeading, signal },
        this.#parts,
        entry,
        takeId,
        this.#told,
      );
      const done = await work.run();
      failpoint("storage.beforeSettled");
      if (done === undefined) return false;
      await entries.settled(writer, { ...entry, wanted: done }, takeId);
      settled = true;
      for (const action of ["VaultEntryDeleted", "VaultEntryPurged"] as const)
        this.#told.delete(tellingOf(entry, action));
      return true;
    } finally {
      if (!settled && work?.underWay !== true) await entries.release(takeId, true).catch(() => undefined);
    }
  }
}

type Wanted = KeptEntry["wanted"];

const tellingOf = ({ vaultUrl, entryName, secretId }: KeptEntry, action: AuditAction): string =>
  JSON.stringify([vaultUrl, entryName, secretId, action]);

/** One entry; `run` returns what it is now, or undefined while the vault is still at it. */
class EntryWork {
  readonly #context: EntryContext;
  readonly #platform: Pick<Vault, "describe" | "open">;
  readonly #entry: KeptEntry;
  readonly #takeId: string;
  readonly #record: Pick<AuditLog, "read">;
  readonly #owner: string;
  readonly #told: Set<string>;
  #write: KeptEntryWrite | undefined;
  /** Of the secret that is stored now under the identity, where that is another one. */
  #storedId: string | undefined;

  constructor(
    context: EntryContext,
    parts: Pick<KeptSettlementParts, "vault" | "audit">,
    entry: KeptEntry,
    takeId: string,
    told: Set<string>,
  ) {
    this.#told = told;
    this.#context = context;
    this.#platform = parts.vault;
    this.#record = parts.audit;
    this.#entry = entry;
    this.#takeId = takeId;
    this.#owner = ownerOf(entry.identity);
  }

  /** See `KeptEntryWrite`. */
  get underWay(): boolean {
    return this.#write?.underWay === true;
  }

  async run(): Promise<Wanted | undefined> {
    const { identity, wanted } = this.#entry;
    const record = await this.#platform.describe(identity);
    const means = await this.#means(record);
    // What is deleted there is decided by the record, which is authenticated; the row only says where to look.
    if (means === "Purged" ? wanted === "Deleted" : means !== wanted) return undefined;
    if (means === "Purged") return (await this.#purge()) ? means : undefined;
    if (means === "Deleted") {
      return (await this.#delete()) === "InTransition" ? undefined : means;
    }
    return (await this.#keep(record)) ? means : undefined;
  }

  /** Undefined: it cannot be told why the secret is not there. */
  async #means(record: SecretRecord | undefined): Promise<Wanted | undefined> {
    const { secretId: id, key, vaultUrl } = this.#entry;
    if (record?.id === id) return record.state === "SoftDeleted" ? "Deleted" : "Kept";
    // One before it had the entry, or was to have it; what the one that is stored has itself is never ended.
    if (record?.vaultUrl === vaultUrl && record.entries.some((each) => each.key === key)) return undefined;
    this.#storedId = record?.id;
    const has = async (action: AuditAction): Promise<boolean> =>
      (await this.#record.read({ action, subject: { id } }, undefined, 1)).length > 0;
    // What was written for a first version that never came to be was never acknowledged, and nobody knows it.
    return (await has("SecretPurged")) || !(await has("SecretVersionCreated")) ? "Purged" : undefined;
  }

  async #keep(record: SecretRecord | undefined): Promise<boolean> {
    this.#told.delete(tellingOf(this.#entry, "VaultEntryDeleted"));
    const { vault, signal } = this.#context;
    const { entryName, writeId } = this.#entry;
    const state = await vault.get(entryName, signal);
    if (state.kind === "Absent") return !(await this.#recover());
    if (state.kind === "Disabled") return true;
    try {
      if (writeId !== undefined && this.#isOurs(state.entry)) await this.#restore(record, state.entry);
      return true;
    } finally {
      state.entry.value.dispose();
    }
  }

  /** Makes the vault show as current what the platform has as current. */
  async #restore(record: SecretRecord | undefined, there: VaultEntry): Promise<void> {
    const { key, entryName, secretId } = this.#entry;
    if (record?.state !== "Active" || !record.entries.some((each) => each.key === key)) return;
    const purpose = "restore in Key Vault what a write left";
    const { values } = await this.#platform.open(record, { keys: [key], actor: ACTOR, purpose });
    const value = values.get(key);
    if (value === undefined) return;
    try {
      const { text } = vaultText(key, value);
      const same = text.reveal().equals(there.value.reveal());
      if (text !== value) text.dispose();
      if (same) return;
      const secret = this.#secret;
      const write = new KeptEntryWrite(this.#context, { id: this.#takeId, secretId, secret, owner: this.#owner });
      this.#write = write;
      await write.set({ key, entryName, value }, undefined);
      await this.#context.audit.append(write.audit);
    } finally {
      value.dispose();
    }
  }

  /** Whether it was begun. */
  async #recover(): Promise<boolean> {
    const { vault, signal } = this.#context;
    const { entryName } = this.#entry;
    const deleted = await vault.getDeleted(entryName, signal);
    if (deleted === undefined || !this.#isOurs(deleted)) return false;
    await recovering(this.#context, { ...this.#entry, owner: this.#owner, secret: this.#secret }, entryName);
    return true;
  }

  /** What it found there. */
  async #delete(): Promise<"Begun" | "InTransition" | "Absent" | "NotOurs"> {
    const { vault, signal, assertLeading } = this.#context;
    const { entryName } = this.#entry;
    const state = await vault.get(entryName, signal);
    if (state.kind === "Absent") return "Absent";
    if (state.kind === "Disabled") {
      throw new Stalled(
        "TargetDisabled",
        `the entry ${entryName} of Key Vault ${vault.url} was disabled by somebody, so it cannot be seen whose it is; enable or delete it`,
      );
    }
    state.entry.value.dispose();
    if (!(this.#isOurs(state.entry) || (await this.#isEditedOfOurs(state.entry)))) return "NotOurs";
    await this.#tell("VaultEntryDeleted");
    assertLeading();
    const { kind } = await vault.delete(entryName, signal);
    failpoint("storage.afterDelete");
    return kind === "InTransition" ? kind : "Begun";
  }

  /** Whether nothing of it is left that we could end. */
  async #purge(): Promise<boolean> {
    const { vault, signal, assertLeading } = this.#context;
    const { entryName } = this.#entry;
    const found = await this.#delete();
    if (found === "NotOurs") return true;
    const deleted = await vault.getDeleted(entryName, signal);
    // What was just deleted is there in some seconds.
    if (deleted === undefined) return found === "Absent";
    // Of what was deleted before, and had been edited by hand, no more can be seen: the vault's own time ends it.
    if (found === "Absent" && !this.#isOurs(deleted)) return true;
    await this.#tell("VaultEntryPurged");
    assertLeading();
    const result = await vault.purge(entryName, signal);
    failpoint("storage.afterPurge");
    return result !== "InTransition";
  }

  /** See `KeptEntryWrite`: who sets a value by hand leaves out our tags, and the version that we wrote has them. */
  async #isEditedOfOurs({ tags }: Pick<VaultEntry, "tags">): Promise<boolean> {
    const { entryName, targetVersion } = this.#entry;
    if (targetVersion === undefined || tags[INSTALLATION_TAG] !== undefined) return false;
    const state = await this.#context.vault.get(entryName, this.#context.signal, targetVersion);
    if (state.kind !== "Present") return false;
    state.entry.value.dispose();
    return this.#isOurs(state.entry);
  }

  get #secret(): string {
    return `${this.#entry.identity.namespace}/${this.#entry.identity.name}`;
  }

  /**
   * Of this very secret: by the identity that the record was looked up by, not by the id that the row says; and not of the
   * one that is stored now, whose older versions may have keys that its current one lacks.
   */
  #isOurs({ tags }: { readonly tags: Readonly<Record<string, string>> }): boolean {
    const { installation } = this.#context;
    if (this.#storedId !== undefined && tags[SECRET_TAG] === this.#storedId) return false;
    return tags[OWNER_TAG] === this.#owner && isOurs(tags, installation, { ...this.#entry, owner: this.#owner });
  }

  /**
   * Before the effect: what failed may stand in the record, what nobody recorded must not happen. Once for all attempts of
   * this process.
   */
  async #tell(action: "VaultEntryDeleted" | "VaultEntryPurged"): Promise<void> {
    const telling = tellingOf(this.#entry, action);
    if (this.#told.has(telling)) return;
    const entry = { ...this.#entry, secret: this.#secret };
    await this.#context.audit.append([vaultEntryAudit(this.#context, action, entry, this.#entry.entryName, {})]);
    this.#told.add(telling);
  }
}
