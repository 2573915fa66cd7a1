/** Brings single values into entries that have the only copy of them. No version is made without a look right before it. */
import type { Reason } from "../../crds/conditions.ts";
import { Unavailable, Waiting } from "../errors.ts";
import { failpoint } from "../failpoints.ts";
import type { Actor, AuditAction, AuditEntry, AuditLog } from "../ports/audit-log.ts";
import { Ambiguous, type SetResult, type TargetVault, type VaultEntry } from "../ports/target-vault.ts";
import type { Sensitive } from "../sensitive.ts";
import { describeOwner, INTENT_TAG, isOurs, MAX_TAGS, mayBeOurs, tagsFor, tagsTooMany } from "../sync/ownership.ts";
import { BASE64_CONTENT_TYPE, type Place, vaultText } from "./place.ts";

export interface EntryContext {
  readonly vault: TargetVault;
  readonly audit: Pick<AuditLog, "append">;
  readonly installation: string;
  readonly actor: Actor;
  readonly assertLeading: () => void;
  readonly signal: AbortSignal;
}

export interface WriteSource {
  /** Of the write; a tag of every version that it makes. */
  readonly id: string;
  readonly secretId: string;
  /** Namespace and name, for messages. */
  readonly secret: string;
  readonly owner: string;
}

/** What the entry has now, and where the value before is. */
interface Around {
  readonly there: VaultEntry | undefined;
  readonly last: Place | undefined;
}

export interface EntryValue {
  readonly key: string;
  readonly entryName: string;
  readonly value: Sensitive;
}

/** Deletion and recovery in the vault take some seconds. */
const TRANSITION_MS = 2_000;

/** What a person has to change in the vault, of which nobody tells. */
const CHANGE_RECHECK_MS = 30_000;

export const changedThere = (reason: Reason, message: string): Waiting =>
  new Waiting(reason, message, CHANGE_RECHECK_MS);

export class KeptEntryWrite {
  readonly #context: EntryContext;
  readonly #source: WriteSource;
  readonly #audit: AuditEntry[] = [];
  #touched = false;
  #underWay = false;

  constructor(context: EntryContext, source: WriteSource) {
    this.#context = context;
    this.#source = source;
  }

  /** The vault may have been changed. */
  get touched(): boolean {
    return this.#touched;
  }

  /** The vault may still be about to change: nobody else may write before the time of this write is over. */
  get underWay(): boolean {
    return this.#underWay;
  }

  /** What was written. */
  get audit(): readonly AuditEntry[] {
    return this.#audit;
  }

  /** Makes the vault show this value as current. `last`: where the value before is. */
  async set(entry: EntryValue, last: Place | undefined): Promise<Place> {
    const { vault, signal, assertLeading } = this.#context;
    assertLeading();
    const state = await vault.get(entry.entryName, signal);
    failpoint("storage.afterLook");
    if (state.kind === "Disabled") {
      throw changedThere("TargetDisabled", `${this.#label(entry)} was disabled by somebody; enable or delete it`);
    }
    const there = state.kind === "Present" ? state.entry : undefined;
    try {
      return await this.#setOver(entry, there, last);
    } finally {
      there?.value.dispose();
    }
  }

