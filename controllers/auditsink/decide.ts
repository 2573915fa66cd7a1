/** What to do for one AuditSink: hand over what it does not have yet. Pure. */
import type { SinkCursor } from "../../core/ports/audit-sink.ts";
import type { AuditSink } from "../../crds/auditsink.ts";
import type { Plan } from "../runtime/controller.ts";

export interface Observed {
  readonly cursor: SinkCursor;
  /** Position of the last row that is linked. */
  readonly head: bigint;
  /** A checkpoint stands that the sink does not have. */
  readonly signed: boolean;
  /** This pass has handed over for as long as a pass may. */
  readonly tried: boolean;
}

export interface Action {
  readonly kind: "Deliver";
  readonly name: string;
  readonly uid: string;
  readonly cursor: SinkCursor;
  readonly head: bigint;
}

export function decide({ metadata: { name, uid } }: AuditSink, seen: Observed, now: Date): Plan<Action> {
  const { cursor, head, signed, tried } = seen;
  const behind = head > cursor.position || signed;
  const message = behind && tried ? "it is being caught up on; many rows are waiting" : "the receiver has the record";
  return {
    actions: behind && !tried ? [{ kind: "Deliver", name, uid, cursor, head }] : [],
    status: { conditions: [{ type: "Delivering", status: "True", reason: "Available", message }] },
    next: behind ? { kind: "recheckAt", at: now } : { kind: "settled" },
  };
}
