import { readFileSync } from "node:fs";
import pg from "pg";
import { breaksConnection, mapError, sqlState } from "./errors.ts";

export const SCHEMA = "mazevault";

/** How to reach PostgreSQL. */
export interface DatabaseOptions {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly user: string;
  /** Read again for each connection, so that a rotated password is taken up. */
  readonly passwordFile?: string;
  /** Instead of a file; asked for each connection. */
  readonly password?: PasswordSource;
  /** PEM of the authority that signed the server's certificate, whose name must match `host` (verify-full). Without it no TLS. */
  readonly caFile?: string;
  /** Shown in pg_stat_activity. */
  readonly applicationName?: string;
  /** 10 when absent. */
  readonly maxConnections?: number;
  /** One call, for metrics: `code` is `ok`, an SQLSTATE, or `error` when no answer came. */
  readonly onCall?: (call: DatabaseCall) => void;
}

export interface PasswordSource {
  /** Where it is kept, for whoever looks for it. */
  readonly source: string;
  current(): Promise<string>;
  /** PostgreSQL did not take it: another one may be there for the next connection. */
  refused(): void;
}

export interface DatabaseCall {
  readonly target: "postgres";
  /** Name of the statement, or `transaction`. */
  readonly operation: string;
  readonly code: string;
  readonly seconds: number;
}

/** What sessions of programs that serve are called. */
export const APPLICATION = "mazevault";
const CONNECT_TIMEOUT_MS = 5_000;
const STATEMENT_TIMEOUT_MS = 10_000;
const LOCK_TIMEOUT_MS = 5_000;
const IDLE_IN_TRANSACTION_TIMEOUT_MS = 10_000;
/** Somewhat more than the server's own limit: it only ends waits on a connection that went dead. */
const ANSWER_TIMEOUT_MS = 12_000;
const KEEP_ALIVE_DELAY_MS = 10_000;
const IDLE_TIMEOUT_MS = 60_000;

/** Settings of one connection, common to the pool and to the listener. */
export function connectionSettings(options: DatabaseOptions): pg.ClientConfig {
  return {
    host: options.host,
    port: options.port,
    database: options.database,
    user: options.user,
    password: () => passwordOf(options),
    ...(options.caFile === undefined ? {} : { ssl: { ca: readFileSync(options.caFile, "utf8") } }),
    application_name: options.applicationName ?? APPLICATION,
    options: `-c search_path=${SCHEMA}`,
    connectionTimeoutMillis: CONNECT_TIMEOUT_MS,
    keepAlive: true,
    keepAliveInitialDelayMillis: KEEP_ALIVE_DELAY_MS,
    statement_timeout: STATEMENT_TIMEOUT_MS,
    lock_timeout: LOCK_TIMEOUT_MS,
    idle_in_transaction_session_timeout: IDLE_IN_TRANSACTION_TIMEOUT_MS,
    query_timeout: ANSWER_TIMEOUT_MS,
  };
}

function passwordOf({ passwordFile, password }: DatabaseOptions): string | Promise<string> {
  if (password !== undefined) return password.current();
  return passwordFile === undefined ? "" : readFileSync(passwordFile, "utf8").trimEnd();
}

const PASSWORD_REFUSED = "28P01";

/** Whoever connects tells what came of it, so that another password is looked for. */
export function noteRefusal({ password }: DatabaseOptions, error: unknown): void {
  if (sqlState(error) === PASSWORD_REFUSED) password?.refused();
}

/** A statement that each connection prepares once, under its name. */
export interface Statement {
  readonly name: string;
  readonly text: string;
}

/** The pool. A connection that broke is replaced when it is next needed, so a restart of PostgreSQL heals by itself. */
export class Database {
  readonly options: DatabaseOptions;
  readonly #pool: pg.Pool;

  constructor(options: DatabaseOptions) {
    this.options = options;
    this.#pool = new pg.Pool({
      ...connectionSettings(options),
      max: options.maxConnections ?? 10,
      idleTimeoutMillis: IDLE_TIMEOUT_MS,
    });
    // A connection that breaks while idle is dropped by the pool; without a listener it would end the process.
    this.#pool.on("error", () => {});
  }

  /** One statement, one transaction, one round trip. Throws what PostgreSQL or the connection said. */
  async query<Row extends pg.QueryResultRow>({ name, text }: Statement, values: readonly unknown[]): Promise<Row[]> {
    return this.#reported(name, async () => {
      const result = await this.#with((client) => client.query<Row>({ name, text, values: [...values] }));
      return result.rows;
    });
  }

  /** As `query`, with rows as arrays in the order of the columns, for many rows; prepared for this one time. */
  async arrays<Row>({ name, text }: Statement, values: readonly unknown[]): Promise<Row[]> {
    return this.#reported(name, async () => {
      const query = { text, values: [...values], rowMode: "array" } as const;
      const result = await this.#with((client) => client.query<unknown[]>(query));
      return result.rows as Row[];
    });
  }

  /** Several statements in one transaction. */
  async transaction<T>(use: (client: pg.ClientBase) => Promise<T>): Promise<T> {
    const whole = async (client: pg.ClientBase): Promise<T> => {
      await client.query("BEGIN");
      try {
        const result = await use(client);
        await client.query("COMMIT");
        return result;
      } catch (error) {
        if (!breaksConnection(error)) await client.query("ROLLBACK");
        throw error;
      }
    };
    return this.#reported("transaction", () => this.#with(whole));
  }

  async close(): Promise<void> {
    await this.#pool.end();
  }

  async #reported<T>(operation: string, call: () => Promise<T>): Promise<T> {
    const { onCall } = this.options;
    const started = performance.now();
    let code = "ok";
    try {
      return await call();
    } catch (error) {
      code = sqlState(error) ?? "error";
      noteRefusal(this.options, error);
      throw error;
    } finally {
      onCall?.({ target: "postgres", operation, code, seconds: (performance.now() - started) / 1000 });
    }
  }

  async #with<T>(use: (client: pg.ClientBase) => Promise<T>): Promise<T> {
    const client = await this.#pool.connect();
    let broken = false;
    // The pool listens only while a connection idles; one that breaks between two statements would end the process.
    const onError = () => {
      broken = true;
    };
    client.on("error", onError);
    try {
      return await use(client);
    } catch (error) {
      broken ||= breaksConnection(error);
      throw error;
    } finally {
      client.removeListener("error", onError);
      client.release(broken);
    }
  }
}

/** Runs a read; whatever goes wrong comes out as an error of core. */
export async function read<Row extends pg.QueryResultRow>(
  database: Database,
  statement: Statement,
  values: readonly unknown[],
): Promise<Row[]> {
  try {
    return await database.query<Row>(statement, values);
  } catch (error) {
    throw mapError(error);
  }
}
