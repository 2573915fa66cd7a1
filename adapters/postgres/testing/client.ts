import pg from "pg";
import { connectionSettings, type DatabaseOptions } from "../database.ts";

/** A connection of its own, for what the stores never do: open transactions, tampering, looking at raw rows. */
export async function withConnection<T>(options: DatabaseOptions, use: (client: pg.Client) => Promise<T>): Promise<T> {
  const client = new pg.Client(connectionSettings(options));
  client.on("error", () => {});
  await client.connect();
  try {
    return await use(client);
  } finally {
    await client.end();
  }
}
