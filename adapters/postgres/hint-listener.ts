import pg from "pg";
import { connectionSettings, type DatabaseOptions, noteRefusal } from "./database.ts";

const FIRST_RECONNECT_MS = 100;
const LONGEST_RECONNECT_MS = 5_000;

export interface HintListenerOptions {
  readonly connection: DatabaseOptions;
  readonly channel: string;
  /**
   * Called for each notification with what it says, and after each connect without, since hints of the time before are
   * lost.
   */
  readonly onHint: (says?: string) => void;
  /** Told of failures, which are retried; silent by default. */
  readonly onError?: (error: unknown) => void;
}

/**
 * Keeps one connection that listens on a channel. NOTIFY only says when to look: whoever is told looks into the tables,
 * and also does so from time to time without being told.
 */
export class HintListener {
  readonly #options: HintListenerOptions;
  readonly #stopped = new AbortController();
  #client: pg.Client | undefined;
  #running: Promise<void> | undefined;

  constructor(options: HintListenerOptions) {
    this.#options = options;
  }

  start(): void {
    this.#running ??= this.#listen();
  }

  async stop(): Promise<void> {
    this.#stopped.abort();
    await this.#client?.end().catch(() => {});
    await this.#running;
  }

  async #listen(): Promise<void> {
    const { connection, channel, onHint, onError } = this.#options;
    let pause = FIRST_RECONNECT_MS;
    while (!this.#stopped.signal.aborted) {
      const client = new pg.Client({ ...connectionSettings(connection), statement_timeout: 0 });
      const ended = new Promise<void>((resolve) => client.once("end", resolve));
      client.on("error", () => {});
      client.on("notification", ({ payload }) => onHint(payload));
      try {
        await client.connect();
        this.#client = client;
        await client.query(`LISTEN ${channel}`);
        pause = FIRST_RECONNECT_MS;
        onHint();
        if (!this.#stopped.signal.aborted) await ended;
      } catch (error) {
        noteRefusal(connection, error);
        onError?.(error);
      }
      this.#client = undefined;
      await client.end().catch(() => {});
      if (!this.#stopped.signal.aborted) await this.#sleep(pause);
      pause = Math.min(pause * 2, LONGEST_RECONNECT_MS);
    }
  }

  #sleep(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const done = () => {
        clearTimeout(timer);
        this.#stopped.signal.removeEventListener("abort", done);
        resolve();
      };
      const timer = setTimeout(done, ms);
      this.#stopped.signal.addEventListener("abort", done, { once: true });
    });
  }
}
