/**
 * Run by `../mermaid.ts`: reads a JSON array of pictures from standard input and writes what is wrong with each, or null. Its
 * argument is the folder in which Mermaid is installed. Mermaid asks DOMPurify, which wants a document.
 */
import { createRequire } from "node:module";
import path from "node:path";
import { text } from "node:stream/consumers";
import { pathToFileURL } from "node:url";

const installed = createRequire(path.join(process.argv[2], "package.json"));
const load = (name) => import(pathToFileURL(installed.resolve(name)).href);

const { Window } = await load("happy-dom");
globalThis.window = new Window();
globalThis.document = globalThis.window.document;
const { default: mermaid } = await load("mermaid");

const problems = [];
for (const picture of JSON.parse(await text(process.stdin))) {
  problems.push(
    await mermaid.parse(picture).then(
      () => null,
      (error) => error.message,
    ),
  );
}
process.stdout.write(JSON.stringify(problems), () => process.exit());
