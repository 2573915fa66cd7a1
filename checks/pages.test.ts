/** Every page of the repository: links lead somewhere, every page is found from the first one, and commands are executed. */
import { existsSync, globSync, readFileSync, statSync } from "node:fs";
import path from "node:path";
import { destination, type Page, pages, read, root } from "./pages.ts";

const all = pages();
const byFile = new Map(all.map((page) => [page.file, page]));

/** What is wrong with the links of a page. */
function brokenLinks(page: Page): string[] {
  const { file, links } = page;
  return links.flatMap((link) => {
    const to = destination(file, link);
    if (to === undefined) return URL.canParse(link) ? [] : [`${file}: ${link} is no URL`];
    const target = to.file === file ? page : byFile.get(to.file);
    if (target === undefined && !existsSync(path.join(root, to.file)))
      return [`${file}: ${link}: there is no ${to.file}`];
    const anchors = target?.sections.map(({ anchor }) => anchor) ?? [];
    if (to.anchor === "" || anchors.includes(to.anchor)) return [];
    return [`${file}: ${link}: ${to.file} has no heading #${to.anchor}`];
  });
}

test("every link leads to a file, and to a heading where it names one", () => {
  expect(all.flatMap(brokenLinks)).toEqual([]);
});

test.each([
  ["a file that is not there", "[x](nowhere.md)", "a/b.md: nowhere.md: there is no a/nowhere.md"],
  [
    "a heading that is not there",
    "[x](../README.md#no-such)",
    "a/b.md: ../README.md#no-such: README.md has no heading #no-such",
  ],
  ["a heading that this page does not have", "# A\n[x](#b)", "a/b.md: #b: a/b.md has no heading #b"],
  ["a reference", "[x][y]\n\n[y]: nowhere.md", "a/b.md: nowhere.md: there is no a/nowhere.md"],
  ["a picture in a table", "|a|\n|---|\n|![x](nowhere.png)|", "a/b.md: nowhere.png: there is no a/nowhere.png"],
])("a link to %s is found", (_, text, problem) => expect(brokenLinks(read("a/b.md", text))).toEqual([problem]));

test("headings have the anchors that GitHub gives them", () => {
  const text = "# A `b` & c/d\n## A b\n## A b\n### [Link](x.md): it's\n```sh\n# no heading\n```";
  const anchors = read("a/b.md", text).sections.map(({ anchor }) => anchor);
  expect(anchors).toEqual(["a-b--cd", "a-b", "a-b-1", "link-its"]);
});

/** Pages that can be reached from one by links, itself included; a link to a folder shows its README. */
function reachable(from: string): ReadonlySet<string> {
  const found = new Set([from]);
  for (const file of found) {
    for (const link of byFile.get(file)?.links ?? []) {
      const to = destination(file, link)?.file;
      if (to === undefined) continue;
      const isFolder = statSync(path.join(root, to), { throwIfNoEntry: false })?.isDirectory() ?? false;
      found.add(isFolder ? path.join(to, "README.md") : to);
    }
  }
  return found;
}

test("every page of docs/ is found from docs/README.md, and that from the first page of the repository", () => {
  const found = reachable("docs/README.md");
  const ours = all.map(({ file }) => file).filter((file) => file.startsWith("docs/"));
  expect(ours.filter((file) => !found.has(file))).toEqual([]);
  expect(reachable("README.md")).toContain("docs/README.md");
});

/** What names files of this repository: sources, manifests, pages. */
const sources = globSync("**/*.{ts,mjs,md,yaml,tpl,txt,lua}", {
  cwd: root,
  exclude: ["**/node_modules", "**/dist", ".mazevault", "CHANGELOG.md"],
});

test("every page that code, manifests and pages name is there", () => {
  const missing = sources.flatMap((file) =>
    [...readFileSync(path.join(root, file), "utf8").matchAll(/(?<![\w./-])docs\/[\w./-]*\w/g)]
      .map(([name]) => name)
      .filter((name) => !existsSync(path.join(root, name)))
      .map((name) => `${file}: there is no ${name}`),
  );
  expect(missing).toEqual([]);
});

const rooms = ["crds", "core", "program", "adapters", "controllers", "operator", "ocsp", "cli", "cdk8s", "build"];
const folders = [...rooms, "charts", "deploy", "lab", "e2e", "bench", "checks"].join("|");

test("every file that a page names as code is there", () => {
  const isPath = new RegExp(`^(?:${folders})/[\\w./-]+$`);
  const missing = all.flatMap(({ file, code }) =>
    code.filter((name) => isPath.test(name) && !existsSync(path.join(root, name))).map((name) => `${file}: ${name}`),
  );
  expect(missing).toEqual([]);
});

