import type { AuditSigner } from "../../core/audit/signer.ts";
import type { AuditEntry } from "../../core/ports/audit-log.ts";
import type { GatewayCopyOwners, GatewayCopyRecord, GatewayCopyStore } from "../../core/ports/gateway-copy-store.ts";
import type { DeliveryRecord, Writer } from "../../core/ports/vault-store.ts";
import { auditParameter } from "./audit-rows.ts";
import { type Database, read, type Statement } from "./database.ts";
import { mapWriteError } from "./errors.ts";

const GATEWAY_COPIES = {
  name: "gateway_copies",
  text: `SELECT secret_id, gateway, namespace, made_of, delivery FROM gateway_copies
         WHERE gateway = $1 AND secret_id = ANY ($2) ORDER BY namespace, secret_name`,
};
const RECORD = { name: "record_gateway_copies", text: "SELECT record_gateway_copies($1, $2, $3, $4)" };
const OWNERS = { name: "gateway_copy_owners", text: "SELECT DISTINCT gateway, rule FROM gateway_copies" };
const FORGET = { name: "forget_gateway_copies", text: "SELECT forget_gateway_copies($1, $2)" };
const FORGET_GATEWAY = { name: "forget_copies_of_gateway", text: "SELECT forget_copies_of_gateway($1, $2)" };

interface CopyRow {
  readonly secret_id: string;
  readonly gateway: string;
  readonly namespace: string;
  readonly made_of: string;
  readonly delivery: DeliveryRecord;
}

export class PostgresGatewayCopyStore implements GatewayCopyStore {
  readonly #database: Database;
  readonly #signer: AuditSigner;

  constructor(database: Database, signer: AuditSigner) {
    this.#database = database;
    this.#signer = signer;
  }

  async gatewayCopies(gateway: string, secretIds: readonly string[]): Promise<readonly GatewayCopyRecord[]> {
    if (secretIds.length === 0) return [];
    const rows = await read<CopyRow>(this.#database, GATEWAY_COPIES, [gateway, secretIds]);
    return rows.map(({ secret_id: secretId, made_of: madeOf, ...row }) => ({ ...row, secretId, madeOf }));
  }

  async recordGatewayCopies(
    writer: Writer,
    rule: string,
    copies: readonly GatewayCopyRecord[],
    audit: readonly AuditEntry[],
  ): Promise<void> {
    const values = [writer.epoch, rule, JSON.stringify(copies), auditParameter(this.#signer, audit)];
    await this.#write(writer, RECORD, values);
  }

  gatewayCopyOwners(): Promise<readonly GatewayCopyOwners[]> {
    return read<GatewayCopyOwners>(this.#database, OWNERS, []);
  }

  async forgetGatewayCopies(writer: Writer, of: Parameters<GatewayCopyStore["forgetGatewayCopies"]>[1]): Promise<void> {
    if ("rule" in of) await this.#write(writer, FORGET, [writer.epoch, of.rule]);
    else await this.#write(writer, FORGET_GATEWAY, [writer.epoch, of.gateway]);
  }

  async #write(writer: Writer, statement: Statement, values: readonly unknown[]): Promise<void> {
    try {
      await this.#database.query(statement, values);
    } catch (error) {
      throw mapWriteError(error, writer.epoch);
    }
  }
}
