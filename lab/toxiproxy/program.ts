/** The program of toxiproxy, built once for all checkouts. */
import { execFile } from "node:child_process";
import { chmodSync, existsSync, mkdtempSync, readdirSync, renameSync, rmSync } from "node:fs";
import path from "node:path";
import { promisify } from "node:util";
import { cacheDir } from "../cache.ts";
import { buildGo } from "../go.ts";
import { waitForLock } from "../lock.ts";

/** go.mod in `gomod/` pins the same. */
export const toxiproxyVersion = "2.12.0";

const NAME = "toxiproxy-server";
const DRAFT_PREFIX = ".new-";

const folder = (): string => cacheDir("toxiproxy", toxiproxyVersion);

/** Where it is, when this machine has it. */
export function findToxiproxy(): string | undefined {
  const file = path.join(folder(), NAME);
  return existsSync(file) ? file : undefined;
}

/** Finds or builds it: some seconds, the result is kept. @throws with the reason, for a person */
export async function obtainToxiproxy(report: (line: string) => void = () => {}): Promise<string> {
  const found = findToxiproxy();
  if (found !== undefined) return found;
  const dir = folder();
  const lock = await waitForLock(path.join(dir, "lock"), ({ pid }) =>
    report(`waiting for process ${pid}, which is building toxiproxy already`),
  );
  try {
    return findToxiproxy() ?? (await build(dir, report));
  } finally {
    lock.release();
  }
}

async function build(dir: string, report: (line: string) => void): Promise<string> {
  // Of a holder of the lock that was killed.
  for (const name of readdirSync(dir).filter((each) => each.startsWith(DRAFT_PREFIX)))
    rmSync(path.join(dir, name), { recursive: true });
  const draft = path.join(mkdtempSync(path.join(dir, DRAFT_PREFIX)), NAME);
  try {
    const module = "github.com/Shopify/toxiproxy/v2";
    const program = {
      name: `toxiproxy ${toxiproxyVersion}`,
      module: path.join(import.meta.dirname, "gomod"),
      package: `${module}/cmd/server`,
      linkerFlags: `-s -w -X ${module}.Version=${toxiproxyVersion}`,
    };
    report("building toxiproxy from source (the result is kept)");
    await buildGo(program, draft, report);
    chmodSync(draft, 0o755);
    const { stdout } = await promisify(execFile)(draft, ["--version"], { timeout: 30_000 });
    if (!stdout.trimEnd().endsWith(` ${toxiproxyVersion}`)) throw new Error(`it calls itself ${stdout.trim()}`);
    const file = path.join(dir, NAME);
    renameSync(draft, file);
    return file;
  } finally {
    rmSync(path.dirname(draft), { recursive: true, force: true });
  }
}
