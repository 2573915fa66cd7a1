/** Clients that do nothing but read the delivered core Secret and log in with what they have read. */
import pg from "pg";
import { pause } from "../../lab/poll.ts";
import { decoded, type World } from "../harness.ts";

export interface Logins {
  /** By role. */
  readonly succeeded: Map<string, number>;
  readonly failed: string[];
}

export interface Reconnecting {
  readonly logins: Logins;
  stop(): Promise<void>;
}

/** `holdMs`: how long what was read is kept before it is used; what took longer than `overlapMs` says nothing. */
export function reconnect(
  world: World,
  at: { readonly namespace: string; readonly name: string },
  server: pg.ClientConfig,
  { holdMs, overlapMs }: { readonly holdMs: number; readonly overlapMs: number },
): Reconnecting {
  const logins: Logins = { succeeded: new Map(), failed: [] };
  const stopped = new AbortController();
  const done = (async () => {
    while (!stopped.signal.aborted) {
      const started = performance.now();
      const { username = "", password = "" } = decoded(await world.get("secret", at.name, at.namespace));
      if (holdMs > 0) await pause(holdMs, stopped.signal);
      const client = new pg.Client({ ...server, user: username, password });
      client.on("error", () => {});
      try {
        await client.connect();
        const { rows } = await client.query<{ user: string }>("SELECT current_user AS user");
        const user = rows[0]?.user ?? "";
        logins.succeeded.set(user, (logins.succeeded.get(user) ?? 0) + 1);
      } catch (error) {
        const tookMs = performance.now() - started;
        if (tookMs < overlapMs) logins.failed.push(`${username} after ${Math.round(tookMs)} ms: ${String(error)}`);
      } finally {
        await client.end().catch(() => {});
      }
    }
  })();
  return {
    logins,
    async stop() {
      stopped.abort();
      await done;
    },
  };
}
