/** `jest.config.mjs` leaves this file out where there is no Helm. */
import { appendFileSync, cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { helm } from "../../lab/packaging/programs.ts";
import { findGoProgram } from "../../lab/setup/go-program.ts";
import { Chart } from "../chart.ts";
import { sentence } from "./break.ts";
import type { Schema } from "./schemas.ts";
import { RELEASED, root } from "./surfaces.ts";
import { brokenByRendering } from "./values.ts";

const settings = JSON.parse(readFileSync(path.join(RELEASED, "settings.json"), "utf8")) as Schema;
let dir: string;
beforeEach(() => {
  dir = mkdtempSync(path.join(tmpdir(), "mazevault-values-"));
  cpSync(path.join(root, "charts/mazevault"), dir, { recursive: true });
});
afterEach(() => rmSync(dir, { recursive: true }));

/** With the values of the last release that say least. */
async function broken(): Promise<readonly string[]> {
  const sets = path.join(dir, "sets");
  cpSync(path.join(RELEASED, "values/minimal-values.yaml"), path.join(sets, "minimal-values.yaml"));
  const chart = new Chart(dir, findGoProgram(helm) ?? "", sets);
  return (await brokenByRendering(chart, settings)).map(sentence);
}

/** After `line` of a template. */
function insert(template: string, line: string, more: string): void {
  const file = path.join(dir, "templates", template);
  const text = readFileSync(file, "utf8");
  if (!text.includes(line)) throw new Error(`${template} has no line ${line}`);
  writeFileSync(file, text.replace(line, `${line}\n${more}`));
}

test("a chart that puts settings there which the last release does not know is found, by program", async () => {
  insert("_settings.tpl", "mode: {{ $values.mode }}", "later: {is: new}");
  insert("_settings.tpl", "  user: {{ .ocsp.database.user | quote }}", "  poolSize: 0");
  expect(await broken()).toEqual([
    expect.stringMatching(/^minimal-values\.yaml\.mazevault-\w+: is not what the last release reads: .*later/),
    expect.stringMatching(/^minimal-values\.yaml\.mazevault-\w+: is not what the last release reads: .*later/),
    expect.stringMatching(
      /^minimal-values\.yaml\.mazevault-ocsp\.database\.poolSize: is not what the last release reads/,
    ),
  ]);
});

test("one that demands a value more is found", async () => {
  appendFileSync(path.join(dir, "templates/rest.yaml"), '{{ required "rest.more: required" .Values.rest.more }}\n');
  expect(await broken()).toEqual([
    expect.stringMatching(/^minimal-values\.yaml: cannot be rendered: .*rest\.more: required/s),
  ]);
});

test("the one that is released is none of it", async () => {
  expect(await broken()).toEqual([]);
});
