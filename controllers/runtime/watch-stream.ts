/** The watch protocol of the API server: one JSON object per line. */
import { apiError } from "./api-error.ts";
import type { KubernetesObject, ResourceType } from "./resource-type.ts";

export interface WatchEvent<T = KubernetesObject> {
  /** A bookmark carries only metadata.resourceVersion: everything up to there has been seen. */
  readonly type: "ADDED" | "MODIFIED" | "DELETED" | "BOOKMARK";
  readonly object: T;
}

const LINE_FEED = 0x0a;

/** Lines without their line feed, cut before decoding so that characters split between chunks stay whole. */
export async function* readLines(chunks: AsyncIterable<Buffer>): AsyncGenerator<string> {
  let pending: Buffer[] = [];
  for await (const chunk of chunks) {
    let start = 0;
    for (let end = chunk.indexOf(LINE_FEED); end >= 0; end = chunk.indexOf(LINE_FEED, start)) {
      pending.push(chunk.subarray(start, end));
      const line = pending.length === 1 && pending[0] ? pending[0] : Buffer.concat(pending);
      pending = [];
      start = end + 1;
      if (line.length > 0) yield line.toString("utf8");
    }
    if (start < chunk.length) pending.push(chunk.subarray(start));
  }
}

/** Throws `ApiError` for an ERROR event and `SyntaxError` (without quoting the line) for what is no event. */
export const watchEvent = <T>(line: string, type: ResourceType): WatchEvent<T> => {
  let event: { type?: unknown; object?: unknown };
  try {
    event = JSON.parse(line);
  } catch {
    // JSON.parse quotes its input, and that may be a value.
    throw new SyntaxError(`the API server sent ${line.length} characters that are no JSON`);
  }
  switch (event.type) {
    case "ADDED":
    case "MODIFIED":
    case "DELETED":
    case "BOOKMARK":
      return { type: event.type, object: event.object as T };
    case "ERROR": {
      const status = (event.object as { code?: unknown } | null)?.code;
      throw apiError({
        status: typeof status === "number" ? status : 500,
        body: event.object,
        type,
        operation: "watch",
      });
    }
    default:
      throw new SyntaxError("the API server sent a watch event of unknown type");
  }
};
