/** What a new OpenAPI document takes away from those who call REST by the one of the last release, as oasdiff tells it. */
import path from "node:path";
import { run } from "../run.ts";
import { type Break, KEEP } from "./break.ts";

/** Beyond what it takes for breaking by itself. */
const severities = path.join(import.meta.dirname, "oasdiff-severities.txt");
/** INFO is 1. */
const WARN = 2;

/** The part of its report that is read. */
interface Finding {
  readonly text: string;
  readonly comment?: string;
  readonly level: number;
  readonly operation?: string;
  readonly path?: string;
}

/**
 * @param program oasdiff
 * @param released file of the document of the last release
 * @param now file of the one of today
 * @throws with what it says where it cannot read one
 */
export async function brokenByDocument(program: string, released: string, now: string): Promise<readonly Break[]> {
  const options = ["--format", "json", "--severity-levels", severities, "--allow-external-refs=false"];
  const { ok, stdout, output } = await run(program, ["breaking", ...options, released, now]);
  if (!ok) throw new Error(`oasdiff: ${output}`);
  const findings = (stdout.trim() === "" ? [] : JSON.parse(stdout)) as readonly Finding[];
  return findings
    .filter(({ level }) => level >= WARN)
    .map(({ text, comment, operation, path: route }) => ({
      path: [operation, route].filter((part) => part !== undefined).join(" ") || "REST",
      change: text.replaceAll("`", ""),
      fix: comment ?? KEEP,
    }));
}
