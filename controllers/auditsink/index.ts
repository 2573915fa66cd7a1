/** The controller of `AuditSink`: hands the audit record over, for at most some seconds at a time. */
import { deliver } from "../../core/audit/delivery.ts";
import { Stalled, Unavailable, Waiting } from "../../core/errors.ts";
import type { AuditLog } from "../../core/ports/audit-log.ts";
import type { AuditSinks, SinkCursor, SinkCursors, AuditSink as Target } from "../../core/ports/audit-sink.ts";
import type { Writer } from "../../core/ports/vault-store.ts";
import { type AuditSink, auditSinkKind } from "../../crds/auditsink.ts";
import type { Controller, OwnedConditionType } from "../runtime/controller.ts";
import { resourceType } from "../runtime/resource-type.ts";
import { type Action, decide, type Observed } from "./decide.ts";
import { type CredentialSource, sinkTarget } from "./target.ts";

export interface AuditSinkControllerDependencies extends CredentialSource {
  readonly audit: Pick<AuditLog, "chain" | "checkpoints" | "head">;
  readonly cursors: SinkCursors;
  readonly sinks: AuditSinks;
  readonly installation: string;
  readonly writer: () => Writer;
}

/** How a sink stands, for metrics. */
export interface SinkState {
  readonly name: string;
  /** Rows that wait. */
  readonly rows: number;
  /** For how long it has not had everything; 0 when it has. */
  readonly seconds: number;
}

/** Others want a worker too. */
const SLICE_MS = 5_000;
/** A credential that was replaced is taken up by then, and after a failure at once. */
const FRESH_MS = 60_000;

interface Opened {
  readonly sink: Target;
  readonly uid: string;
  readonly generation: number | undefined;
  readonly at: number;
}

export class AuditSinkController implements Controller<AuditSink, Observed, Action, SinkCursor> {
  readonly name = "auditsink";
  readonly fieldManager = "mazevault-auditsink";
  readonly resource = resourceType(auditSinkKind);
  readonly #deps: AuditSinkControllerDependencies;
  readonly #opened = new Map<string, Opened>();
  readonly #behind = new Map<string, { readonly rows: number; readonly since: number }>();

  constructor(deps: AuditSinkControllerDependencies) {
    this.#deps = deps;
  }

  get states(): readonly SinkState[] {
    const now = performance.now();
    return [...this.#behind].map(([name, { rows, since }]) => ({
      name,
      rows,
      seconds: rows === 0 ? 0 : (now - since) / 1_000,
    }));
  }

  async observe(resource: AuditSink, signal: AbortSignal): Promise<Observed> {
    const { audit, cursors, writer } = this.#deps;
    const { name, uid } = resource.metadata;
    // First: nothing may leave the record that a sink lacks, also one that cannot be opened.
    const cursor = await cursors.open(writer(), uid, name);
    await this.#open(resource, signal);
    const { position: head } = await audit.head();
    const [next] = await audit.checkpoints(cursor.checkpoint, 1);
    this.#count(name, Number(head - cursor.position));
    return { cursor, head, signed: next !== undefined && next.position <= head, tried: false };
  }

  decide = decide;

  async perform({ name, uid, cursor, head }: Action, signal: AbortSignal): Promise<SinkCursor> {
    const { audit, cursors, installation, writer } = this.#deps;
    const opened = this.#opened.get(name);
    if (opened === undefined) throw new Unavailable("Failed", `audit sink ${name} was not opened`);
    const delivery = { audit, cursors, sink: opened.sink, installation, writer: writer(), uid };
    try {
      const moved = await deliver(delivery, cursor, performance.now() + SLICE_MS, signal);
      this.#count(name, Number(head > moved.position ? head - moved.position : 0n));
      return moved;
    } catch (error) {
      await this.#close(name);
      throw waiting(error, this.#behind.get(name)?.rows ?? 0);
    }
  }

  learn(seen: Observed, _action: Action, cursor: SinkCursor): Observed {
    const { head, signed } = seen;
    return { cursor, head, signed: signed && cursor.checkpoint === seen.cursor.checkpoint, tried: true };
  }

  conditionFor(): OwnedConditionType {
    return "Delivering";
  }

  async absent(name: string): Promise<void> {
    await this.#close(name);
    await this.#deps.cursors.forget(this.#deps.writer(), name);
    this.#behind.delete(name);
  }

  /** Another replica leads, and hands over. */
  async forgetAll(): Promise<void> {
    await Promise.all([...this.#opened.keys()].map((name) => this.#close(name)));
    this.#behind.clear();
  }

  async #open(resource: AuditSink, signal: AbortSignal): Promise<void> {
    const { name, uid, generation } = resource.metadata;
    const known = this.#opened.get(name);
    const now = performance.now();
    if (known?.uid === uid && known.generation === generation && now - known.at < FRESH_MS) return;
    await this.#close(name);
    const sink = this.#deps.sinks.open(await sinkTarget(this.#deps, resource, signal));
    this.#opened.set(name, { sink, uid, generation, at: now });
  }

  async #close(name: string): Promise<void> {
    const known = this.#opened.get(name);
    this.#opened.delete(name);
    await known?.sink.close();
  }

  #count(name: string, rows: number): void {
    const known = this.#behind.get(name);
    const since = known === undefined || known.rows === 0 ? performance.now() : known.since;
    this.#behind.set(name, { rows, since });
  }
}

/** The failure, with what waits for its end. */
function waiting(error: unknown, rows: number): unknown {
  const add = (message: string): string => `${message}; ${rows} rows wait, and are handed over when it is well again`;
  if (error instanceof Waiting) return new Waiting(error.code, add(error.message), error.afterMs, { cause: error });
  if (error instanceof Unavailable) return new Unavailable(error.code, add(error.message), { cause: error });
  if (error instanceof Stalled) return new Stalled(error.code, add(error.message), { cause: error });
  return error;
}
