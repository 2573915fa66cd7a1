/** Shapes of what goes to and comes from the Kubernetes API. */
import type { ConnectionOptions } from "./connection.ts";
import type { ResourceType } from "./resource-type.ts";

export interface ApiRequest {
  readonly method: "GET" | "POST" | "PUT" | "PATCH" | "DELETE";
  readonly path: string;
  readonly query?: Readonly<Record<string, string | number | boolean | undefined>>;
  /** Sent as JSON, which is YAML too. */
  readonly body?: unknown;
  readonly contentType?: string;
  readonly accept?: string;
  readonly signal?: AbortSignal | undefined;
  /** Until the first byte of the answer, and between two chunks of it. */
  readonly timeoutMs?: number | undefined;
  /** For metrics and messages. */
  readonly verb?: string;
  readonly type?: ResourceType;
}

export interface ApiResponse {
  readonly status: number;
  /** Whatever JSON came; `undefined` for an empty answer, a string when it is not JSON. */
  readonly body: unknown;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
}

/** One call, for metrics: `code` is the HTTP status, or `error` when no answer came. */
export interface ApiCall {
  readonly target: "kubernetes";
  readonly verb: string;
  readonly resource: string;
  readonly code: string;
  readonly seconds: number;
}

export interface KubernetesApiOptions extends ConnectionOptions {
  readonly onCall?: (call: ApiCall) => void;
}

export interface ObjectKey {
  readonly name: string;
  /** Absent for cluster-scoped kinds. */
  readonly namespace?: string | undefined;
}

export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  readonly timeoutMs?: number;
  /** Ask for metadata only: smaller answers, and values stay away. Then the answer has no spec, data or status. */
  readonly metadataOnly?: boolean;
}

export interface ListOptions extends CallOptions {
  /** All namespaces when absent. */
  readonly namespace?: string | undefined;
  readonly labelSelector?: string | undefined;
  readonly fieldSelector?: string | undefined;
  /** Objects per page; 0 for all at once. */
  readonly limit?: number;
}

export interface ListPage<T> {
  readonly items: readonly T[];
  /** Of the list as a whole: where a watch goes on. */
  readonly resourceVersion: string;
}

export interface ApplyOptions extends CallOptions {
  readonly fieldManager: string;
  /** Take over fields that another manager owns. */
  readonly force?: boolean;
}

export interface WatchOptions {
  readonly namespace?: string | undefined;
  readonly labelSelector?: string | undefined;
  readonly fieldSelector?: string | undefined;
  readonly metadataOnly?: boolean;
  /** Where to go on. Absent: all objects as ADDED, then a bookmark annotated `k8s.io/initial-events-end`, then changes. */
  readonly resourceVersion: string | undefined;
  /** After which the server ends the watch. */
  readonly timeoutSeconds: number;
  /** Without any byte for so long, the connection is taken for dead. Must exceed the bookmark period of a minute. */
  readonly inactivityMs: number;
  readonly signal: AbortSignal;
  /** The API server has accepted the watch. */
  readonly onOpen?: () => void;
}

export interface Preconditions {
  readonly uid?: string;
  readonly resourceVersion?: string;
}

export type JsonPatch = readonly (
  | { readonly op: "test" | "add" | "replace"; readonly path: string; readonly value: unknown }
  | { readonly op: "remove"; readonly path: string }
)[];

/** What is sent: identity and whatever else the verb needs. */
export interface WritableObject {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly [field: string]: unknown };
  readonly [field: string]: unknown;
}
