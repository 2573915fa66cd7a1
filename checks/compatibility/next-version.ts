/**
 * Semantic Versioning 2.0.0: a patch takes nothing away. The same version may be taken again.
 *
 * @param takesAway whether something of the last release is gone, by what was accepted
 * @returns why it cannot be the next version; undefined when it can
 */
export function whyNotNext(version: string, last: string, takesAway: boolean): string | undefined {
  if (!/^\d+\.\d+\.\d+$/.test(version)) return `${version} is no version: MAJOR.MINOR.PATCH`;
  const before = last.split(".").map(Number);
  const step = version.split(".").map((part, index) => Number(part) - (before[index] ?? 0));
  const level = step.findIndex((by) => by !== 0);
  if (level < 0) {
    if (takesAway) return `released/accepted.yaml lists what is taken away: that needs another version than ${last}`;
    return undefined;
  }
  if ((step[level] ?? 0) < 0) return `${version} does not come after ${last}`;
  if (takesAway && level === 2) return `released/accepted.yaml lists what is taken away: that is no patch of ${last}`;
  return undefined;
}
