import type { FakeDatabase } from "./fake-database.ts";
import type { SigningOrder, SigningOutcome, SigningStore } from "./signing-store.ts";
import type { Writer } from "./vault-store.ts";

interface Held {
  readonly order: SigningOrder;
  answered?: { readonly outcome: SigningOutcome; readonly keepUntil: Date; readonly serialNumber: string | undefined };
}

/** What gateways want of the primary's CAs, in memory, with the contract of the real store. */
export class FakeSigningStore implements SigningStore {
  readonly #database: FakeDatabase;
  readonly #onChange: () => void;
  readonly #held = new Map<string, Held>();

  constructor(database: FakeDatabase, onChange: () => void = () => {}) {
    this.#database = database;
    this.#onChange = onChange;
  }

  async ask(order: SigningOrder): Promise<boolean> {
    const standing = this.#held.get(order.id);
    if (standing === undefined) {
      this.#held.set(order.id, { order });
      this.#onChange();
      return true;
    }
    const { gateway, kind, digest } = standing.order;
    if (gateway.gatewayId !== order.gateway.gatewayId || kind !== order.kind) return false;
    const same = digest.equals(order.digest) && gateway.environment === order.gateway.environment;
    if (standing.answered === undefined ? same : "refusal" in standing.answered.outcome) {
      this.#held.set(order.id, { order });
      this.#onChange();
      return true;
    }
    return same;
  }

  async outcome(id: string): Promise<SigningOutcome | undefined> {
    return this.#held.get(id)?.answered?.outcome;
  }

  async pending(since: Date, perGateway: number): Promise<readonly SigningOrder[]> {
    const counts = new Map<string, number>();
    return this.#all()
      .filter(({ order, answered }) => answered === undefined && order.requestedAt >= since)
      .map(({ order }) => order)
      .sort((a, b) => a.requestedAt.getTime() - b.requestedAt.getTime() || (a.id < b.id ? -1 : 1))
      .filter(({ gateway: { gatewayId } }) => {
        const count = (counts.get(gatewayId) ?? 0) + 1;
        counts.set(gatewayId, count);
        return count <= perGateway;
      });
  }

  async answer(
    writer: Writer,
    { id, mac }: Pick<SigningOrder, "id" | "mac">,
    outcome: SigningOutcome,
    keepUntil: Date,
    serialNumber?: string,
  ): Promise<void> {
    this.#database.fence(writer);
    const held = this.#held.get(id);
    if (held === undefined || held.answered !== undefined || !held.order.mac.equals(mac)) return;
    held.answered = { outcome, keepUntil, serialNumber };
    this.#onChange();
  }

  async signed(gatewayId: string, serialNumber: string): Promise<readonly SigningOrder[]> {
    return this.#all()
      .filter(({ order, answered }) => {
        return order.gateway.gatewayId === gatewayId && answered?.serialNumber === serialNumber;
      })
      .map(({ order }) => order)
      .sort((a, b) => (a.id < b.id ? -1 : 1));
  }

  async forget(writer: Writer, now: Date, unansweredBefore: Date): Promise<number> {
    this.#database.fence(writer);
    const gone = this.#all().filter(({ order, answered }) =>
      answered === undefined ? order.requestedAt < unansweredBefore : answered.keepUntil < now,
    );
    for (const { order } of gone) this.#held.delete(order.id);
    return gone.length;
  }

  #all(): readonly Held[] {
    return [...this.#held.values()];
  }
}
