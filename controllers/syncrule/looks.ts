/** When each rule looked at its vault, and what it could not have then. */
import { Stalled, Unavailable, Waiting } from "../../core/errors.ts";
import { type TargetVault, Throttled, type VaultEntryProperties } from "../../core/ports/target-vault.ts";
import type { Priority } from "../../core/ports/target-vaults.ts";
import type { EntryPlace } from "../../core/sync/entries.ts";
import { type Trouble, troubles } from "../../core/sync/pull-plan.ts";
import type { SyncRule } from "../../crds/syncrule.ts";
import { keyOf } from "../runtime/resource-type.ts";
import { intervalMs, type SeenToPush, SYNC_NOW_ANNOTATION } from "./decide.ts";

export type Look = Pick<SeenToPush, "target" | "lookFailure" | "nextLook" | "syncNow">;

export class Looks {
  /** Milliseconds since the epoch, by rule and vault. Absent: it is to look again. */
  readonly #looked = new Map<string, number>();
  readonly #troubled = new Map<string, ReadonlyMap<string, Trouble>>();

  /** Looks when it is time, or a person asks for it. */
  async look(
    rule: SyncRule,
    vaultUrl: string,
    open: (priority: Priority) => Promise<TargetVault>,
    signal: AbortSignal,
  ): Promise<Look> {
    const syncNow = rule.metadata.annotations?.[SYNC_NOW_ANNOTATION];
    const place = placeOf(rule, vaultUrl);
    const last = this.#looked.get(place);
    const requested = syncNow !== undefined && syncNow !== rule.status?.lastHandledSyncNow;
    const due = last === undefined || requested || Date.now() - last >= intervalMs(rule);
    const looked = due ? await this.#lookNow(place, () => open(requested ? "Change" : "Look"), signal) : {};
    const nextLook = new Date((this.#looked.get(place) ?? Date.now()) + intervalMs(rule));
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
        if (error.code === "ApiServerUnavailable") throw error;
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

  /** The next pass looks, whatever time it is. */
  again(rule: SyncRule): void {
    for (const place of this.#looked.keys()) if (place.startsWith(prefixOf(keyOf(rule)))) this.#looked.delete(place);
  }

  /** The rule, by `namespace/name`, is gone. */
  forget(key: string): void {
    for (const map of [this.#looked, this.#troubled]) {
      for (const place of map.keys()) if (place.startsWith(prefixOf(key))) map.delete(place);
    }
  }
}

const prefixOf = (key: string): string => `${key} `;

const placeOf = (rule: SyncRule, vaultUrl: string): string =>
  `${prefixOf(keyOf(rule))}${rule.metadata.uid} ${vaultUrl}`;
