/**
 * `npm run generate` also writes the pages of the reference that come from the programs, and the list of decisions; with `--check` it
 * fails when that would leave a difference.
 */
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { program } from "../cli/program.ts";
import { openApiDocument } from "../operator/rest/openapi.ts";
import { routes } from "../operator/rest/routes/index.ts";
import { VERSION } from "../program/version.ts";
import { cliPage } from "./reference/cli.ts";
import { configurationPage } from "./reference/configuration.ts";
import { decisionsPage } from "./reference/decisions.ts";
import { type OpenApiDocument, restPage } from "./reference/rest.ts";

const docs = path.join(import.meta.dirname, "../docs");
const current = (file: string): string => {
  const where = path.join(docs, file);
  return existsSync(where) ? readFileSync(where, "utf8") : "";
};

const { stdout, stderr, stdin } = process;
const decisions = readdirSync(path.join(docs, "adr")).filter((name) => /^\d/.test(name));

const wanted = {
  "reference/rest.md": restPage(openApiDocument(routes, VERSION) as unknown as OpenApiDocument),
  "reference/cli.md": cliPage(program({ stdout, stderr, stdin, env: {} })),
  "reference/configuration.md": configurationPage(),
  "adr/README.md": decisionsPage(decisions.map((name) => ({ name, text: current(`adr/${name}`) }))),
};

for (const [file, content] of Object.entries(wanted)) {
  if (!process.argv.includes("--check")) writeFileSync(path.join(docs, file), content);
  else if (current(file) !== content) {
    console.error(`docs/${file} is not current: npm run generate`);
    process.exitCode = 1;
  }
}
