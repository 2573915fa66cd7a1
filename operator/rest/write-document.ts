/** `npm run generate` also writes the OpenAPI document; with `--check` it fails when that would leave a difference. */
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { VERSION } from "../../program/version.ts";
import { openApiDocument } from "./openapi.ts";
import { routes } from "./routes/index.ts";

const file = path.join(import.meta.dirname, "../../docs/reference/openapi.json");
const wanted = `${JSON.stringify(openApiDocument(routes, VERSION), null, 2)}\n`;

if (!process.argv.includes("--check")) writeFileSync(file, wanted);
else if (readFileSync(file, "utf8") !== wanted) {
  console.error("docs/reference/openapi.json is not current: npm run generate");
  process.exitCode = 1;
}
