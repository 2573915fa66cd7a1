import { Unavailable } from "../../core/errors.ts";
import type {
  OcspAuthority,
  OcspCertificate,
  OcspChanges,
  OcspPosition,
  OcspStore,
} from "../../core/ports/ocsp-store.ts";
import type { CrlKey } from "../../core/ports/pki-store.ts";
import { Database, type DatabaseOptions, read } from "./database.ts";
import { mapError } from "./errors.ts";
import { OutboxHint, PKI_CHANNEL } from "./outbox-hint.ts";
import { type RevocationRow, revocationOf } from "./pki-rows.ts";
import { hex } from "./rows.ts";

const AUTHORITIES = {
  name: "ocsp_authorities",
  text: `SELECT authority_id, generation, subject, spki, certificate, ocsp_validity_ms FROM ocsp_authorities
         ORDER BY authority_id, generation`,
};
// A single statement: rows and horizon are of the same snapshot. The horizon comes also when there is no row. A position
// ahead of every transaction is from another server (a logical restore): its reader begins again.
const CHANGES = {
  name: "ocsp_changes",
  text: `SELECT h.xmin, h.xmax, c.* FROM
           (SELECT pg_snapshot_xmin(pg_current_snapshot()) AS xmin, pg_snapshot_xmax(pg_current_snapshot()) AS xmax) h
         LEFT JOIN
           (SELECT * FROM ocsp_certificates WHERE (changed_transaction, authority_id, serial) > ($1, $2, $3)
            ORDER BY changed_transaction, authority_id, serial LIMIT $4) c ON true
         ORDER BY c.changed_transaction, c.authority_id, c.serial`,
};
const CRL_COLUMNS = "authority_id, generation, partition, number, this_update, next_update";
const CRLS = {
  name: "ocsp_crls",
  text: `SELECT ${CRL_COLUMNS} FROM ocsp_crls ORDER BY authority_id, generation, partition`,
};
const CRL = {
  name: "ocsp_crl",
  text: `SELECT ${CRL_COLUMNS}, der FROM ocsp_crls WHERE authority_id = $1 AND generation = $2 AND partition = $3`,
};
const REQUEST = {
  name: "ocsp_request",
  text: "INSERT INTO ocsp_responders (id, authority_id, generation, csr) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
};
const RESPONDER = { name: "ocsp_responder", text: "SELECT certificate FROM ocsp_responders WHERE id = $1" };

const LOWEST_UUID = "00000000-0000-0000-0000-000000000000";

type ChangeRow = { readonly xmin: string; readonly xmax: string } & (
  | (RevocationRow & {
      readonly authority_id: string;
      readonly generation: number;
      readonly serial: Buffer;
      readonly not_after: Date;
      readonly crl_partition: number;
      readonly changed_transaction: string;
    })
  | { readonly authority_id: null }
);

interface CrlRow {
  readonly authority_id: string;
  readonly generation: number;
  readonly partition: number;
  readonly number: string;
  readonly this_update: Date;
  readonly next_update: Date;
}

/** The OCSP process's own pool, under its own role. `migrate` and `grant_ocsp` come before. */
export class PostgresOcspStore implements OcspStore {
  readonly #database: Database;
  readonly #hint: OutboxHint;

  constructor(options: DatabaseOptions) {
    this.#database = new Database(options);
    this.#hint = new OutboxHint(this.#database, PKI_CHANNEL);
  }

  async authorities(): Promise<readonly OcspAuthority[]> {
    const rows = await read<{
      authority_id: string;
      generation: number;
      subject: Buffer;
      spki: Buffer;
      certificate: Buffer;
      ocsp_validity_ms: string;
    }>(this.#database, AUTHORITIES, []);
    return rows.map(({ authority_id: authorityId, ocsp_validity_ms, ...row }) => ({
      ...row,
      authorityId,
      ocspValidityMs: Number(ocsp_validity_ms),
    }));
  }

  async changes(after: OcspPosition | undefined, limit: number): Promise<OcspChanges> {
    const round = after?.round;
    const [transaction, authorityId, serial] =
      round === undefined
        ? [after?.from ?? 0n, LOWEST_UUID, ""]
        : [round.transaction, round.authorityId, round.serialNumber];
    const values = [transaction, authorityId, hex(serial), limit];
    const rows = await read<ChangeRow>(this.#database, CHANGES, values);
    const [first] = rows;
    if (first === undefined) throw new Unavailable("DatabaseUnavailable", "PostgreSQL told no snapshot");
    if (transaction > BigInt(first.xmax)) return this.changes(undefined, limit);
    const found = rows.flatMap((row) => (row.authority_id === null ? [] : [row]));
    const nextFrom = round?.nextFrom ?? BigInt(first.xmin);
    const last = found.at(-1);
    const more = last !== undefined && found.length === limit;
    const from = after?.from ?? 0n;
    const next: OcspPosition = more
      ? {
          from,
          round: {
            transaction: BigInt(last.changed_transaction),
            authorityId: last.authority_id,
            serialNumber: last.serial.toString("hex"),
            nextFrom,
          },
        }
      : { from: nextFrom };
    const certificates = found.map((row): OcspCertificate => {
      const revocation = revocationOf(row);
      return {
        authorityId: row.authority_id,
        generation: row.generation,
        serialNumber: row.serial.toString("hex"),
        notAfter: row.not_after,
        partition: row.crl_partition,
        ...(revocation === undefined ? {} : { revocation }),
      };
    });
    return { certificates, next, more };
  }

  async crls(): ReturnType<OcspStore["crls"]> {
    return (await read<CrlRow>(this.#database, CRLS, [])).map(crlOf);
  }

  async crl({ authorityId, generation, partition }: CrlKey): ReturnType<OcspStore["crl"]> {
    const values = [authorityId, generation, partition];
    const [row] = await read<CrlRow & { der: Buffer }>(this.#database, CRL, values);
    return row && { ...crlOf(row), der: row.der };
  }

  async requestResponder({
    id,
    authorityId,
    generation,
    csr,
  }: Parameters<OcspStore["requestResponder"]>[0]): Promise<void> {
    try {
      await this.#database.query(REQUEST, [id, authorityId, generation, csr]);
    } catch (error) {
      throw mapError(error);
    }
    this.#hint.changed();
  }

  async responder(id: string): Promise<Buffer | "Pending" | "Gone"> {
    const [row] = await read<{ certificate: Buffer | null }>(this.#database, RESPONDER, [id]);
    return row === undefined ? "Gone" : (row.certificate ?? "Pending");
  }

  async close(): Promise<void> {
    this.#hint.close();
    await this.#database.close();
  }
}

const crlOf = (row: CrlRow) => ({
  authorityId: row.authority_id,
  generation: row.generation,
  partition: row.partition,
  number: BigInt(row.number),
  thisUpdate: row.this_update,
  nextUpdate: row.next_update,
});
