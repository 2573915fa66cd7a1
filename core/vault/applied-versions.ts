/** Versions that are applied elsewhere before they are current: see `apply.ts` for their states. */
import type { Actor, AuditAction } from "../ports/audit-log.ts";
import { Conflict, type SecretRecord, type Unled, type Writer } from "../ports/vault-store.ts";
import type { Sensitive } from "../sensitive.ts";
import { abandoned, causeOf, confirmed, discarded, ended, overtaken, promoted, proposed, requested } from "./apply.ts";
import { causeDetails } from "./audit-entries.ts";
import type { Commits } from "./commits.ts";
import { generate } from "./generate.ts";
import { assertCanBePending, notActive, rotated } from "./refusals.ts";
import type { PromoteRequest, ProposeRequest, Stored } from "./requests.ts";
import { nextNumber } from "./retention.ts";
import type { StoredVersions } from "./stored-versions.ts";

/** Errors as of `Vault`. */
export class AppliedVersions {
  readonly #versions: StoredVersions;
  readonly #commits: Commits;
  readonly #now: () => Date;

  constructor(parts: { readonly versions: StoredVersions; readonly commits: Commits; readonly now: () => Date }) {
    this.#versions = parts.versions;
    this.#commits = parts.commits;
    this.#now = parts.now;
  }

