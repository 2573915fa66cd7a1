import { homedir } from "node:os";
import path from "node:path";

/** A folder in the user's cache, which all checkouts share. */
export function cacheDir(...parts: string[]): string {
  // As the XDG specification says, an empty or relative value counts as unset.
  const configured = process.env.XDG_CACHE_HOME ?? "";
  const cache = path.isAbsolute(configured) ? configured : path.join(homedir(), ".cache");
  return path.join(cache, "mazevault", ...parts);
}
