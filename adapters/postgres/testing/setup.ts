/** Before all tests: room for what the server of each file begins with, see `startServer`. */
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

export default function setup(): void {
  // The workers inherit it.
  process.env.MAZEVAULT_SERVERS = mkdtempSync(path.join(tmpdir(), "mazevault-servers-"));
}
