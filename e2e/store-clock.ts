import { withClient } from "../lab/postgres/database.ts";
import type { World } from "./harness.ts";

/**
 * Time passes for whatever is counted by the clock of PostgreSQL, such as heartbeats; what programs count themselves goes on as it is.
 * A function of PostgreSQL's own is called without a look at its definition, unless it is one line of SQL, which takes its place when a
 * statement is planned: so before whoever plans it.
 */
export class StoreClock {
  readonly #world: World;

  private constructor(world: World) {
    this.#world = world;
  }

  /** Before the first operator is started. */
  static async of(world: World): Promise<StoreClock> {
    const clock = new StoreClock(world);
    await clock.#asSuperuser(`
      CREATE TABLE public.clock AS SELECT interval '0' AS ahead;
      GRANT SELECT ON public.clock TO PUBLIC;
      CREATE FUNCTION public.machine_clock() RETURNS timestamptz LANGUAGE internal VOLATILE AS 'clock_timestamp';
      CREATE FUNCTION public.shifted_clock() RETURNS timestamptz LANGUAGE sql VOLATILE
        AS 'SELECT public.machine_clock() + ahead FROM public.clock';
      CREATE OR REPLACE FUNCTION pg_catalog.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
        AS 'SELECT public.shifted_clock()'`);
    return clock;
  }

  forward(minutes: number): Promise<void> {
    return this.#asSuperuser(`UPDATE public.clock SET ahead = ahead + interval '${minutes} minutes'`);
  }

  async #asSuperuser(sql: string): Promise<void> {
    const { lab, mazevault } = this.#world;
    const { database } = mazevault.database;
    await withClient({ ...lab.postgres.superuser, database }, (client) => client.query(sql));
  }
}
