/** The clock of what a gateway was granted, in milliseconds. */
export interface Clocks {
  /** Stands still while the machine is suspended. */
  readonly monotonic: () => number;
  /** Goes on then, and may be set forward and back. */
  readonly wall: () => number;
}

const CLOCKS: Clocks = { monotonic: () => performance.now(), wall: () => Date.now() };

/**
 * From now on. Of each stretch the clock that says more counts, and never the sum of one: a wall clock that is set forward and corrected
 * back brings the end of a grant nearer, and does not hold it up after that.
 */
export function elapsedAlsoWhileSuspended({ monotonic, wall }: Clocks = CLOCKS): () => number {
  let [lastMonotonic, lastWall] = [monotonic(), wall()];
  let elapsed = 0;
  return () => {
    const [nowMonotonic, nowWall] = [monotonic(), wall()];
    elapsed += Math.max(0, nowMonotonic - lastMonotonic, nowWall - lastWall);
    [lastMonotonic, lastWall] = [nowMonotonic, nowWall];
    return elapsed;
  };
}
