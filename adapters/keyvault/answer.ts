/** What came back from the wire, reduced to what may be shown: numbers, codes and ids, never text of the service. */
import type { PipelineResponse } from "@azure/core-rest-pipeline";

export interface Answer {
  readonly status: number;
  /** `Forbidden`, `Conflict`, `invalid_client`. */
  readonly code?: string;
  /** `ForbiddenByRbac`, `ObjectIsDeletedButRecoverable`, `AADSTS7000215`. */
  readonly detail?: string;
  /** Under this id Microsoft's support finds the request. */
  readonly requestId?: string;
  /** What the service's clock said. */
  readonly date?: string;
}

/** One attempt on the wire: an answer, or why there was none (`ECONNRESET`, `timeout`). */
export type Attempt = Answer | { readonly fault: string };

export function vaultAnswer(response: PipelineResponse): Answer {
  const error = field(parse(response), "error");
  return compact({
    status: response.status,
    code: safe(field(error, "code")),
    detail: safe(field(field(error, "innererror"), "code")),
    requestId: safe(response.headers.get("x-ms-request-id")),
    date: response.headers.get("Date"),
  });
}

export function tokenAnswer(response: PipelineResponse): Answer {
  const body = parse(response);
  const codes = field(body, "error_codes");
  const number = Array.isArray(codes) ? codes.find((each) => Number.isInteger(each)) : undefined;
  return compact({
    status: response.status,
    code: safe(field(body, "error")),
    detail: number === undefined ? undefined : `AADSTS${number}`,
    requestId: safe(field(body, "correlation_id")),
  });
}

/** `403 Forbidden, ForbiddenByRbac`. The same for the same failure: a request's id would make status change with each attempt. */
export function describe(attempt: Attempt): string {
  if ("fault" in attempt) return attempt.fault;
  const { status, code, detail } = attempt;
  const words = [code === undefined ? `${status}` : `${status} ${code}`, detail];
  return words.filter((word) => word !== undefined).join(", ");
}

/** The name of a network error, without its text. */
export function faultOf(error: unknown): string {
  const code = field(error, "code");
  const name = error instanceof Error ? error.name : undefined;
  return safe(code) ?? safe(name) ?? "unknown error";
}

function parse(response: PipelineResponse): unknown {
  if (response.status < 400 || !response.bodyAsText) return undefined;
  try {
    return JSON.parse(response.bodyAsText);
  } catch {
    return undefined;
  }
}

const field = (value: unknown, name: string): unknown =>
  typeof value === "object" && value !== null ? (value as Record<string, unknown>)[name] : undefined;

const safe = (value: unknown): string | undefined =>
  typeof value === "string" && /^[A-Za-z0-9_.-]{1,64}$/.test(value) ? value : undefined;

const compact = (answer: { [Key in keyof Answer]: Answer[Key] | undefined } & { status: number }): Answer =>
  Object.fromEntries(Object.entries(answer).filter(([, value]) => value !== undefined)) as unknown as Answer;
