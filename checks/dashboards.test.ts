/** Dashboards show what exists, as what it is, and nothing that exists is forgotten. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { parse, stringify } from "yaml";
import { ask, programOf } from "../core/pki/testing/judges/programs.ts";
import { findPackage, testPackages } from "../lab/setup/packages.ts";
import { allMetrics, seriesOf } from "./metrics.ts";
import { judge } from "./promql.ts";
import { knownSeries } from "./series.ts";

const root = path.join(import.meta.dirname, "..");
const folder = path.join(root, "deploy/grafana");
const RULES = path.join(root, "deploy/prometheus/mazevault-alerts.yaml");

interface Panel {
  readonly id: number;
  readonly type: string;
  readonly title: string;
  readonly description?: string;
  readonly gridPos: { readonly x: number; readonly y: number; readonly w: number; readonly h: number };
  readonly fieldConfig?: { readonly defaults: { readonly unit?: string } };
  readonly links?: readonly { readonly url: string }[];
  readonly targets?: readonly { readonly refId: string; readonly expr: string; readonly legendFormat?: string }[];
}

interface Dashboard {
  readonly uid: string;
  readonly title: string;
  readonly panels: readonly Panel[];
}

const files = readdirSync(folder).filter((file) => file.endsWith(".json"));
const dashboards = files.map((file) => JSON.parse(readFileSync(path.join(folder, file), "utf8")) as Dashboard);
const alerts = (
  parse(readFileSync(RULES, "utf8")) as { groups: { rules: { alert: string; expr: string }[] }[] }
).groups.flatMap(({ rules }) => rules);
const panels = dashboards.flatMap(({ uid, panels: all }) =>
  all.filter(({ type }) => type !== "row").map((panel) => ({ where: `${uid}: ${panel.title}`, ...panel })),
);

/** As Prometheus gets it from Grafana. */
const filledIn = (expr: string): string => expr.replaceAll("$__rate_interval", "5m").replaceAll("$namespace", ".*");

/** Metrics that are for another purpose than a person on call, with it. */
const ELSEWHERE: Readonly<Record<string, string>> = {};

test("each series, label, function and legend makes sense of what the programs tell", async () => {
  const known = new Map([
    ...(await knownSeries()),
    ["ALERTS", { type: "gauge", labels: new Set(["alertname", "alertstate", "severity"]) } as const],
  ]);
  const wrong: string[] = [];
  for (const { where, targets = [] } of panels) {
    for (const { expr, legendFormat = "" } of targets) {
      const { problems, labels } = judge(filledIn(expr), known);
      wrong.push(...problems.map((problem) => `${where}: ${problem}`));
      for (const [, label = ""] of legendFormat.matchAll(/\{\{(\w+)\}\}/g))
        if (!labels.has(label)) wrong.push(`${where}: its legend names ${label}, which the result does not have`);
    }
  }
  expect(wrong).toEqual([]);
});

test("Prometheus takes each expression", async () => {
  const promtool = programOf(findPackage(testPackages.prometheus), testPackages.prometheus.program);
  if (promtool === undefined) throw new Error("there is no promtool; npm test obtains it");
  const rules = panels.flatMap(({ targets = [] }) => targets.map(({ expr }) => filledIn(expr)));
  const groups = [{ name: "panels", rules: rules.map((expr, at) => ({ record: `panel_${at}`, expr })) }];
  const dir = mkdtempSync(path.join(tmpdir(), "mazevault-dashboards-"));
  try {
    const file = path.join(dir, "rules.yaml");
    writeFileSync(file, stringify({ groups }));
    const { ok, output } = await ask(promtool, ["check", "rules", "--lint=all", file]);
    expect({ ok, output }).toEqual({ ok: true, output: expect.stringContaining(`${rules.length} rules found`) });
  } finally {
    rmSync(dir, { recursive: true });
  }
});

test("each metric is on a dashboard, in an alert, or elsewhere for a reason", async () => {
  const known = await knownSeries();
  const expressions = [...panels.flatMap(({ targets = [] }) => targets), ...alerts].map(({ expr }) => filledIn(expr));
  const used = new Set(expressions.flatMap((expr) => [...judge(expr, known).series]));
  const metrics = [...(await allMetrics()).values()].flat();
  const forgotten = metrics.filter((metric) => !seriesOf(metric).some((series) => used.has(series)));
  expect([...new Set(forgotten.map(({ name }) => name))]).toEqual(Object.keys(ELSEWHERE));
});

test("each alert is linked from the panels about the same, and each link leads to a runbook", () => {
  const pages = readdirSync(path.join(root, "docs/runbooks")).map((file) => `docs/runbooks/${file}`);
  const links = panels.flatMap(({ links: all = [] }) => all.map(({ url }) => url));
  expect(links.filter((url) => !pages.includes(url))).toEqual([]);
  expect(alerts.map(({ alert }) => `docs/runbooks/${alert}.md`).filter((url) => !links.includes(url))).toEqual([]);
});

test.each(dashboards.map((dashboard) => [dashboard.uid, dashboard] as const))(
  "%s can be read: descriptions, units, ids, no two panels in one place",
  (uid, { panels: all }) => {
    expect(files).toContain(`${uid}.json`);
    expect(uid.length).toBeLessThanOrEqual(40);
    expect(new Set(all.map(({ id }) => id)).size).toBe(all.length);
    const cells = all.flatMap(({ gridPos: { x, y, w, h } }) => {
      expect(x + w).toBeLessThanOrEqual(24);
      return Array.from({ length: w * h }, (_, at) => `${x + (at % w)},${y + Math.floor(at / w)}`);
    });
    expect(new Set(cells).size).toBe(cells.length);
    for (const { type, title, description = "", fieldConfig, targets = [] } of all) {
      if (type === "row") continue;
      expect({ title, description }).toEqual({ title, description: expect.stringMatching(/^.{15,}\.$/) });
      const unit = fieldConfig?.defaults.unit;
      for (const { expr } of targets) expect({ title, unit: unit ?? "" }).toEqual({ title, unit: unitOf(expr, unit) });
    }
  },
);

/** What the names of metrics and the outermost function say. */
function unitOf(expr: string, said: string | undefined): unknown {
  if (said === "percentunit") return said;
  if (/^count/.test(expr) || /^60 \*/.test(expr)) return "none";
  if (/_seconds(_bucket)?\b/.test(expr)) return "s";
  if (/_bytes\b/.test(expr)) return "bytes";
  return /\brate\(/.test(expr) ? expect.stringMatching(/^(ops|reqps)$/) : "none";
}
