/** Requests in the path of a GET (RFC 6960 A.1): base64 of the DER, percent-encoded, and what proxies make of it. */

/** Positions that are tried, so that a path of slashes costs little. */
const MOST_SLASHES = 8;

/** The part of a path that is a request: without `/ocsp`, decoded. Undefined when it is no base64. */
export function requestText(path: string): string | undefined {
  // DER of a request begins with 0x30, base64 with `M`: no slash before it belongs to it.
  const encoded = path.replace(/^\/+(?:ocsp(?:\/+|$))?/, "");
  const text = decodePercent(encoded)?.replaceAll(" ", "+");
  return text !== undefined && /^[A-Za-z0-9+/]*={0,2}$/.test(text) ? text : undefined;
}

/** The same with one slash doubled, for each slash: many proxies make one of two. */
export function* withSlashDoubled(text: string): Generator<string> {
  let at = text.indexOf("/");
  for (let tried = 0; at >= 0 && tried < MOST_SLASHES; tried += 1) {
    yield `${text.slice(0, at)}/${text.slice(at)}`;
    at = text.indexOf("/", at + 1);
  }
}

function decodePercent(text: string): string | undefined {
  if (!text.includes("%")) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    return undefined;
  }
}
