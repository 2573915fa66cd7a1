/** The alerts as Prometheus itself reads and evaluates them (promtool), and whether what they lean on exists. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import type { Command } from "commander";
import { parse, stringify } from "yaml";
import type { Terminal } from "../cli/output.ts";
import { program } from "../cli/program.ts";
import { ask, programOf } from "../core/pki/testing/judges/programs.ts";
import { kinds } from "../crds/index.ts";
import { findPackage, testPackages } from "../lab/setup/packages.ts";
import { routes } from "../operator/rest/routes/index.ts";
import { judge } from "./promql.ts";
import { knownSeries } from "./series.ts";

const root = path.join(import.meta.dirname, "..");
const folder = path.join(root, "deploy/prometheus");
const RULES = "mazevault-alerts.yaml";
const TESTS = "mazevault-alerts.test.yaml";
const runbooks = path.join(root, "docs/runbooks");

interface Rule {
  readonly alert: string;
  readonly expr: string;
  readonly for?: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly annotations: Readonly<Record<string, string>>;
}

interface Rules {
  readonly groups: readonly { readonly name: string; readonly rules: readonly Rule[] }[];
}

interface Tests {
  readonly tests: readonly {
    readonly input_series?: readonly { readonly series: string }[];
    readonly alert_rule_test: readonly {
      readonly alertname: string;
      readonly eval_time: string;
      readonly exp_alerts: readonly unknown[];
    }[];
  }[];
}

const read = (file: string): string => readFileSync(file, "utf8");
const given = parse(read(path.join(folder, RULES))) as Rules;
const tests = parse(read(path.join(folder, TESTS))) as Tests;
const rules = given.groups.flatMap((group) => group.rules);
const names = rules.map(({ alert }) => alert);

const promtool = programOf(findPackage(testPackages.prometheus), testPackages.prometheus.program);

async function prometheusSays(...args: readonly string[]) {
  if (promtool === undefined) throw new Error("there is no promtool; npm test obtains it");
  return ask(promtool, args);
}

/** Of the tests, with other rules. */
async function testedWith(change: (rule: Rule) => Rule): Promise<string> {
  const dir = mkdtempSync(path.join(tmpdir(), "mazevault-alerts-"));
  try {
    const groups = given.groups.map((group) => ({ ...group, rules: group.rules.map(change) }));
    writeFileSync(path.join(dir, RULES), stringify({ groups }));
    writeFileSync(path.join(dir, TESTS), read(path.join(folder, TESTS)));
    const { ok, output } = await prometheusSays("test", "rules", path.join(dir, TESTS));
    expect(ok).toBe(false);
    return output;
  } finally {
    rmSync(dir, { recursive: true });
  }
}

const blamed = (output: string): ReadonlySet<string> =>
  new Set([...output.matchAll(/alertname: (\w+)/g)].map(([, name = ""]) => name));

describe("what Prometheus says", () => {
  test("the rules are well-formed", async () => {
    const { ok, output } = await prometheusSays(
      "check",
      "rules",
      "--lint=all",
      "--lint-fatal",
      path.join(folder, RULES),
    );
    expect({ ok, output }).toEqual({ ok: true, output: expect.stringContaining(`${rules.length} rules found`) });
  });

  test("each alert is told when it should be, and no sooner", async () => {
    const { ok, output } = await prometheusSays("test", "rules", path.join(folder, TESTS));
    expect({ ok, output }).toEqual({ ok: true, output: expect.stringContaining("SUCCESS") });
  });

  test("the tests notice each threshold that is moved to the value itself", async () => {
    const thresholds = rules.filter(({ expr }) => /[<>] [\d.]/.test(expr));
    const moved = ({ expr, ...rule }: Rule): Rule => ({ ...rule, expr: expr.replace(/([<>]) (?=[\d.])/g, "$1= ") });
    const found = blamed(await testedWith(moved));
    expect(thresholds.map(({ alert }) => alert).filter((name) => !found.has(name))).toEqual([]);
    expect(thresholds.length).toBeGreaterThan(10);
  });

  test("they notice each time that is left out", async () => {
    const found = blamed(await testedWith(({ for: _, ...rule }) => rule));
    const timed = rules.filter((rule) => rule.for !== undefined).map(({ alert }) => alert);
    expect(timed.filter((name) => !found.has(name))).toEqual([]);
  });

  test("they notice each alert that is never told", async () => {
    const found = blamed(await testedWith((rule) => ({ ...rule, expr: `(${rule.expr}) and on () vector(0) == 1` })));
    expect(names.filter((name) => !found.has(name))).toEqual([]);
  });
});

test("each alert has a test in which it is told, one before in which it is not, and one after", () => {
  for (const name of names) {
    const told = tests.tests
      .map(({ alert_rule_test: looks }) => looks.filter(({ alertname }) => alertname === name))
      .filter((looks) => looks.length > 0)
      .map((looks) => looks.map(({ exp_alerts: alerts }) => (alerts.length > 0 ? "told" : "silent")).join(" "));
    expect({ name, told: told.some((order) => /^silent .*told .*silent$/.test(order)) }).toEqual({ name, told: true });
  }
});

