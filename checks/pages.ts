/** The Markdown pages of the repository, as GitHub renders them: headings by their anchors, links, blocks of code. */
import { globSync, readFileSync } from "node:fs";
import path from "node:path";
import GithubSlugger from "github-slugger";
import { marked, type Token, type Tokens } from "marked";

export const root = path.join(import.meta.dirname, "..");

export interface Block {
  /** The word behind the fence; empty where there is none. */
  readonly language: string;
  readonly text: string;
}

export interface Section {
  readonly heading: string;
  /** 1 of the page itself to 6. */
  readonly depth: number;
  /** What a link to it says behind `#`. */
  readonly anchor: string;
  /** Up to the next heading, of whatever depth. */
  readonly blocks: readonly Block[];
}

export interface Page {
  /** From the root of the repository. */
  readonly file: string;
  readonly sections: readonly Section[];
  /** Of links and pictures, as they are written. */
  readonly links: readonly string[];
  /** What stands there for each link. */
  readonly texts: readonly { readonly link: string; readonly text: string }[];
  /** What stands as code within text. */
  readonly code: readonly string[];
  /** HTML that stands there as it is; GitHub drops what it does not know, such as a placeholder that was not written as code. */
  readonly html: readonly string[];
}

/** `text`: Markdown of GitHub's flavour. */
export function read(file: string, text: string): Page {
  const slugger = new GithubSlugger();
  const sections: (Omit<Section, "blocks"> & { blocks: Block[] })[] = [];
  const page = {
    file,
    sections,
    links: [] as string[],
    texts: [] as Page["texts"][number][],
    code: [] as string[],
    html: [] as string[],
  };
  void marked.walkTokens(marked.lexer(text), (token) => {
    const { type, raw } = token;
    if (type === "heading") {
      const { depth, tokens } = token as Tokens.Heading;
      const heading = plain(tokens);
      sections.push({ heading, depth, anchor: slugger.slug(heading), blocks: [] });
    } else if (type === "code") {
      const { lang = "", text: content } = token as Tokens.Code;
      sections.at(-1)?.blocks.push({ language: lang, text: content });
    } else if (type === "link" || type === "image") {
      const { href, tokens = [] } = token as Tokens.Link;
      page.links.push(href);
      page.texts.push({ link: href, text: plain(tokens) });
    } else if (type === "codespan") page.code.push((token as Tokens.Codespan).text);
    else if (type === "html") page.html.push(raw.trim());
  });
  return page;
}

const plain = (tokens: readonly Token[]): string =>
  tokens
    .map((token) => {
      if ("tokens" in token && token.tokens !== undefined) return plain(token.tokens);
      return token.type === "html" ? "" : "text" in token ? String(token.text) : "";
    })
    .join("");

/** All of them. */
export const pages = (): readonly Page[] =>
  globSync("**/*.md", { cwd: root, exclude: ["**/node_modules", "**/dist", ".mazevault"] })
    .toSorted()
    .map((file) => read(file, readFileSync(path.join(root, file), "utf8")));

/** Where a link of a page leads to: a path from the root of the repository, and the anchor there; undefined for one that leaves it. */
export function destination(
  page: string,
  link: string,
): { readonly file: string; readonly anchor: string } | undefined {
  if (/^[a-z][a-z\d+.-]*:/i.test(link)) return undefined;
  const [target = "", anchor = ""] = link.split("#").map(decodeURIComponent);
  return { file: target === "" ? page : path.join(path.dirname(page), target), anchor };
}
