import type { AuditSigner } from "../../core/audit/signer.ts";
import type { AuditEntry } from "../../core/ports/audit-log.ts";
import type {
  BoundKind,
  HeldObject,
  HomeRecord,
  HomeStore,
  StoredBinding,
  StoredHome,
} from "../../core/ports/home-store.ts";
import { Conflict, type Writer } from "../../core/ports/vault-store.ts";
import { HOME_ID } from "../../core/recovery/home.ts";
import { auditParameter } from "./audit-rows.ts";
import { type Database, read, type Statement } from "./database.ts";
import { CONFLICT, mapWriteError, sqlState } from "./errors.ts";

const audited = (id: string): string =>
  `coalesce((SELECT max(a.subject_generation) FROM audit a
             WHERE a.subject_id = ${id} AND a.subject_generation IS NOT NULL), 0)`;
/** As `bindingId` makes it. */
const BINDING_ID = "'binding ' || kind || ' ' || held_uid";
const HOME = {
  name: "home",
  text: `SELECT cluster_uid, state, generation, mac, ${audited(`'${HOME_ID}'`)} AS audited FROM home`,
};
const MARK = {
  name: "home_mark",
  text: `SELECT concat_ws(' ', (SELECT generation FROM home), count(*), sum(generation)) AS mark FROM bindings`,
};
const BINDINGS = {
  name: "bindings",
  text: `SELECT kind, held_uid, namespace, name, uid, generation, mac,
                ${audited(BINDING_ID)} AS audited
         FROM bindings ORDER BY kind, held_uid`,
};
const WRITE_HOME = { name: "write_home", text: "SELECT write_home($1, $2, $3, $4, $5, $6)" };
const WRITE_BINDINGS = { name: "write_bindings", text: "SELECT write_bindings($1, $2, $3)" };
const RENAME_RULES = { name: "rename_rules", text: "SELECT rename_rules($1, $2, $3)" };
const RENAME_SINKS = { name: "rename_sinks", text: "SELECT rename_sinks($1, $2, $3)" };
const RENUMBER = { name: "renumber_transactions", text: "SELECT renumber_transactions($1, $2) AS renumbered" };
/** Of certificates, in one transaction. */
const RENUMBERED = 10_000;
/** Of requests the newest of a name: one that was signed and is gone has no other trace. */
const HELD = {
  name: "held_objects",
  text: `SELECT *, ${audited(BINDING_ID)} AS audited FROM (
           SELECT 'Namespace' AS kind, namespace_uid AS held_uid, '' AS namespace, '' AS namespace_uid, namespace AS name,
                  bool_or(in_use) AS in_use
           FROM (
             SELECT namespace_uid, namespace, state = 'Active' AS in_use FROM secrets
             UNION ALL
             SELECT namespace_uid, namespace, state = 'Active' FROM authorities WHERE kind = 'Issuer'
             UNION ALL
             SELECT namespace_uid, namespace, true FROM certificate_holders
             UNION ALL
             SELECT namespace_uid, namespace, false FROM copies
             UNION ALL
             SELECT namespace_uid, namespace, false FROM certificates WHERE requester_kind = 'CertificateRequest'
           ) AS rows GROUP BY namespace_uid, namespace
           UNION ALL
           SELECT kind, uid, namespace, namespace_uid, name, true FROM certificate_holders
           UNION ALL
           (SELECT DISTINCT ON (c.namespace_uid, c.name)
                   'CertificateRequest', c.requester_uid, c.namespace, c.namespace_uid, c.name, false
            FROM certificates c
            WHERE c.requester_kind = 'CertificateRequest' AND c.state = 'Issued'
              AND NOT EXISTS (SELECT FROM certificate_holders h
                              WHERE h.kind = 'CertificateRequest' AND h.namespace_uid = c.namespace_uid AND h.name = c.name)
            ORDER BY c.namespace_uid, c.name, c.not_before DESC)
         ) AS held
         WHERE (kind, held_uid) > ($1, $2) ORDER BY kind, held_uid LIMIT $3`,
};

interface HomeRow {
  readonly cluster_uid: string;
  readonly state: HomeRecord["state"];
  readonly generation: string;
  readonly mac: Buffer;
  readonly audited: string;
}

interface BindingRow {
  readonly kind: BoundKind;
  readonly held_uid: string;
  readonly namespace: string;
  readonly name: string;
  readonly uid: string | null;
  readonly generation: string;
  readonly mac: Buffer;
  readonly audited: string;
}

