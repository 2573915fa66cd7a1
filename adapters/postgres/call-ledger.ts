import type { Booking, CallLedger } from "../../core/ports/call-ledger.ts";
import { type Database, read, type Statement } from "./database.ts";

const BOOK: Statement = { name: "book_vault_calls", text: "SELECT * FROM book_vault_calls($1, $2, $3, $4, $5)" };
const SETTLE: Statement = { name: "settle_vault_calls", text: "SELECT settle_vault_calls($1, $2, $3)" };

interface Row {
  readonly id: string | null;
  readonly calls: number;
  readonly wait_ms: number;
  readonly contended: boolean;
}

export class PostgresCallLedger implements CallLedger {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  async book(holder: string, vault: string, limit: number, wanted: number, heldMs: number): Promise<Booking> {
    const [row] = await read<Row>(this.#database, BOOK, [holder, vault, limit, wanted, heldMs]);
    const { id = null, calls = 0, wait_ms: waitMs = 0, contended = false } = row ?? {};
    return { ...(id !== null && { id }), calls, waitMs, contended };
  }

  async settle(id: string, calls: number, countedMs: number): Promise<void> {
    await read(this.#database, SETTLE, [id, calls, countedMs]);
  }
}
