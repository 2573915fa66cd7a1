/** Which versions stay: the newest, as many as the lifecycle says, and those that a rotation holds for a while. */
import type { RotationRecord, SecretRecord } from "../ports/vault-store.ts";

/** Versions that are held at once, or requests in a loop would let a secret grow for ever. */
const MOST_HELD = 100;

const stillHeld = ({ held }: RotationRecord, now: Date) => held.filter(({ until }) => until > now);

/** One more version is held, if that is for any time at all. */
export function withHeld(rotation: RotationRecord, version: number, until: Date, now: Date): RotationRecord {
  const held = [...stillHeld(rotation, now), ...(until > now ? [{ version, until }] : [])];
  return { ...rotation, held: held.slice(-MOST_HELD) };
}

/** As it is written now: what is held no longer goes with this change. */
export const standing = (rotation: RotationRecord | undefined, now: Date): Pick<SecretRecord, "rotation"> =>
  rotation === undefined ? {} : { rotation: { ...rotation, held: stillHeld(rotation, now) } };

/** What the store deletes when the pointer changes like this, oldest first. */
export function expired(before: SecretRecord, after: SecretRecord): readonly { from: number; through: number }[] {
  const oldest = (record: SecretRecord) => Math.max(1, record.currentVersion - record.lifecycle.keepVersions + 1);
  const held = (record: SecretRecord) => (record.rotation?.held ?? []).map(({ version }) => version);
  const kept = new Set(held(after));
  const gone = held(before).filter((version) => version < oldest(before));
  for (let version = oldest(before); version <= before.currentVersion; version++) gone.push(version);
  const ranges: { from: number; through: number }[] = [];
  for (const version of gone) {
    if (version >= oldest(after) || kept.has(version)) continue;
    const last = ranges.at(-1);
    if (last?.through === version - 1) last.through = version;
    else ranges.push({ from: version, through: version });
  }
  return ranges;
}
