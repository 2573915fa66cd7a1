/**
 * Key Vault has no conditional write: what somebody sets between our look and our write is written over at once, and only
 * the vault's own list of versions tells of it. One call for each 25 versions, after a write that both sides may make.
 */
import type { TargetVault, VaultVersion } from "../ports/target-vault.ts";
import type { Sensitive } from "../sensitive.ts";
import { INTENT_TAG } from "./ownership.ts";

export interface Around {
  readonly entryName: string;
  /** The version that was there when it was looked at; undefined: none. */
  readonly seen: string | undefined;
  /** Versions whose values need not be read. */
  readonly known: ReadonlySet<string>;
}

/** More in so short a time are no person's; of an entry that was purged meanwhile all versions are others. */
const MOST = 25;

/** Values of the versions between the one that was seen and the one that was written. Each is disposed of afterwards. */
export async function* overtakenBy(
  written: string | undefined,
  around: Around,
  { vault, assertLeading, signal }: Context,
): AsyncGenerator<Sensitive> {
  assertLeading();
  const all = await vault.listVersions(around.entryName, signal);
  for (const { version } of between(all, written, around)) {
    assertLeading();
    const state = await vault.get(around.entryName, signal, version);
    if (state.kind !== "Present") continue;
    try {
      yield state.entry.value;
    } finally {
      state.entry.value.dispose();
    }
  }
}

export interface Context {
  readonly vault: Pick<TargetVault, "listVersions" | "get">;
  readonly assertLeading: () => void;
  readonly signal: AbortSignal;
}

/** Times have whole seconds, so those of the same second are among them; who has our tag has seen what we wrote. */
function between(
  all: readonly VaultVersion[],
  written: string | undefined,
  { seen, known }: Pick<Around, "seen" | "known">,
): readonly VaultVersion[] {
  const since = all.find(({ version }) => version === seen)?.createdOn.getTime() ?? 0;
  const ours = written && all.find(({ version }) => version === written)?.tags[INTENT_TAG];
  return all
    .filter(({ version, enabled, createdOn }) => enabled && !known.has(version) && createdOn.getTime() >= since)
    .filter(({ tags }) => ours === undefined || tags[INTENT_TAG] !== ours)
    .sort((a, b) => a.createdOn.getTime() - b.createdOn.getTime())
    .slice(-MOST);
}
