import { randomUUID } from "node:crypto";
import type { Redis } from "ioredis";
import type { ChangeHints } from "../../core/ports/change-hints.ts";
import { PROBE_EVERY_MS, type RedisConnection } from "./connection.ts";

/** Hints through a channel. A message says who tells it, and nothing else. */
export class RedisChangeHints implements ChangeHints {
  readonly #connection: RedisConnection;
  readonly #channel: string;
  readonly #self = randomUUID();
  readonly #listeners = new Set<() => void>();
  #subscriber: Redis | undefined;
  #probing: NodeJS.Timeout | undefined;
  #listening = false;
  #closed = false;

  constructor(connection: RedisConnection, topic: string) {
    this.#connection = connection;
    this.#channel = `${connection.options.prefix}hints:${topic}`;
  }

  tell(): void {
    this.#connection.ask("publish", (client) => client.publish(this.#channel, this.#self)).catch(() => {});
  }

  listen(onHint: () => void): () => void {
    this.#listeners.add(onHint);
    this.#subscriber ??= this.#subscribe();
    return () => {
      this.#listeners.delete(onHint);
    };
  }

  /** Whether it hears what is told. */
  get listening(): boolean {
    return this.#listening;
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#probing);
    this.#subscriber?.disconnect();
  }

  #subscribe(): Redis {
    const subscriber = this.#connection.duplicate();
    const call = () => {
      for (const onHint of this.#listeners) onHint();
    };
    subscriber.on("message", (_channel, from) => {
      if (from !== this.#self) call();
    });
    // Whatever was told in between was lost.
    subscriber.on("ready", () => {
      const heard = () => {
        this.#listening = true;
        call();
      };
      const again = () => {
        if (!this.#closed) subscriber.disconnect(true);
      };
      subscriber.subscribe(this.#channel).then(heard, again);
    });
    subscriber.on("close", () => {
      this.#listening = false;
    });
    subscriber.connect().catch(() => {});
    this.#probing = setInterval(() => void subscriber.ping().catch(() => {}), PROBE_EVERY_MS).unref();
    return subscriber;
  }
}
