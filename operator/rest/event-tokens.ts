/** Tokens that senders of events prove themselves by: one a line, read again when the file changes. */
import { createHash, timingSafeEqual } from "node:crypto";
import { readFileSync } from "node:fs";
import type { Logger } from "../../program/logging.ts";
import { ConfigError } from "../../program/settings.ts";

const LOOK_EVERY_MS = 5_000;
/** 32 characters of hexadecimal digits are 128 bits. */
const SHAPE = /^[!-~]{32,256}$/;
const MOST = 64;

export class EventTokens {
  #digests: readonly Buffer[];
  readonly #timer: NodeJS.Timeout | undefined;

  /** Throws `ConfigError`. Without a file no token is right. */
  constructor(file: string | undefined, log: Pick<Logger, "info" | "warn">, everyMs = LOOK_EVERY_MS) {
    if (file === undefined) {
      this.#digests = [];
      return;
    }
    let content: string;
    try {
      content = readFileSync(file, "utf8");
      this.#digests = digestsOf(content);
    } catch (error) {
      throw new ConfigError([`rest.eventTokensFile: ${whatIsWrong(error)}`]);
    }
    let warned = false;
    const look = (): void => {
      try {
        const now = readFileSync(file, "utf8");
        if (now !== content) {
          this.#digests = digestsOf(now);
          content = now;
          log.info("other tokens for events count");
        }
        warned = false;
      } catch (error) {
        if (!warned) log.warn({ problem: whatIsWrong(error) }, "rest.eventTokensFile: the last tokens go on");
        warned = true;
      }
    };
    this.#timer = setInterval(look, everyMs).unref();
  }

  /** Compares with every token, and in the same time whatever is given. */
  accepts(given: string | undefined): boolean {
    const digest = digestOf(given ?? "");
    return this.#digests.reduce((found, each) => timingSafeEqual(each, digest) || found, false);
  }

  close(): void {
    clearInterval(this.#timer);
  }
}

const digestOf = (token: string): Buffer => createHash("sha256").update(token).digest();

function digestsOf(content: string): readonly Buffer[] {
  const tokens = content
    .split("\n")
    .map((line) => line.trim())
    .filter((line) => line !== "");
  if (tokens.length === 0 || tokens.length > MOST) throw new Error(`must have 1 to ${MOST} lines with a token each`);
  const wrong = tokens.findIndex((token) => !SHAPE.test(token));
  if (wrong >= 0)
    throw new Error(`token ${wrong + 1} must be 32 to 256 visible characters, as of: openssl rand -hex 32`);
  return tokens.map(digestOf);
}

const whatIsWrong = (error: unknown): string => {
  const { code, message } = error as NodeJS.ErrnoException;
  return code === undefined ? message : `cannot be read (${code})`;
};
