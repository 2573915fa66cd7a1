import { readdirSync, rmSync } from "node:fs";
import path from "node:path";
import { removeServer } from "./server.ts";

export default function teardown(): void {
  const { MAZEVAULT_SERVERS: dir = "" } = process.env;
  for (const name of readdirSync(dir)) removeServer(path.join(dir, name));
  rmSync(dir, { recursive: true, force: true });
}
