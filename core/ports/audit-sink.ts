/** Somewhere outside of the database that takes the audit record, in the order of the chain. */
import type { ChainPosition, LinkedRow } from "../audit/chain.ts";
import type { Checkpoint } from "../audit/checkpoint.ts";
import type { Sensitive } from "../sensitive.ts";
import type { Writer } from "./vault-store.ts";

export interface AuditBatch {
  readonly installation: string;
  /** Without a gap. */
  readonly rows: readonly LinkedRow[];
  /** None above the last row, or above what was delivered before. */
  readonly checkpoints: readonly Checkpoint[];
}

export interface AuditSink {
  /**
   * Resolves when the receiver has all of it for good. A batch may come again, also in part: each record says its
   * position, or number, and link, by which a receiver drops what it has. Throws `Unavailable` or `Waiting` with
   * SinkUnreachable or SinkRefused.
   */
  deliver(batch: AuditBatch, signal: AbortSignal): Promise<void>;
  close(): Promise<void>;
}

/** Which kind of receiver, and how to get in. PEM where nothing else is said. */
export type SinkTarget =
  | { readonly kind: "File"; readonly name: string }
  | { readonly kind: "Otlp"; readonly url: string; readonly tls: SinkTls; readonly authorization?: Sensitive }
  | { readonly kind: "Webhook"; readonly url: string; readonly tls: SinkTls; readonly hmacKey?: Sensitive };

export interface SinkTls {
  /** Authorities that are trusted beside the system's. */
  readonly ca?: string;
  readonly client?: { readonly certificate: string; readonly key: Sensitive };
}

export interface AuditSinks {
  /** Throws `Stalled` when the installation does not allow it. */
  open(target: SinkTarget): AuditSink;
}

/** How far a sink has come. */
export interface SinkCursor extends ChainPosition {
  /** Number of the last checkpoint that it has; 0 before the first. */
  readonly checkpoint: bigint;
}

/** Cursors stand in the database, so that the next leader goes on where the last one was. */
export interface SinkCursors {
  /** That of the sink's object; a new one begins at the beginning, and ends that of an object of the same name. */
  open(writer: Writer, uid: string, name: string): Promise<SinkCursor>;
  move(writer: Writer, uid: string, to: SinkCursor): Promise<void>;
  forget(writer: Writer, name: string): Promise<void>;
  /** The objects that there are cursors of. */
  list(): Promise<readonly { readonly uid: string; readonly name: string }[]>;
}
