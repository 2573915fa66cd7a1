/** Problems of the channel itself (RFC 9457), before or instead of what its handler would answer. */
import { STATUS_CODES } from "node:http";

export function problemJson(
  status: number,
  code: string,
  detail: string,
): { readonly title: string; readonly contentType: string; readonly text: string } {
  const title = STATUS_CODES[status] ?? "";
  const text = JSON.stringify({ type: "about:blank", title, status, code, detail });
  return { title, contentType: "application/problem+json", text };
}
