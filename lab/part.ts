/**
 * Stops and starts single parts of what `npm start -- --with-gateway` runs.
 *
 *   npm run --silent part -- [--dir .mazevault/lab] list | stop PART | start PART | kill PART
 */
import path from "node:path";
import { parseArgs } from "node:util";
import { askControl } from "./control.ts";
import { errorMessage } from "./errors.ts";

const usage = "usage: npm run --silent part -- [--dir LAB] list | stop PART | start PART | kill PART";

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { dir: { type: "string", default: path.join(import.meta.dirname, "..", ".mazevault", "lab") } },
  });
  const [action, name, ...more] = positionals;
  if (action === undefined || more.length > 0 || (action !== "list" && name === undefined)) throw new Error(usage);
  console.log(await askControl(values.dir, action, name));
}

try {
  await main();
} catch (error) {
  console.error(errorMessage(error));
  process.exitCode = 1;
}
