/**
 * Takes values over from a vault. All that changed of one secret becomes one version. Order of effects: read, store,
 * remember. A process that dies in between is followed by one that reads again, and stores nothing that is there.
 */
import { failpoint } from "../failpoints.ts";
import type { SyncStore } from "../ports/sync-store.ts";
import type { TargetVault, VaultEntry } from "../ports/target-vault.ts";
import type { Writer } from "../ports/vault-store.ts";
import type { Sensitive } from "../sensitive.ts";
import type { Held } from "./exchange.ts";
import { isOfAnotherSecret } from "./ownership.ts";
import { disabled, notOwned } from "./plan.ts";
import { missing, type PlannedPull } from "./pull-plan.ts";
import { type Done, type SyncResult, workThrough } from "./run.ts";

export interface PullContext {
  readonly vault: TargetVault;
  readonly store: Pick<SyncStore, "recordPulled">;
  readonly writer: Writer;
  readonly ruleUid: string;
  readonly installation: string;
  /** Stores values of external entries as one version, unless the secret has them. They are not disposed of. */
  put(secretName: string, values: ReadonlyMap<string, Sensitive>): Promise<Pick<Held, "id" | "entries">>;
  /** Throws `Fenced` when this process may no longer write. Asked before each request to the vault. */
  assertLeading(): void;
  readonly signal: AbortSignal;
  /** Secrets at a time; 8 when absent. */
  readonly concurrency?: number;
}

interface Read {
  readonly planned: PlannedPull;
  readonly there: VaultEntry;
  /** `performance.now()` before it was asked for. */
  readonly at: number;
}

/** As `workThrough` does it, secret by secret. */
export const pull = (planned: readonly PlannedPull[], context: PullContext): Promise<SyncResult> =>
  workThrough(
    [...Map.groupBy(planned, ({ entry }) => entry.secretName)].map(([secretName, group]) => ({
      entries: group.map(({ entry }) => entry),
      run: () => pullSecret(secretName, group, context),
    })),
    context,
  );

async function pullSecret(
  secretName: string,
  group: readonly PlannedPull[],
  context: PullContext,
): Promise<readonly Done[]> {
  const read: Read[] = [];
  const done: Done[] = [];
  try {
    for (const planned of group) {
      const found = await look(planned, context);
      if ("there" in found) read.push(found);
      else done.push(found);
    }
    if (read.length > 0) done.push(...(await keep(secretName, read, context)));
    return done;
  } finally {
    for (const { there } of read) there.value.dispose();
  }
}

async function look(
  planned: PlannedPull,
  { vault, assertLeading, signal, installation }: PullContext,
): Promise<Read | Done> {
  const { entry, base } = planned;
  assertLeading();
  const at = performance.now();
  const state = await vault.get(entry.entryName, signal);
  if (state.kind === "Present") {
    // Who may push into a vault must not be able to read by it what others push there.
    const { tags, value } = state.entry;
    if (!isOfAnotherSecret(tags, installation, { ...entry, secretId: entry.secretId ?? "" })) {
      return { planned, there: state.entry, at };
    }
    value.dispose();
    return { kind: "Failed", failure: notOwned(entry, tags, installation) };
  }
  return { kind: "Failed", failure: state.kind === "Disabled" ? disabled(entry) : missing(entry, base) };
}

async function keep(secretName: string, read: readonly Read[], context: PullContext): Promise<readonly Done[]> {
  const { store, writer, vault, ruleUid } = context;
  failpoint("sync.beforePull");
  const kept = await context.put(
    secretName,
    new Map(read.map(({ planned, there }) => [planned.entry.key, there.value])),
  );
  failpoint("sync.afterPull");
  const fingerprints = new Map(kept.entries.map(({ key, fingerprint }) => [key, fingerprint]));
  const items = read.map(({ planned: { entry }, there }) => {
    const { key, entryName } = entry;
    const fingerprint = fingerprints.get(key);
    if (fingerprint === undefined) throw new Error(`entry ${key} has no value although it was stored`);
    return {
      secretId: kept.id,
      key,
      ruleUid,
      vaultUrl: vault.url,
      entryName,
      fingerprint,
      targetVersion: there.version,
      targetUpdatedOn: there.updatedOn,
    };
  });
  const readMsAgo = performance.now() - Math.min(...read.map(({ at }) => at));
  await store.recordPulled(writer, items, readMsAgo);
  failpoint("sync.afterPulled");
  return read.map(({ planned }) => ({ kind: isNew(planned, fingerprints) ? "Written" : "Confirmed" }));
}

const isNew = ({ entry }: PlannedPull, fingerprints: ReadonlyMap<string, string>): boolean =>
  fingerprints.get(entry.key) !== entry.fingerprint;
