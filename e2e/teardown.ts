import { rmSync } from "node:fs";
import path from "node:path";
import { resetLab } from "../lab/lab.ts";

export default async function teardown(): Promise<void> {
  const { MAZEVAULT_PREPARED: dir = "" } = process.env;
  await resetLab(path.join(dir, "lab"));
  rmSync(dir, { recursive: true, force: true });
}
