/** `node charts/schema/main.ts` writes the schema of the chart's values; `--check` says whether it is current, and exits 1 if it is not. */
import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { valuesSchema } from "./values.ts";

const file = "charts/mazevault/values.schema.json";
const target = path.join(import.meta.dirname, "../..", file);
const content = `${JSON.stringify(valuesSchema(), null, 2)}\n`;
const current = await readFile(target, "utf8").catch(() => "");

if (current !== content) {
  if (process.argv.includes("--check")) {
    console.error(`${file} differs from charts/schema and the programs' settings; run npm run generate`);
    process.exitCode = 1;
  } else {
    await writeFile(target, content);
    console.log(`wrote ${file}`);
  }
}
