// By shape and not by `instanceof`: Jest runs tests in a realm of its own, where errors of Node's are of another Error.

/** The `code` that Node gives system errors, such as ENOENT. */
export function errorCode(error: unknown): string | undefined {
  return isObject(error) && "code" in error && typeof error.code === "string" ? error.code : undefined;
}

/** The message, followed by that of the cause where there is one: fetch, for example, says why only there. */
export function errorMessage(error: unknown): string {
  const own = plainMessage(error);
  const cause = isObject(error) && "cause" in error && error.cause ? plainMessage(error.cause) : "";
  return cause === "" || own.includes(cause) ? own : `${own} (${cause})`;
}

function plainMessage(error: unknown): string {
  if (!isObject(error) || !("message" in error)) return String(error);
  if (error.message) return String(error.message);
  // Where all addresses of a name refused, the message is empty.
  return errorCode(error) ?? String(error);
}

function isObject(value: unknown): value is object {
  return typeof value === "object" && value !== null;
}