  async #setOver(entry: EntryValue, there: VaultEntry | undefined, last: Place | undefined): Promise<Place> {
    const { installation } = this.#context;
    const { entryName } = entry;
    const source = { ...this.#source, key: entry.key };
    const ours = there !== undefined && isOurs(there.tags, installation, source);
    if (there !== undefined && !ours && !(await this.#isEditedOfOurs(entry, last))) {
      throw changedThere(
        "TargetNotOwned",
        `${this.#label(entry)} ${describeOwner(there.tags, installation)}; it is left as it is: delete or rename it there, or give this Secret or its key another name`,
      );
    }
    const { text, form } = vaultText(entry.key, entry.value);
    try {
      if (ours && there.value.reveal().equals(text.reveal())) return { entryName, version: there.version, form };
      const surplus = tagsTooMany(there?.tags ?? {});
      if (surplus > 0) {
        throw changedThere(
          "Failed",
          `${this.#label(entry)} has tags of others that leave no room for ours (Key Vault accepts ${MAX_TAGS}); remove ${surplus} of them`,
        );
      }
      const version = await this.#send(entry, text, form, { there, last });
      this.#audit.push(this.#auditEntry("VaultEntryWritten", entry, { targetVersion: version }));
      return { entryName, version, form };
    } finally {
      if (text !== entry.value) text.dispose();
    }
  }

  async #send(entry: EntryValue, value: Sensitive, form: Place["form"], { there, last }: Around): Promise<string> {
    const { vault, installation, signal, assertLeading } = this.#context;
    const { id } = this.#source;
    const { entryName: name, key } = entry;
    const tags = tagsFor(there?.tags ?? {}, installation, { ...this.#source, key }, { intentId: id });
    const contentType = form === "base64" ? BASE64_CONTENT_TYPE : ownContentType(there?.contentType);
    let result: SetResult;
    failpoint("storage.beforeSet");
    assertLeading();
    try {
      this.#touched = true;
      result = await vault.set({ name, value, tags, ...(contentType !== undefined && { contentType }) }, signal);
    } catch (error) {
      if (!(error instanceof Ambiguous)) throw error;
      this.#underWay = true;
      return this.#settle(error, entry, value);
    }
    failpoint("storage.afterSet");
    if (result.kind === "Written") return result.version;
    if (result.kind === "SoftDeleted") {
      const deleted = await vault.getDeleted(name, signal);
      if (deleted !== undefined) {
        const source = { ...this.#source, key };
        const known = last === undefined ? isOurs : mayBeOurs;
        if (known(deleted.tags, installation, source)) throw await recovering(this.#context, source, name);
        throw changedThere(
          "TargetNotOwned",
          `${this.#label(entry)} was deleted and ${describeOwner(deleted.tags, installation)}; it is left as it is: purge it there, or give this Secret or its key another name`,
        );
      }
    }
    throw inTransition(this.#label(entry));
  }

  /** A write without a clear answer is not repeated: it may still be under way. */
  async #settle(ambiguous: Ambiguous, entry: EntryValue, value: Sensitive): Promise<string> {
    const { vault, signal } = this.#context;
    const state = await vault.get(entry.entryName, signal);
    if (state.kind === "Present") {
      const landed =
        state.entry.tags[INTENT_TAG] === this.#source.id && state.entry.value.reveal().equals(value.reveal());
      state.entry.value.dispose();
      if (landed) {
        this.#underWay = false;
        return state.entry.version;
      }
    }
    throw new Unavailable(
      "VaultUnreachable",
      `${ambiguous.message}; it was not there when looked at, and is tried again`,
    );
  }

  /**
   * Who sets a value by hand leaves out our tags. The entry is ours all the same when it still has the version that we
   * wrote; an entry that somebody made anew under the name does not.
   */
  async #isEditedOfOurs({ key, entryName }: EntryValue, last: Place | undefined): Promise<boolean> {
    if (last === undefined) return false;
    const { vault, installation, signal } = this.#context;
    const state = await vault.get(entryName, signal, last.version);
    if (state.kind !== "Present") return false;
    state.entry.value.dispose();
    return isOurs(state.entry.tags, installation, { ...this.#source, key });
  }

  #label({ key, entryName }: EntryValue): string {
    return `the entry ${entryName} of Key Vault ${this.#context.vault.url}, for ${this.#source.secret}/${key},`;
  }

  #auditEntry(action: AuditAction, { key, entryName }: EntryValue, details: AuditEntry["details"]): AuditEntry {
    return vaultEntryAudit(this.#context, action, { ...this.#source, key }, entryName, {
      intent: this.#source.id,
      ...details,
    });
  }
}

const ownContentType = (contentType: string | undefined): string | undefined =>
  contentType === BASE64_CONTENT_TYPE ? undefined : contentType;

type Source = Pick<WriteSource, "secretId" | "secret" | "owner"> & { readonly key: string };

/** Starts it, on record before the effect: what failed may stand there, what nobody recorded must not happen. */
export async function recovering(context: EntryContext, source: Source, entryName: string): Promise<Waiting> {
  const { vault, audit, assertLeading, signal } = context;
  await audit.append([vaultEntryAudit(context, "VaultEntryRecovered", source, entryName, {})]);
  assertLeading();
  await vault.recover(entryName, signal);
  failpoint("storage.afterRecover");
  return inTransition(
    `the entry ${entryName} of Key Vault ${vault.url}, for ${source.secret}/${source.key}, was deleted:`,
  );
}

const inTransition = (what: string): Waiting =>
  new Waiting(
    "StoredValueMissing",
    `${what} is being recovered or deleted there; it is looked at again soon`,
    TRANSITION_MS,
  );

export function vaultEntryAudit(
  { actor, vault }: Pick<EntryContext, "actor" | "vault">,
  action: AuditAction,
  { secretId, secret, key }: Omit<Source, "owner">,
  entryName: string,
  details: AuditEntry["details"],
): AuditEntry {
  return {
    action,
    actor,
    subject: { kind: "VaultEntry", id: secretId, name: `${vault.url}secrets/${entryName}` },
    outcome: "Success",
    details: { secret, key, ...details },
  };
}
