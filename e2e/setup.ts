/** Before all tests: what the lab of each file begins with, once. */
import { execFileSync } from "node:child_process";
import { mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { bundle, NODE_ARGUMENTS, OPERATOR } from "../build/bundle.ts";
import { startLab } from "../lab/lab.ts";
import { installMazeVault } from "../lab/mazevault.ts";
import { admitAuthors } from "./authors.ts";

export default async function setup(): Promise<void> {
  const dir = mkdtempSync(path.join(tmpdir(), "mazevault-prepared-"));
  // The workers inherit it, and what they start.
  process.env.MAZEVAULT_PREPARED = dir;
  // A program that was run to its end leaves its compiled code to those that run it later.
  process.env.NODE_COMPILE_CACHE = path.join(dir, "compiled");
  const programs = path.join(dir, "programs");
  await bundle(programs);
  execFileSync(process.execPath, [...NODE_ARGUMENTS, path.join(programs, OPERATOR), "--help"], { stdio: "ignore" });
  const lab = await startLab({ dir: path.join(dir, "lab"), durable: false });
  try {
    await installMazeVault({ lab, cluster: lab.controlPlane, programs });
    await admitAuthors(lab.controlPlane);
  } finally {
    await lab.stop();
  }
}