test.each(rules.map((rule) => [rule.alert, rule] as const))("%s says what to do", (name, { labels, annotations }) => {
  expect(["critical", "warning"]).toContain(labels.severity);
  expect(Object.keys(annotations).toSorted()).toEqual(["description", "runbook_url", "summary"]);
  expect(annotations.runbook_url).toBe(`docs/runbooks/${name}.md`);
  const page = read(path.join(root, annotations.runbook_url ?? ""));
  expect(page.split("\n")[0]).toBe(`# ${name}`);
  const headings = [...page.matchAll(/^## (.*)$/gm)].map(([, heading]) => heading);
  expect(headings).toEqual(["What users feel", "Find the cause", "What to do", "When it ends"]);
});

test("each page belongs to an alert, and the list of them is complete", () => {
  const pages = readdirSync(runbooks).map((file) => file.replace(/\.md$/, ""));
  expect(pages.toSorted()).toEqual([...names, "README"].toSorted());
  const listed = [...read(path.join(runbooks, "README.md")).matchAll(/^\| \[(\w+)\]\(\1\.md\) \(`(\w+)`\)/gm)];
  const said = rules.map(({ alert, labels }) => `${alert} ${labels.severity}`);
  expect(listed.map(([, name, severity]) => `${name} ${severity}`).toSorted()).toEqual(said.toSorted());
});

test("each series and label that rules, their texts and their tests name is one of a program, and used as what it is", async () => {
  const known = await knownSeries();
  const unknown: string[] = [];
  for (const { alert, expr, annotations } of rules) {
    const { problems, labels } = judge(expr, known);
    unknown.push(...problems.map((problem) => `${alert}: ${problem}`));
    for (const [, label = ""] of Object.values(annotations)
      .join(" ")
      .matchAll(/\$labels\.(\w+)/g))
      if (!labels.has(label)) unknown.push(`${alert}: its text names ${label}, which the result does not have`);
  }
  for (const { series } of tests.tests.flatMap(({ input_series = [] }) => input_series)) {
    // A series of a test is never a rate.
    const problems = judge(`absent(${series})`, known).problems;
    unknown.push(...problems.filter((problem) => !problem.includes(" is a ")).map((problem) => `test: ${problem}`));
  }
  expect(unknown).toEqual([]);
});

const terminal = { stdout: process.stdout, stderr: process.stderr, env: {} } as unknown as Terminal;

/** The words of a command line after its name, as far as they are commands. */
function unknownCommand(words: readonly string[]): string | undefined {
  let at: Command = program(terminal);
  for (const word of words) {
    if (word.startsWith("-")) {
      const [flag] = word.split("=");
      if (!at.options.some(({ long, short }) => long === flag || short === flag)) return word;
      continue;
    }
    const next = at.commands.find((command) => command.name() === word);
    if (next !== undefined) at = next;
    else if (at.commands.length > 0) return word;
  }
  return undefined;
}

describe("the commands of the pages exist", () => {
  const pages = readdirSync(runbooks).map((file) => [file, read(path.join(runbooks, file))] as const);
  const codeOf = (page: string): readonly string[] => [
    ...[...page.matchAll(/^```sh(?:ell)?\n([\s\S]*?)^```$/gm)].flatMap(([, block = ""]) => block.trim().split("\n")),
    ...[...page.replaceAll(/^```[\s\S]*?^```$/gm, "").matchAll(/`([^`\n]+)`/g)].map(([, code = ""]) => code),
  ];
  const plurals = new Set(["mazevault", ...kinds.map(({ plural }) => `${plural}.mazevault.io`)]);
  const served = routes.map(({ path: at }) => new RegExp(`^${at.replaceAll(/\{\w+\}/g, "[^/]+")}$`));

  test.each(pages)("of %s", (_, page) => {
    const wrong: string[] = [];
    for (const line of codeOf(page)) {
      const [, words] = /(?:^|\| )mazevault (.+?)(?: \||$)/.exec(line) ?? [];
      const unknown = words && unknownCommand(words.split(" ").filter((word) => !/^[A-Z\d]+$/.test(word)));
      if (unknown) wrong.push(`${line}: ${unknown}`);
      for (const [kind] of line.matchAll(/\b[a-z]+\.mazevault\.io\b/g)) if (!plurals.has(kind)) wrong.push(kind);
      for (const [route] of line.matchAll(/\/api\/v1\/[\w/-]+/g))
        if (!served.some((pattern) => pattern.test(route))) wrong.push(route);
    }
    expect(wrong).toEqual([]);
    for (const [, file = ""] of page.matchAll(/\]\(([^)#:]+)(?:#[^)]*)?\)/g)) read(path.join(runbooks, file));
  });
});
