import { failpoint } from "../failpoints.ts";
import type { AuditLog } from "../ports/audit-log.ts";
import type { AuditSink, SinkCursor, SinkCursors } from "../ports/audit-sink.ts";
import type { Writer } from "../ports/vault-store.ts";

const ROWS = 500;
const CHECKPOINTS = 100;

export interface Delivery {
  readonly audit: Pick<AuditLog, "chain" | "checkpoints">;
  readonly cursors: Pick<SinkCursors, "move">;
  readonly sink: AuditSink;
  readonly installation: string;
  readonly writer: Writer;
  /** Of the sink's object. */
  readonly uid: string;
}

/**
 * Hands over what the sink does not have yet, batch by batch, until there is nothing left or the time is up, and tells how
 * far it came. The cursor moves when the receiver has the batch: what dies in between is handed over again.
 */
export async function deliver(
  { audit, cursors, sink, installation, writer, uid }: Delivery,
  from: SinkCursor,
  until: number,
  signal: AbortSignal,
): Promise<SinkCursor> {
  let cursor = from;
  do {
    const rows = await audit.chain(cursor.position, ROWS);
    const { position, link } = rows.at(-1) ?? cursor;
    const signed = await audit.checkpoints(cursor.checkpoint, CHECKPOINTS);
    const checkpoints = signed.filter((checkpoint) => checkpoint.position <= position);
    if (rows.length === 0 && checkpoints.length === 0) return cursor;
    await sink.deliver({ installation, rows, checkpoints }, signal);
    failpoint("auditsink.afterDeliver");
    cursor = { position, link, checkpoint: checkpoints.at(-1)?.number ?? cursor.checkpoint };
    await cursors.move(writer, uid, cursor);
    failpoint("auditsink.afterMove");
  } while (performance.now() < until && !signal.aborted);
  return cursor;
}
