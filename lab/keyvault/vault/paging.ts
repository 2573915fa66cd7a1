import { badParameter } from "../errors.ts";
import type { Settings } from "../settings.ts";

export interface Page<Item> {
  readonly items: readonly Item[];
  /** Opaque to clients; absent on the last page. */
  readonly skipToken?: string;
}

/** Cuts lists into pages. A skip token names the last entry seen, so entries that come or go in between do no harm. */
export class Pager {
  readonly #settings: Pick<Settings, "emptyLastPage">;
  #fullLastPages = 0;

  constructor(settings: Pick<Settings, "emptyLastPage">) {
    this.#settings = settings;
  }

  /**
   * @param list yields the entries after a key, in order
   * @throws KeyVaultError BadParameter for a token that is none of ours
   */
  page<Item>(
    list: (after: string) => Iterable<Item>,
    key: (item: Item) => string,
    size: number,
    skipToken: string | null,
  ): Page<Item> {
    const items: Item[] = [];
    for (const item of list(skipToken === null ? "" : decode(skipToken))) {
      if (items.length === size) {
        return { items, skipToken: encode(items.map(key).at(-1) ?? "") };
      }
      items.push(item);
    }
    const last = items.at(-1);
    return last !== undefined && items.length === size && this.#addsEmptyPage()
      ? { items, skipToken: encode(key(last)) }
      : { items };
  }

  #addsEmptyPage(): boolean {
    const { emptyLastPage } = this.#settings;
    return emptyLastPage === "sometimes" ? this.#fullLastPages++ % 2 === 0 : emptyLastPage === "always";
  }
}

function encode(after: string): string {
  return Buffer.from(JSON.stringify({ NextMarker: after })).toString("base64url");
}

function decode(token: string): string {
  try {
    const { NextMarker } = JSON.parse(Buffer.from(token, "base64url").toString()) as { NextMarker?: unknown };
    if (typeof NextMarker === "string" && NextMarker !== "") {
      return NextMarker;
    }
  } catch {
    // Falls through to the refusal.
  }
  throw badParameter("Invalid skip token");
}
