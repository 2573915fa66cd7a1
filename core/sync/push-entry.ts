/**
 * Brings one entry of a secret into the vault. Order of effects: intent, look, write, outcome. A process that dies
 * between any two of them leaves an open intent; the next run looks at the vault first and finishes. Key Vault cannot
 * refuse a repeated write, so no version is made without a look right before it, and each attempt has its own intent.
 */
import { isUtf8 } from "node:buffer";
import { randomUUID } from "node:crypto";
import { Unavailable } from "../errors.ts";
import { failpoint } from "../failpoints.ts";
import type { Actor, AuditAction, AuditEntry, AuditLog } from "../ports/audit-log.ts";
import { NameTaken, type SyncItem, type SyncStore } from "../ports/sync-store.ts";
import { Ambiguous, type SetResult, type TargetVault, type VaultEntry } from "../ports/target-vault.ts";
import type { Writer } from "../ports/vault-store.ts";
import type { Sensitive } from "../sensitive.ts";
import { stampTag, writtenAt } from "./clock.ts";
import { type EntryPlace, failure, label, type NamedEntry, type SyncFailure } from "./entries.ts";
import { INTENT_TAG, isNotShared, isOfAnotherSecret, isOurs, MAX_TAGS, tagsFor, tagsTooMany } from "./ownership.ts";
import { disabled, notOwned, notOwnedDeleted, type PlannedPush } from "./plan.ts";
import type { Done } from "./run.ts";

export interface PushContext {
  readonly vault: TargetVault;
  readonly store: Pick<SyncStore, "recordIntent" | "recordOutcome">;
  readonly audit: Pick<AuditLog, "append">;
  readonly writer: Writer;
  readonly ruleUid: string;
  readonly actor: Actor;
  /** Id of the installation; part of the tags by which entries are known as ours. */
  readonly installation: string;
  /** An audited read of one value. The engine disposes of what it gets. */
  open(secretId: string, version: number, key: string): Promise<Sensitive>;
  /** Throws `Fenced` when this process may no longer write. Asked before each request to the vault. */
  assertLeading(): void;
  readonly signal: AbortSignal;
  /** Both sides may write the entry, and so may other platforms. */
  readonly shared?: Shared;
}

export interface Shared {
  /** Since when it has the value, see `clock.ts`; absent: since it is written. */
  readonly clock?: number;
  /** What the vault's clock said when it was looked at; absent along with `clock`. */
  readonly asOf?: number;
  /**
   * Keeps what somebody wrote between our look and the version of ours that was written over it; undefined: the one that an
   * open intent may have made, whoever wrote since then.
   */
  keepOvertaken(written: string | undefined): Promise<void>;
}

type Intent = NonNullable<SyncItem["intent"]>;

/** Key Vault keeps values of at most 25 KB. */
const MAX_VALUE_BYTES = 25 * 1024;

/** Recovery and deletion in the vault take some seconds. */
const TRANSITION_MS = 2_000;

const waiting: Done = { kind: "Waiting", afterMs: TRANSITION_MS };

/** Rejects with what concerns the vault, the database or the leadership as a whole. */
export async function pushEntry(planned: PlannedPush, context: PushContext): Promise<Done> {
  try {
    return await new EntryPush(planned, context).run();
  } catch (error) {
    if (!(error instanceof NameTaken)) throw error;
    return nameTaken(planned.entry, error);
  }
}

export interface Seen {
  readonly entry: VaultEntry;
  /** It is what the open intent meant to write: its tag alone may have been copied. */
  readonly landed: boolean;
}

/**
 * The same over what was seen there a moment ago, and decided to be written over, whoever wrote it. What is seen is not
 * disposed of.
 */
export async function pushOver(planned: PlannedPush, seen: Seen | undefined, context: PushContext): Promise<Done> {
  try {
    return await new EntryPush(planned, context).over(seen);
  } catch (error) {
    if (!(error instanceof NameTaken)) throw error;
    return nameTaken(planned.entry, error);
  }
}

export const nameTaken = (entry: EntryPlace, { holder }: NameTaken): Done =>
  failed(
    failure(
      entry,
      "TargetNameCollision",
      `the vault entry ${entry.entryName} is already written for another secret or key (id ${holder.secretId}, key ${holder.key}); add spec.mappings with another name for ${label(entry)}`,
    ),
  );

const failed = (reason: SyncFailure): Done => ({ kind: "Failed", failure: reason });

class EntryPush {
  readonly #entry: NamedEntry;
  readonly #context: PushContext;
  #intent: Intent | undefined;
  #outcome: SyncItem["outcome"];
  /** What is there has the tag of the intent, if at all, from somebody who copied it. */
  #copied = false;

  constructor({ entry, item }: PlannedPush, context: PushContext) {
    this.#entry = entry;
    this.#context = context;
    this.#intent = item?.intent;
    this.#outcome = item?.outcome;
  }

