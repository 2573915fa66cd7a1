/** What the leader does for gateways that want certificates of this installation's CAs. */
import type { SigningOrders } from "../controllers/signing/orders.ts";
import type { Writer } from "../core/ports/vault-store.ts";
import type { ChoresDependencies } from "./chores.ts";
import { HintedChores } from "./hinted-chores.ts";

export interface SigningChoresDependencies extends ChoresDependencies {
  readonly orders: Pick<SigningOrders, "answer" | "forget">;
}

/** Somebody waits, for 10 seconds at most. */
const LOOK_EVERY_MS = 2_000;
const APART_MS = 20;
const SWEEP_EVERY_MS = 600_000;

export class SigningChores extends HintedChores<SigningChoresDependencies> {
  protected plan(writer: Writer): ReturnType<HintedChores<SigningChoresDependencies>["plan"]> {
    const { orders } = this.deps;
    let sweepAt = performance.now();
    const turn = async (): Promise<void> => {
      await this.attempt("sign certificates for gateways", () => orders.answer(writer));
      if (performance.now() < sweepAt) return;
      const forgotten = await this.attempt("forget requests of gateways", () => orders.forget(writer));
      if (forgotten) sweepAt = performance.now() + SWEEP_EVERY_MS;
    };
    return { apartMs: APART_MS, everyMs: LOOK_EVERY_MS, turn };
  }
}
