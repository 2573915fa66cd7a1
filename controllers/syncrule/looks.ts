/** When each rule looked at its vault, and what it could not have then. */
import { Stalled, Unavailable, Waiting } from "../../core/errors.ts";
import { type TargetVault, Throttled, type VaultEntryProperties } from "../../core/ports/target-vault.ts";
import type { Priority } from "../../core/ports/target-vaults.ts";
import type { Doomed } from "../../core/sync/deletion-plan.ts";
import { type EntryPlace, foldName, type SyncFailure } from "../../core/sync/entries.ts";
import { type Trouble, troubles } from "../../core/sync/pull-plan.ts";
import type { SyncRule } from "../../crds/syncrule.ts";
import { keyOf } from "../runtime/resource-type.ts";
import { intervalMs, type SeenToPush, SYNC_NOW_ANNOTATION } from "./decide.ts";

export type Look = Pick<SeenToPush, "target" | "lookFailure" | "nextLook" | "syncNow" | "unhealed">;

/** Of any number of events a rule looks once in this time. */
const EVENTS_APART_MS = 5_000;

export class Looks {
  /** Milliseconds since the epoch, by rule and vault. Absent: it is to look again. */
  readonly #looked = new Map<string, number>();
  /** By rule: how many entries the last look found that are still to be healed, since something else goes first. */
  readonly #unhealed = new Map<string, number>();
  /** Rules whose vault is said to have changed since they looked, by `namespace/name`. */
  readonly #evented = new Set<string>();
  readonly #troubled = new Map<string, ReadonlyMap<string, Trouble>>();
  /** By rule and vault, then by what was written. */
  readonly #left = new Map<string, ReadonlyMap<string, SyncFailure>>();

  /** Looks when it is time, or a person asks for it; not in the pass that goes before what was found to heal. */
  async look(
    rule: SyncRule,
    vaultUrl: string,
    open: (priority: Priority) => Promise<TargetVault>,
    signal: AbortSignal,
  ): Promise<Look> {
    const syncNow = rule.metadata.annotations?.[SYNC_NOW_ANNOTATION];
    const place = placeOf(rule, vaultUrl);
    const unhealed = this.#unhealed.get(keyOf(rule));
    if (unhealed !== undefined) {
      this.#unhealed.delete(keyOf(rule));
      this.#looked.delete(place);
      const handled = rule.status?.lastHandledSyncNow;
      return { nextLook: new Date(), unhealed, ...(handled !== undefined && { syncNow: handled }) };
    }
    const last = this.#looked.get(place);
    const requested = syncNow !== undefined && syncNow !== rule.status?.lastHandledSyncNow;
    const evented = this.#evented.has(keyOf(rule));
    const waitMs = evented ? Math.min(EVENTS_APART_MS, intervalMs(rule)) : intervalMs(rule);
    const due = last === undefined || requested || Date.now() - last >= waitMs;
    // Before it looks: what is told meanwhile is another reason.
    if (due) this.#evented.delete(keyOf(rule));
    const looked = due ? await this.#lookNow(place, () => open(requested ? "Change" : "Look"), signal) : {};
    const nextMs = this.#evented.has(keyOf(rule)) ? EVENTS_APART_MS : intervalMs(rule);
    const nextLook = new Date((this.#looked.get(place) ?? Date.now()) + nextMs);
    return { ...looked, nextLook, ...(syncNow !== undefined && { syncNow }) };
  }

  async #lookNow(
    place: string,
    open: () => Promise<TargetVault>,
    signal: AbortSignal,
  ): Promise<Pick<Look, "target" | "lookFailure">> {
    try {
      const vault = await open();
      const target: VaultEntryProperties[] = [];
      const started = Date.now();
      for await (const page of vault.list(signal)) target.push(...page);
      this.#looked.set(place, started);
      return { target };
    } catch (error) {
      if (error instanceof Stalled || error instanceof Waiting || error instanceof Unavailable) {
        if (error.code === "ApiServerUnavailable" || error.code === "DatabaseUnavailable") throw error;
        const retryAfterMs =
          error instanceof Waiting ? error.afterMs : error instanceof Throttled ? error.retryAfterMs : undefined;
        const { code: reason, message } = error;
        return { lookFailure: { reason, message, ...(retryAfterMs !== undefined && { retryAfterMs }) } };
      }
      throw error;
    }
  }

  /** What of these the last look, this one or an earlier one, did not find or found disabled. */
  troubles(
    rule: SyncRule,
    vaultUrl: string,
    wanted: readonly EntryPlace[],
    { target }: Look,
  ): ReadonlyMap<string, Trouble> {
    const place = placeOf(rule, vaultUrl);
    if (target !== undefined) this.#troubled.set(place, troubles(wanted, target));
    return this.#troubled.get(place) ?? new Map();
  }

  /** What the last look found that is doomed and was changed over there, so that it stays until another one finds it otherwise. */
  leave(rule: SyncRule, vaultUrl: string, doomed: readonly Doomed[], failures: readonly SyncFailure[]): void {
    const edited = new Map(
      failures.filter(({ reason }) => reason === "ChangedInTarget").map((each) => [foldName(each.name), each]),
    );
    const left = doomed.flatMap((each) => {
      const failure = edited.get(foldName(each.entryName));
      return failure === undefined ? [] : [[writtenAs(each), failure] as const];
    });
    this.#left.set(placeOf(rule, vaultUrl), new Map(left));
  }

  /** Why each of these stays; undefined where that is not known of one of them. */
  leftOf(rule: SyncRule, vaultUrl: string, doomed: readonly Doomed[]): readonly SyncFailure[] | undefined {
    const left = this.#left.get(placeOf(rule, vaultUrl));
    const known = doomed.flatMap((each) => left?.get(writtenAs(each)) ?? []);
    return known.length === doomed.length ? known : undefined;
  }

  /** Its vault is said to have changed. */
  evented(key: string): void {
    this.#evented.add(key);
  }

  /** The next pass does what is urgent without looking, the one after it looks. */
  putOff(rule: SyncRule, unhealed: number): void {
    this.#unhealed.set(keyOf(rule), unhealed);
  }

  /** The next pass looks, whatever time it is. */
  again(rule: SyncRule): void {
    for (const place of this.#looked.keys()) if (place.startsWith(prefixOf(keyOf(rule)))) this.#looked.delete(place);
  }

  /** This pass looks, whatever goes first. */
  now(rule: SyncRule): void {
    this.#unhealed.delete(keyOf(rule));
    this.again(rule);
  }

  /** The rule, by `namespace/name`, is gone. */
  forget(key: string): void {
    this.#unhealed.delete(key);
    this.#evented.delete(key);
    for (const map of [this.#looked, this.#troubled, this.#left]) {
      for (const place of map.keys()) if (place.startsWith(prefixOf(key))) map.delete(place);
    }
  }
}

/** Written again it is another one. */
const writtenAs = ({ secretId, key, entryName, item: { outcome, intent } }: Doomed): string =>
  `${secretId} ${key} ${foldName(entryName)} ${outcome?.targetUpdatedOn.getTime()} ${intent?.id}`;

const prefixOf = (key: string): string => `${key} `;

const placeOf = (rule: SyncRule, vaultUrl: string): string =>
  `${prefixOf(keyOf(rule))}${rule.metadata.uid} ${vaultUrl}`;