  async run(): Promise<Done> {
    const inherited = this.#intent !== undefined;
    if (!inherited) await this.#recordIntent();
    const state = await this.#look();
    failpoint("sync.afterLook");
    if (state.kind === "Disabled") return failed(disabled(this.#entry));
    if (state.kind === "Absent") {
      // Deleted since then, it may hold what was meant: a new intent would forget by which tag to know that version.
      const recovering = inherited ? await this.#recover() : undefined;
      return recovering ?? this.#write(undefined, inherited);
    }
    try {
      return await this.#overPresent(state.entry, inherited);
    } finally {
      state.entry.value.dispose();
    }
  }

  async over(seen: Seen | undefined): Promise<Done> {
    const inherited = this.#intent !== undefined;
    if (inherited) await this.#context.shared?.keepOvertaken(undefined);
    this.#copied = seen !== undefined && !seen.landed;
    if (!inherited) await this.#recordIntent();
    const recovering = inherited && seen === undefined ? await this.#recover() : undefined;
    return recovering ?? this.#write(seen?.entry, inherited);
  }

  async #overPresent(there: VaultEntry, inherited: boolean): Promise<Done> {
    const { installation } = this.#context;
    if (isOurs(there.tags, installation, this.#entry)) return this.#write(there, inherited);
    if (await this.#isEditedOfOurs()) return this.#write(there, inherited);
    return failed(notOwned(this.#entry, there.tags, installation));
  }

  /**
   * Who sets a value by hand leaves out our tags. The entry is ours all the same when it still has the version that we
   * wrote; an entry that somebody made anew under the name does not.
   */
  async #isEditedOfOurs(): Promise<boolean> {
    const written = this.#outcome?.targetVersion;
    if (written === undefined) return false;
    const state = await this.#look(written);
    if (state.kind !== "Present") return false;
    state.entry.value.dispose();
    return isOurs(state.entry.tags, this.#context.installation, this.#entry);
  }

  /** Makes the vault hold the value, `there` being what it holds now. */
  async #write(there: VaultEntry | undefined, inherited: boolean): Promise<Done> {
    const entry = this.#entry;
    const value = await this.#context.open(entry.secretId, entry.version, entry.key);
    try {
      return await this.#writeValue(value, there, inherited);
    } finally {
      value.dispose();
    }
  }

  async #writeValue(value: Sensitive, there: VaultEntry | undefined, inherited: boolean): Promise<Done> {
    const entry = this.#entry;
    const invalid = whyRefused(entry, value);
    if (invalid !== undefined) return failed(invalid);

    const isLanded = !this.#copied && there?.tags[INTENT_TAG] === this.#intent?.id;
    const landed = isLanded ? there : undefined;
    const ours = there !== undefined && isOurs(there.tags, this.#context.installation, entry);
    if (ours && there.value.reveal().equals(value.reveal())) {
      await this.#recordOutcome(there, entry, landed && this.#written(there.version));
      return { kind: "Confirmed" };
    }
    const surplus = tagsTooMany(there?.tags ?? {}, this.#context.shared !== undefined);
    if (surplus > 0) return failed(tooManyTags(entry, surplus));
    // An earlier attempt made this version of an older value: it belongs into the record before the next attempt.
    if (landed !== undefined) await this.#recordOutcome(landed, this.#currentIntent(), this.#written(landed.version));
    if (inherited) await this.#recordIntent();
    return this.#set(value, there);
  }

  async #set(value: Sensitive, there: VaultEntry | undefined): Promise<Done> {
    const { vault, installation, signal } = this.#context;
    const { id } = this.#currentIntent();
    const tags = tagsFor(there?.tags ?? {}, installation, this.#entry, { intentId: id, shared: this.#sharedTag() });
    const contentType = there?.contentType;
    let result: SetResult;
    failpoint("sync.beforeSet");
    this.#context.assertLeading();
    try {
      result = await vault.set(
        { name: this.#entry.entryName, value, tags, ...(contentType !== undefined && { contentType }) },
        signal,
      );
    } catch (error) {
      if (!(error instanceof Ambiguous)) throw error;
      return this.#settle(error, id);
    }
    failpoint("sync.afterSet");
    if (result.kind === "InTransition") return waiting;
    if (result.kind === "SoftDeleted") return (await this.#recover()) ?? waiting;
    // Before the intent ends: who comes after a crash looks for it again.
    await this.#context.shared?.keepOvertaken(result.version);
    await this.#recordOutcome(result, this.#entry, this.#written(result.version));
    return { kind: "Written" };
  }

  /**
   * Looks whether a write without a clear answer was carried out. If it is not there it may still be under way, so it
   * is not repeated now: the next run looks again.
   */
  async #settle(ambiguous: Ambiguous, intentId: string): Promise<Done> {
    const state = await this.#look();
    if (state.kind === "Present") {
      state.entry.value.dispose();
      if (state.entry.tags[INTENT_TAG] === intentId) {
        await this.#context.shared?.keepOvertaken(state.entry.version);
        await this.#recordOutcome(state.entry, this.#entry, this.#written(state.entry.version));
        return { kind: "Written" };
      }
    }
    throw new Unavailable(
      "VaultUnreachable",
      `${ambiguous.message}; it was not there when looked at, and is tried again`,
    );
  }

  /** Undefined when there is nothing to recover. */
  async #recover(): Promise<Done | undefined> {
    const { vault, audit, installation, signal } = this.#context;
    this.#context.assertLeading();
    const deleted = await vault.getDeleted(this.#entry.entryName, signal);
    if (deleted === undefined) return undefined;
    // One that both sides agreed on comes back as it was, and is then compared like any other.
    const agreed =
      this.#context.shared !== undefined &&
      this.#outcome !== undefined &&
      !isOfAnotherSecret(deleted.tags, installation, this.#entry) &&
      !isNotShared(deleted.tags, installation);
    if (!agreed && !isOurs(deleted.tags, installation, this.#entry)) {
      return failed(notOwnedDeleted(this.#entry, deleted.tags, installation));
    }
    // Before the effect: a recovery that nobody recorded must not happen, one that failed may stand in the record.
    await audit.append([this.#auditEntry("VaultEntryRecovered", {})]);
    this.#context.assertLeading();
    await vault.recover(this.#entry.entryName, signal);
    failpoint("sync.afterRecover");
    return waiting;
  }

  async #look(version?: string) {
    const { vault, signal } = this.#context;
    this.#context.assertLeading();
    return vault.get(this.#entry.entryName, signal, version);
  }

  async #recordIntent(): Promise<void> {
    const { version, fingerprint } = this.#entry;
    this.#intent = { id: randomUUID(), version, fingerprint, at: new Date() };
    await this.#context.store.recordIntent(this.#context.writer, this.#remember({ intent: this.#intent }));
    failpoint("sync.afterIntent");
  }

  async #recordOutcome(
    there: { readonly version: string; readonly updatedOn: Date },
    { version, fingerprint }: Pick<NamedEntry, "version" | "fingerprint">,
    audit: AuditEntry | undefined,
  ): Promise<void> {
    const outcome = {
      version,
      fingerprint,
      targetVersion: there.version,
      targetUpdatedOn: there.updatedOn,
      settled: false,
      ...this.#clock(there),
    };
    const { store, writer } = this.#context;
    await store.recordOutcome(writer, this.#remember({ outcome }), audit === undefined ? [] : [audit]);
    this.#outcome = outcome;
    failpoint("sync.afterOutcome");
  }

  #sharedTag(): string | undefined {
    const { shared } = this.#context;
    if (shared === undefined) return undefined;
    return shared.clock === undefined || shared.asOf === undefined ? "true" : stampTag(shared.clock, shared.asOf);
  }

  #clock({ updatedOn }: { readonly updatedOn: Date }): { readonly clock?: number } {
    const { shared } = this.#context;
    return shared === undefined ? {} : { clock: shared.clock ?? writtenAt(updatedOn) };
  }

  #remember(part: Pick<SyncItem, "intent" | "outcome">): SyncItem {
    const { secretId, key, entryName } = this.#entry;
    const { vault, ruleUid } = this.#context;
    const known = this.#outcome && { outcome: this.#outcome };
    return { secretId, key, vaultUrl: vault.url, entryName, ruleUid, ...known, ...part };
  }

  #currentIntent(): Intent {
    if (this.#intent === undefined) throw new Error("a vault entry is never written without an intent");
    return this.#intent;
  }

  #written(targetVersion: string): AuditEntry {
    const { id, version } = this.#currentIntent();
    return this.#auditEntry("VaultEntryWritten", { targetVersion, version, intent: id });
  }

  #auditEntry(action: AuditAction, details: AuditEntry["details"]): AuditEntry {
    const { secretId, secretName, key, entryName } = this.#entry;
    const { actor, vault, ruleUid } = this.#context;
    return {
      action,
      actor,
      subject: { kind: "VaultEntry", id: secretId, name: `${vault.url}secrets/${entryName}` },
      outcome: "Success",
      details: { secret: secretName, key, rule: ruleUid, ...details },
    };
  }
}

function whyRefused(entry: NamedEntry, value: Sensitive): SyncFailure | undefined {
  const bytes = value.reveal();
  if (bytes.length > MAX_VALUE_BYTES) {
    const message = `the value of ${label(entry)} has ${bytes.length} bytes; Key Vault accepts ${MAX_VALUE_BYTES}: make it smaller, or leave it out of the rule with spec.secrets`;
    return failure(entry, "ValueTooLarge", message);
  }
  if (!isUtf8(bytes)) {
    const message = `the value of ${label(entry)} is not UTF-8 text, which Key Vault needs; store it in base64, or leave it out of the rule with spec.secrets`;
    return failure(entry, "ValueInvalid", message);
  }
  return undefined;
}

function tooManyTags(entry: NamedEntry, surplus: number): SyncFailure {
  const message = `the vault entry ${entry.entryName} has tags of others that leave no room for ours (Key Vault accepts ${MAX_TAGS}); remove ${surplus} of them`;
  return failure(entry, "Failed", message);
}
