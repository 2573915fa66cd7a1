import type { AuditSigner } from "../../core/audit/signer.ts";
import type { AuditEntry } from "../../core/ports/audit-log.ts";
import type { CopyDelivery, CopyRecord, CopyStore } from "../../core/ports/copy-store.ts";
import { Conflict, type Writer } from "../../core/ports/vault-store.ts";
import { auditParameter } from "./audit-rows.ts";
import { type Database, read } from "./database.ts";
import { CONFLICT, mapWriteError, sqlState } from "./errors.ts";

const COPIES = {
  name: "copies",
  text: `SELECT secret_id, namespace, namespace_uid, delivery FROM copies WHERE secret_id = ANY ($1)
         ORDER BY namespace_uid, secret_name`,
};
const RECORD_COPY = { name: "record_copy", text: "SELECT record_copy($1, $2, $3, $4, $5, $6, $7)" };

interface CopyRow {
  readonly secret_id: string;
  readonly namespace: string;
  readonly namespace_uid: string;
  readonly delivery: CopyDelivery;
}

export class PostgresCopyStore implements CopyStore {
  readonly #database: Database;
  readonly #signer: AuditSigner;

  constructor(database: Database, signer: AuditSigner) {
    this.#database = database;
    this.#signer = signer;
  }

  async copies(secretIds: readonly string[]): Promise<readonly CopyRecord[]> {
    if (secretIds.length === 0) return [];
    const rows = await read<CopyRow>(this.#database, COPIES, [secretIds]);
    return rows.map(({ secret_id: secretId, namespace, namespace_uid: namespaceUid, delivery }) => ({
      secretId,
      namespace,
      namespaceUid,
      delivery,
    }));
  }

  async recordCopy(writer: Writer, copy: CopyRecord, audit: readonly AuditEntry[]): Promise<void> {
    const { secretId, namespace, namespaceUid, delivery } = copy;
    const where = [secretId, namespace, namespaceUid, delivery.secretName];
    const values = [writer.epoch, ...where, JSON.stringify(delivery), auditParameter(this.#signer, audit)];
    try {
      await this.#database.query(RECORD_COPY, values);
    } catch (error) {
      throw sqlState(error) === CONFLICT ? new Conflict(secretId) : mapWriteError(error, writer.epoch);
    }
  }
}
