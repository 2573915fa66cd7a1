/** Which versions stay: the newest, as many as the lifecycle says, and those that a rotation or a conflict holds for a while. */
import type { RotationRecord, SecretRecord } from "../ports/vault-store.ts";

/** Versions that are held at once, or requests in a loop would let a secret grow for ever. */
const MOST_HELD = 100;

const stillHeld = ({ held }: RotationRecord, now: Date) => held.filter(({ until }) => until > now);

/** One more version is held, if that is for any time at all. */
export function withHeld(rotation: RotationRecord, version: number, until: Date, now: Date): RotationRecord {
  const held = [...stillHeld(rotation, now), ...(until > now ? [{ version, until }] : [])];
  return { ...rotation, held: held.slice(-MOST_HELD) };
}

/** What lost a conflict is held for so long, whatever the lifecycle says: its own pass may make more versions than that keeps. */
const LOSER_HELD_MS = 86_400_000;

/** A loser is held as well, but a stream of them leaves room for what rotations hold. */
export function withLoser(rotation: RotationRecord | undefined, version: number, now: Date): RotationRecord {
  const before = rotation ?? { since: now, held: [] };
  const held = stillHeld(before, now);
  if (held.length >= MOST_HELD / 2) return { ...before, held };
  return withHeld(before, version, new Date(now.getTime() + LOSER_HELD_MS), now);
}

/** As it is written now: what is held no longer goes with this change. */
export const standing = (rotation: RotationRecord | undefined, now: Date): Pick<SecretRecord, "rotation"> =>
  rotation === undefined ? {} : { rotation: { ...rotation, held: stillHeld(rotation, now) } };

/** The number of the next version: none is given twice, also where the one that had it was never current. */
export const nextNumber = (seen: Pick<SecretRecord, "currentVersion" | "rotation"> | undefined): number =>
  Math.max(seen?.currentVersion ?? 0, seen?.rotation?.apply?.last ?? 0) + 1;

/** What the store deletes when the pointer changes like this, oldest first. */
export function expired(before: SecretRecord, after: SecretRecord): readonly { from: number; through: number }[] {
  const oldest = (record: SecretRecord) => Math.max(1, record.currentVersion - record.lifecycle.keepVersions + 1);
  const held = ({ rotation }: SecretRecord) => [
    ...(rotation?.held ?? []).map(({ version }) => version),
    ...(rotation?.apply?.pending === undefined ? [] : [rotation.apply.pending.version]),
  ];
  const kept = new Set(held(after));
  const failed = new Set(after.rotation?.apply?.failed);
  const stays = (version: number): boolean =>
    kept.has(version) || (version > after.currentVersion ? failed.has(version) : version >= oldest(after));
  const there = held(before).filter((version) => version < oldest(before));
  for (let version = oldest(before); version <= before.currentVersion; version++) there.push(version);
  // Above it there are only versions that were never current.
  const above = [...(before.rotation?.apply?.failed ?? []), ...held(before)];
  there.push(...above.filter((version) => version > before.currentVersion).sort((a, b) => a - b));
  const ranges: { from: number; through: number }[] = [];
  for (const version of there) {
    if (stays(version)) continue;
    const last = ranges.at(-1);
    if (last?.through === version - 1) last.through = version;
    else ranges.push({ from: version, through: version });
  }
  return ranges;
}
