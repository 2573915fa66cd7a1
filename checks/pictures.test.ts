/** Every picture of every page is one that Mermaid can draw. */
import { findMermaid, mermaidProblems } from "../lab/setup/mermaid.ts";
import { pages } from "./pages.ts";

const pictures = pages().flatMap(({ file, sections }) =>
  sections.flatMap(({ heading, blocks }) =>
    blocks.filter(({ language }) => language === "mermaid").map(({ text }) => ({ where: `${file}: ${heading}`, text })),
  ),
);

async function problems(of: readonly { readonly where: string; readonly text: string }[]): Promise<string[]> {
  const mermaid = findMermaid();
  if (mermaid === undefined) throw new Error("there is no Mermaid; npm test obtains it");
  const found = await mermaidProblems(
    mermaid,
    of.map(({ text }) => text),
  );
  return of.flatMap(({ where }, at) => (found[at] === undefined ? [] : [`${where}: ${found[at]}`]));
}

test("Mermaid takes every picture", async () => {
  expect(pictures.length).toBeGreaterThan(10);
  expect(await problems(pictures)).toEqual([]);
});

test("a picture that Mermaid does not take is named", async () => {
  const wrong = { where: "here", text: "flowchart LR\n  a[one --> b" };
  expect(await problems([wrong, ...pictures.slice(0, 1)])).toEqual([expect.stringMatching(/^here: Parse error/)]);
});