export class PostgresHomeStore implements HomeStore {
  readonly #database: Database;
  readonly #signer: AuditSigner;

  constructor(database: Database, signer: AuditSigner) {
    this.#database = database;
    this.#signer = signer;
  }

  async home(): Promise<StoredHome | undefined> {
    const [row] = await read<HomeRow>(this.#database, HOME, []);
    if (row === undefined) return undefined;
    const { cluster_uid: clusterUid, state, generation, mac, audited } = row;
    return {
      record: { clusterUid, state },
      generation: BigInt(generation),
      mac,
      auditedGeneration: BigInt(audited),
    };
  }

  async mark(): Promise<string> {
    const [row] = await read<{ readonly mark: string }>(this.#database, MARK, []);
    return row?.mark ?? "";
  }

  async writeHome(
    writer: Writer,
    before: bigint,
    { clusterUid, state }: HomeRecord,
    mac: Buffer,
    audit: readonly AuditEntry[],
  ): Promise<void> {
    // What it counts its transactions by changes with the server, and whoever reads looks at them from then on. Repeating it is harmless.
    if (state !== "Settled") await this.#renumber(writer);
    const values = [before, clusterUid, state, mac, auditParameter(this.#signer, audit)];
    await this.#write(writer, WRITE_HOME, values);
  }

  async #renumber(writer: Writer): Promise<void> {
    let left = true;
    while (left)
      await this.#changing(writer, async () => {
        const values = [writer.epoch, RENUMBERED];
        const [row] = await this.#database.query<{ readonly renumbered: number }>(RENUMBER, values);
        left = row?.renumbered === RENUMBERED;
      });
  }

  async bindings(): Promise<readonly StoredBinding[]> {
    const rows = await read<BindingRow>(this.#database, BINDINGS, []);
    return rows.map(({ kind, held_uid: heldUid, namespace, name, uid, generation, mac, audited }) => ({
      binding: { kind, namespace, name, heldUid, uid: uid ?? undefined },
      generation: BigInt(generation),
      mac,
      auditedGeneration: BigInt(audited),
    }));
  }

  async writeBindings(
    writer: Writer,
    bindings: readonly Omit<StoredBinding, "auditedGeneration">[],
    audit: readonly AuditEntry[],
  ): Promise<void> {
    const rows = bindings.map(({ binding: { kind, namespace, name, heldUid, uid }, generation, mac }) => ({
      kind,
      held_uid: heldUid,
      namespace,
      name,
      uid,
      generation: generation.toString(),
      mac: mac.toString("base64"),
    }));
    await this.#write(writer, WRITE_BINDINGS, [JSON.stringify(rows), auditParameter(this.#signer, audit)]);
  }

  async heldObjects(
    after: Pick<HeldObject, "kind" | "heldUid"> | undefined,
    limit: number,
  ): Promise<readonly HeldObject[]> {
    const rows = await read<BindingRow & { readonly namespace_uid: string; readonly in_use: boolean }>(
      this.#database,
      HELD,
      [after?.kind ?? "", after?.heldUid ?? "", limit],
    );
    return rows.map(({ kind, held_uid, namespace, namespace_uid, name, in_use, audited }) => ({
      ...{ kind, namespace, name },
      heldUid: held_uid,
      namespaceUid: namespace_uid,
      inUse: in_use,
      generation: BigInt(audited),
    }));
  }

  async renameRules(writer: Writer, uids: ReadonlyMap<string, string>): Promise<void> {
    await this.#write(writer, RENAME_RULES, [[...uids.keys()], [...uids.values()]]);
  }

  async renameSinks(writer: Writer, uids: ReadonlyMap<string, string>): Promise<void> {
    await this.#write(writer, RENAME_SINKS, [[...uids.keys()], [...uids.values()]]);
  }

  async #write(writer: Writer, statement: Statement, values: readonly unknown[]): Promise<void> {
    await this.#changing(writer, () => this.#database.query(statement, [writer.epoch, ...values]));
  }

  async #changing(writer: Writer, write: () => Promise<unknown>): Promise<void> {
    try {
      await write();
    } catch (error) {
      if (sqlState(error) === CONFLICT) throw new Conflict(HOME_ID);
      throw mapWriteError(error, writer.epoch);
    }
  }
}