  /**
   * As `Vault.rotate`, but the version is pending: the current one stays until `promote`. That one is pending stands in the
   * record; there must be none before.
   *
   * @throws Stalled RotationInvalid where a Key Vault has the values, ValueInvalid, TemplateInvalid, TemplateCycle,
   *   SecretNotStored when it is not Active
   */
  async propose(writer: Writer | Unled, seen: SecretRecord, request: ProposeRequest): Promise<Stored> {
    const { entries, keys: names, cause, values = new Map<string, Sensitive>(), actor } = request;
    assertCanBePending(seen);
    if (seen.rotation?.apply?.pending !== undefined) throw new Conflict(seen.id);
    const generators = rotated(entries, seen, names);
    const keys = await this.#versions.existingKeys(seen.identity);
    const replaced = new Map<string, Sensitive>();
    try {
      for (const { key, generate: parameters } of generators) replaced.set(key, await generate(key, parameters));
      const { identity, lifecycle } = seen;
      const pending = {
        version: nextNumber(seen),
        base: seen.currentVersion,
        keys: [...replaced.keys(), ...values.keys()],
        cause,
      };
      const rotation = proposed(seen.rotation, pending, this.#now());
      const next = { identity, seen, entries, lifecycle, rotation, cause, actor, pending: true };
      return await this.#commits.replace(writer, keys, { ...next, replaced: new Map([...replaced, ...values]) });
    } finally {
      for (const value of replaced.values()) value.dispose();
    }
  }

  /**
   * New values are to be applied; for whoever does not lead. The leader hears of it through the outbox.
   *
   * @throws Stalled RotationInvalid where a Key Vault has the values, SecretNotStored when it is not Active
   */
  async requestApply(writer: Writer | Unled, seen: SecretRecord, actor: Actor): Promise<SecretRecord> {
    if (seen.state !== "Active") throw notActive(seen);
    assertCanBePending(seen);
    const wanted = { ...seen, rotation: requested(seen.rotation, this.#now()) };
    return this.#commits.move(writer, seen, wanted, actor, ["SecretRotationRequested"]);
  }

  /**
   * The pending version becomes the current one. Where another one has become current since it was made, its new values
   * become a version over that one; if there are none, it is over.
   */
  async promote(writer: Writer, seen: SecretRecord, request: PromoteRequest): Promise<SecretRecord> {
    const { entries, formerRole: role, overlapMs, actor } = request;
    const { rotation } = seen;
    const pending = rotation?.apply?.pending;
    if (rotation === undefined || pending === undefined) throw new Conflict(seen.id);
    const sealed = await this.#versions.read(seen, pending.version);
    const before = { version: seen.currentVersion, role };
    const next = promoted(rotation, pending, before, overlapMs, this.#now());
    const cause = causeOf(rotation, pending);
    if (pending.base !== seen.currentVersion) {
      const keys = await this.#versions.existingKeys(seen.identity);
      const replaced = await this.#versions.open(keys, seen, sealed, pending.keys);
      try {
        const { identity, lifecycle } = seen;
        const change = { identity, seen, entries, replaced, lifecycle, rotation: next, cause, actor };
        const { record, created } = await this.#commits.replace(writer, keys, change);
        if (created) return record;
      } finally {
        for (const value of replaced.values()) value.dispose();
      }
      // The pointer never goes back: the numbers above are taken.
      const over = { ...seen, rotation: overtaken(rotation, seen.currentVersion) };
      return this.#commits.move(writer, seen, over, actor, ["SecretVersionDiscarded"], {
        version: pending.version,
        reason: "the current version has its values already, or none of its entries any more",
      });
    }
    const entriesOf = sealed.entries.map(({ key, recipe, fingerprint }) => ({ key, recipe, fingerprint }));
    const { sealed: _, ...known } = seen;
    const wanted = { ...known, currentVersion: pending.version, rotation: next, entries: entriesOf };
    const made = [...pending.keys].sort().join(",");
    return this.#commits.move(writer, seen, wanted, actor, ["SecretRotated"], { made, ...causeDetails(cause) });
  }

  /** The pending version is never current; it stays readable by its number as long as retention keeps it, with as many others that failed. */
  async discard(writer: Writer, seen: SecretRecord, message: string, actor: Actor): Promise<SecretRecord> {
    const { rotation } = seen;
    const pending = rotation?.apply?.pending;
    if (rotation === undefined || pending === undefined) throw new Conflict(seen.id);
    const wanted = { ...seen, rotation: discarded(seen, rotation, pending, message, this.#now()) };
    const { failure } = wanted.rotation.apply ?? {};
    return this.#commits.move(writer, seen, wanted, actor, ["SecretVersionDiscarded"], {
      version: pending.version,
      reason: failure?.message ?? "",
      attempt: failure?.count ?? 1,
    });
  }

  /** Everything that used the former version has the present one. */
  async confirm(writer: Writer, seen: SecretRecord, actor: Actor): Promise<SecretRecord> {
    const { rotation } = seen;
    if (rotation === undefined) throw new Conflict(seen.id);
    const wanted = { ...seen, rotation: confirmed(rotation, this.#now()) };
    const former = rotation.apply?.former?.version ?? 0;
    return this.#commits.move(writer, seen, wanted, actor, ["SecretConsumptionConfirmed"], { former });
  }

  /** The former version does not count any more, outside. */
  async endFormer(writer: Writer, seen: SecretRecord, actor: Actor): Promise<SecretRecord> {
    const { rotation } = seen;
    if (rotation === undefined) throw new Conflict(seen.id);
    const { version = 0, role = "" } = rotation.apply?.former ?? {};
    const wanted = { ...seen, rotation: ended(rotation) };
    return this.#commits.move(writer, seen, wanted, actor, ["SecretFormerEnded"], { former: version, role });
  }

  /** The former version goes on to count outside: the manifest does not say any more how it ends. */
  async abandonFormer(writer: Writer, seen: SecretRecord, actor: Actor): Promise<SecretRecord> {
    const { rotation } = seen;
    if (rotation === undefined) throw new Conflict(seen.id);
    const { version = 0, role = "" } = rotation.apply?.former ?? {};
    const reason = "spec.rotation.apply.postgres was removed before the role ended";
    return this.#commits.move(writer, seen, { ...seen, rotation: ended(rotation) }, actor, ["SecretRotationChanged"], {
      version: seen.currentVersion,
      former: version,
      role,
      reason,
    });
  }

  /** The manifest does not ask for it any more: what stood in between is left as it is. */
  async abandonApply(writer: Writer, seen: SecretRecord, actor: Actor): Promise<SecretRecord> {
    const { rotation } = seen;
    if (rotation === undefined) throw new Conflict(seen.id);
    const { pending } = rotation.apply ?? {};
    const wanted = { ...seen, rotation: abandoned(seen, rotation) };
    const actions: readonly AuditAction[] =
      pending === undefined ? ["SecretRotationChanged"] : ["SecretVersionDiscarded"];
    const reason = "spec.rotation.apply was removed";
    return this.#commits.move(writer, seen, wanted, actor, actions, {
      version: pending?.version ?? seen.currentVersion,
      reason,
    });
  }
}