test("no page has HTML but comments and line breaks: a placeholder that is not written as code would vanish", () => {
  const html = all.flatMap(({ file, html: pieces }) => pieces.map((piece) => `${file}: ${piece}`));
  expect(html.filter((piece) => !/: (?:<br>|<!--[\s\S]*-->)$/.test(piece))).toEqual([]);
});

/** Which test executes the blocks of a page, or of a folder, that are marked `sh`. What cannot be executed is marked `shell`. */
const EXECUTED: Readonly<Record<string, string>> = {
  "docs/guides/back-up-and-restore.md": "e2e/backup.test.ts",
  "README.md": "e2e/start.test.ts",
  "docs/guides/certificates-through-a-gateway.md": "e2e/gateway-signing.test.ts",
  "docs/guides/connect-a-gateway.md": "e2e/gateway.test.ts",
  "docs/guides/copy-into-other-namespaces.md": "e2e/sync-namespaces.test.ts",
  "docs/guides/deliver-through-a-gateway.md": "e2e/gateway-delivery.test.ts",
  "docs/guides/fail-over-and-back.md": "e2e/failover.test.ts",
  "docs/guides/give-access.md": "e2e/cli.test.ts",
  "docs/guides/keep-values-in-key-vault.md": "e2e/orchestrator.test.ts",
  "docs/guides/migrate-from-external-secrets.md": "e2e/migrate.test.ts",
  "docs/guides/migrate-from-sealed-secrets.md": "e2e/migrate.test.ts",
  "docs/guides/offline-root.md": "e2e/pki-offline-root.test.ts",
  "docs/guides/private-ca.md": "e2e/start.test.ts",
  "docs/guides/prove-to-an-auditor.md": "e2e/cli.test.ts",
  "docs/guides/recover-a-deletion.md": "e2e/sync-deletion.test.ts",
  "docs/guides/resolve-a-conflict.md": "e2e/sync-bidirectional.test.ts",
  "docs/guides/revoke.md": "e2e/start.test.ts",
  "docs/guides/rotate-a-database-password.md": "e2e/secret-apply.test.ts",
  "docs/guides/rotate-the-root-key.md": "e2e/cli.test.ts",
  "docs/guides/seal-for-git.md": "e2e/cli.test.ts",
  "docs/guides/staple-with-nginx.md": "e2e/start.test.ts",
  "docs/guides/store-and-read.md": "e2e/cli.test.ts",
  "docs/guides/sync-both-ways.md": "e2e/sync-bidirectional.test.ts",
  "docs/guides/write-manifests-in-typescript.md": "cdk8s/consumer.test.ts",
  "docs/operations/rights.md": "e2e/evidence.test.ts",
  "docs/runbooks": "e2e/gateway.test.ts",
  "docs/security/controls.md": "e2e/evidence.test.ts",
};

test("every block of commands is executed by a test, or marked as one that cannot be", () => {
  const languages = (page: Page) => page.sections.flatMap(({ blocks }) => blocks.map(({ language }) => language));
  const unknown = all.flatMap((page) =>
    languages(page)
      .filter((language) => ["bash", "console", "zsh"].includes(language))
      .map((language) => `${page.file}: "${language}"; commands are "sh" where a test executes them, else "shell"`),
  );
  expect(unknown).toEqual([]);
  const withCommands = all.filter((page) => languages(page).includes("sh")).map(({ file }) => file);
  const owner = (file: string) => [file, path.dirname(file)].find((name) => name in EXECUTED);
  expect(withCommands.filter((file) => owner(file) === undefined)).toEqual([]);
  expect(Object.keys(EXECUTED).toSorted()).toEqual([...new Set(withCommands.map(owner))].toSorted());
  const notNamed = Object.entries(EXECUTED).filter(([page, file]) => {
    const { name } = path.parse(page);
    return !readFileSync(path.join(root, file), "utf8").includes(name);
  });
  expect(notNamed).toEqual([]);
});

test("what the security pages say of a test is of its title", () => {
  const judged = all
    .filter(({ file }) => file.startsWith("docs/security/"))
    .flatMap(({ file, texts }) =>
      texts
        .filter(({ link }) => link.endsWith(".test.ts"))
        .map(({ link, text }) => ({ file: destination(file, link)?.file ?? "", text })),
    );
  expect(judged.length).toBeGreaterThan(50);
  const foreign = judged.filter(({ file, text }) => !readFileSync(path.join(root, file), "utf8").includes(text));
  expect(foreign).toEqual([]);
});
