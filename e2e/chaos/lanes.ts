/** Work of one lane is done in order, so that no two writes of one object are under way. */
export class Lanes {
  readonly #lanes: Promise<void>[] = Array.from({ length: 8 }, () => Promise.resolve());

  /** Works of equal `index` share a lane. */
  enqueue(index: number, work: () => Promise<void>): void {
    const lane = index % this.#lanes.length;
    const before = this.#lanes[lane] ?? Promise.resolve();
    const after = before.then(work);
    // Whoever waits for the lanes hears of a failure; nobody does while the run goes on.
    after.catch(() => {});
    this.#lanes[lane] = after;
  }

  /** Resolves when everything is done that was handed in so far. */
  async done(): Promise<void> {
    await Promise.all(this.#lanes);
  }
}
