/**
 * What is done, as spans that a receiver of traces gets. They say what logs may say: kinds, names of objects, operations and
 * codes; never a value, a path or a statement as it was sent, or the text of an error.
 */
export type Attributes = Readonly<Record<string, string | number | boolean | undefined>>;

/** W3C Trace Context, level 1: `00-`, 32 hex digits of the trace, `-`, 16 of the span, `-`, flags. */
export type TraceParent = string;

export interface Begun {
  /** server: somebody waits for the answer. */
  readonly kind: "internal" | "server";
  readonly attributes: Attributes;
  /** What a caller sent; what is none is passed over. */
  readonly parent?: TraceParent | undefined;
  /** What it is done for, in a trace of its own. */
  readonly cause?: TraceParent | undefined;
}

/** A call to another program, once it has ended. */
export interface TracedCall {
  readonly target: string;
  readonly operation: string;
  /** A status, `ok`, or why there is none. */
  readonly code: string;
  readonly seconds: number;
  /** Whom of several it was to. */
  readonly host?: string | undefined;
}

/**
 * What is under way is known by the asynchronous context, until its work has ended. `error.type` among the attributes marks a
 * span as failed.
 */
export interface Tracer {
  /** The first span of a trace here, whatever else is under way. */
  trace<T>(name: string, begun: Begun, work: () => Promise<T>): Promise<T>;
  /** A part of what is under way, by which another program is asked; where nothing is, `work` alone. */
  span<T>(name: string, attributes: Attributes, work: () => Promise<T>): Promise<T>;
  /** A part of what is under way that has ended; nothing where nothing is. */
  called(call: TracedCall): void;
  /** Adds to the span that is under way. */
  note(attributes: Attributes): void;
  /** Undefined where nothing is under way, or it is not among those that are sampled. */
  current(): TraceParent | undefined;
}

export const traceIdOf = (parent: TraceParent): string => parent.slice(3, 35);

/** What a caller did wrong is no failure of who answers. */
export const answeredWith = (status: number): Attributes => ({
  "http.response.status_code": status,
  "error.type": status >= 500 ? `${status}` : undefined,
});
