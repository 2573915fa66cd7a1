/**
 * `npm run generate` also writes the dashboards, and puts them and the alerts where the chart can read them: a chart sees its own
 * folder alone. With `--check` it writes nothing, and fails when that would leave a difference.
 */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { boards } from "../deploy/grafana/boards.ts";
import { dashboard } from "../deploy/grafana/panels.ts";

const root = path.join(import.meta.dirname, "..");
const DASHBOARDS = "deploy/grafana";
const ALERTS = "deploy/prometheus/mazevault-alerts.yaml";
const CHART = "charts/mazevault/files/monitoring";

const absent = (error: unknown): boolean => error instanceof Error && "code" in error && error.code === "ENOENT";

/** Undefined where there is none. */
function unlessAbsent<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (absent(error)) return undefined;
    throw error;
  }
}

const current = (file: string): string | undefined => unlessAbsent(() => readFileSync(path.join(root, file), "utf8"));

const listed = (folder: string): readonly string[] =>
  (unlessAbsent(() => readdirSync(path.join(root, folder))) ?? []).map((name) => `${folder}/${name}`);

const outputs = new Map<string, string>([[`${CHART}/${path.basename(ALERTS)}`, current(ALERTS) ?? ""]]);
for (const board of boards) {
  const json = `${JSON.stringify(dashboard(board), undefined, 2)}\n`;
  for (const folder of [DASHBOARDS, CHART]) outputs.set(`${folder}/${board.uid}.json`, json);
}

const superfluous = [...listed(DASHBOARDS).filter((file) => file.endsWith(".json")), ...listed(CHART)].filter(
  (file) => !outputs.has(file),
);
const changed = [...outputs].filter(([file, content]) => current(file) !== content);

if (process.argv.includes("--check")) {
  for (const file of [...changed.map(([name]) => name), ...superfluous])
    console.error(`${file} is not current: npm run generate`);
  process.exitCode = changed.length + superfluous.length > 0 ? 1 : 0;
} else {
  for (const file of superfluous) rmSync(path.join(root, file));
  for (const [file, content] of changed) {
    mkdirSync(path.dirname(path.join(root, file)), { recursive: true });
    writeFileSync(path.join(root, file), content);
  }
}
