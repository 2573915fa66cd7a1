/**
 * The record, or a stretch of it, for an auditor: a header, then rows and checkpoints as sinks get them too. A stretch
 * begins at the checkpoint before it and ends at the one behind it, so that it can be proved with nothing but public keys.
 */
import { createHash, type KeyObject } from "node:crypto";
import { SafeError } from "../errors.ts";
import type { AuditFault, AuditLog } from "../ports/audit-log.ts";
import { type ChainPosition, GENESIS, type LinkedRow } from "./chain.ts";
import { type Checkpoint, CheckpointSequence, publicKeyOf, type SigningKeys, spki } from "./checkpoint.ts";
import { type Cut, cutHolds } from "./cut.ts";
import { type AuditRecord, checkpointOf, checkpointRecord, recordsOf, rowOf } from "./record.ts";
import { digestHolds } from "./row.ts";
import { ChainWalk } from "./verification.ts";

export interface ExportHeader {
  readonly type: "header";
  readonly format: 1;
  readonly installation: string;
  /** Position behind which the rows begin. */
  readonly after: number;
  /** SubjectPublicKeyInfo in base64, by version. */
  readonly keys: readonly { readonly version: number; readonly publicKey: string }[];
}

export type ExportRecord = ExportHeader | AuditRecord;

export interface ExportRange {
  /** Rows behind this position; more where no checkpoint stands there. */
  readonly after?: bigint;
  /** Rows up to this position, and on to the next checkpoint; to the end of the chain when absent. */
  readonly upTo?: bigint;
}

/** A cut removed rows that an export had not reached; the next one begins behind them. */
export class ExportOvertaken extends SafeError {
  constructor() {
    super("it is not whole: retention removed rows that it had not reached; export the record again");
    this.name = "ExportOvertaken";
  }
}

const PAGE = 500;

/** The stretch with every row of a time; rows are in the order in which they were linked, which is nearly that of their times. */
export async function rangeOf(
  audit: Pick<AuditLog, "read" | "head">,
  { from, to }: { readonly from?: Date | undefined; readonly to?: Date | undefined },
): Promise<ExportRange> {
  const time = { ...(from && { from }), ...(to && { to }) };
  if (from === undefined && to === undefined) return {};
  const [first] = await audit.read({ ...time, order: "OldestFirst" }, undefined, 1);
  const [last] = await audit.read({ ...time, order: "NewestFirst" }, undefined, 1);
  const { position: head } = await audit.head();
  return {
    after: from === undefined ? 0n : (first?.position ?? head + 1n) - 1n,
    // What is not linked yet is behind the head.
    ...(to !== undefined && last?.position !== undefined && { upTo: last.position }),
  };
}

/** Reads page by page, as fast as it is consumed. @throws ExportOvertaken */
export async function* exportRecords(
  audit: Pick<AuditLog, "chain" | "checkpoints" | "head" | "lastCheckpoint" | "lastCut">,
  signing: SigningKeys,
  { after = 0n, upTo }: ExportRange = {},
): AsyncGenerator<ExportRecord> {
  const last = await audit.lastCut();
  const cut = last !== undefined && (await isSigned(last, signing)) ? last : undefined;
  const keys = (await signing.auditSigning()).map(({ version, publicKey }) => ({
    version,
    publicKey: spki(publicKey).toString("base64"),
  }));
  const start = (after === 0n ? undefined : await audit.lastCheckpoint(after)) ?? (await checkpointOfCut(audit, cut));
  const { position: head } = await audit.head();
  let position = start?.position ?? cut?.position ?? 0n;
  let number = start?.number ?? cut?.checkpoint ?? 0n;
  yield {
    type: "header",
    format: 1,
    installation: signing.installationId,
    after: Number(position),
    keys,
  };
  if (start !== undefined) yield checkpointRecord(start);
  const end = upTo ?? head;
  for (;;) {
    const rows = await audit.chain(position, PAGE);
    const last = rows.at(-1)?.position ?? position;
    const checkpoints = (await audit.checkpoints(number, PAGE)).filter((each) => each.position <= last);
    // Asked behind them: what it removed before they were read, it says by now.
    if (await isOvertaken({ position, number }, audit, signing)) {
      throw new ExportOvertaken();
    }
    const closing = checkpoints.find((each) => each.position >= end);
    if (closing !== undefined && upTo !== undefined) {
      const within = rows.filter((row) => row.position <= closing.position);
      yield* recordsOf({ rows: within, checkpoints: checkpoints.filter((each) => each.number <= closing.number) });
      return;
    }
    if (rows.length === 0 && checkpoints.length === 0) return;
    yield* recordsOf({ rows, checkpoints });
    position = last;
    number = checkpoints.at(-1)?.number ?? number;
    // What is linked while it is exported is left to the next export.
    if (upTo === undefined && position >= head && checkpoints.length < PAGE) return;
  }
}

/** A cut that nobody signed removed nothing: what is missing then was taken by somebody else, and is shown as such. */
async function isSigned(cut: Cut, signing: SigningKeys): Promise<boolean> {
  const key = (await signing.auditSigning()).find(({ version }) => version === cut.keyVersion);
  return cutHolds(signing.installationId, cut, key?.publicKey);
}

async function checkpointOfCut(
  audit: Pick<AuditLog, "checkpoints">,
  cut: Cut | undefined,
): Promise<Checkpoint | undefined> {
  const [first] = cut === undefined ? [] : await audit.checkpoints(cut.checkpoint - 1n, 1);
  return first?.number === cut?.checkpoint ? first : undefined;
}

/** Whether a cut has removed what comes behind a place. */
async function isOvertaken(
  { position, number }: { readonly position: bigint; readonly number: bigint },
  audit: Pick<AuditLog, "lastCut">,
  signing: SigningKeys,
): Promise<boolean> {
  const cut = await audit.lastCut();
  return cut !== undefined && (cut.position > position || cut.checkpoint > number + 1n) && isSigned(cut, signing);
}

export async function* jsonLines(records: AsyncIterable<ExportRecord>): AsyncGenerator<string> {
  for await (const record of records) yield `${JSON.stringify(record)}\n`;
}

const COLUMNS = [
  "type",
  "position",
  "at",
  "action",
  "outcome",
  "actor",
  "subjectKind",
  "subjectId",
  "subjectGeneration",
  "subjectName",
  "details",
  "sequence",
  "writer",
  "counter",
  "digest",
  "mac",
  "link",
  "statement",
] as const;
type Cells = Partial<Record<(typeof COLUMNS)[number], string | number | undefined>>;

/** RFC 4180. Header and checkpoints stand in the column `statement`, as JSON. */
export async function* csv(records: AsyncIterable<ExportRecord>): AsyncGenerator<string> {
  yield csvLine([...COLUMNS]);
  for await (const record of records) {
    const cells = cellsOf(record);
    yield csvLine(COLUMNS.map((column) => cells[column]));
  }
}

/** @param problem as JSON: why the rows end here, and are not whole */
export const csvProblem = (problem: string): string => {
  const cells: Cells = { type: "problem", statement: problem.trimEnd() };
  return csvLine(COLUMNS.map((column) => cells[column]));
};

function cellsOf(record: ExportRecord): Cells {
  if (record.type === "header") return { type: record.type, statement: JSON.stringify(record) };
  if (record.type === "checkpoint") {
    const { type, position, at, link } = record;
    return { type, position, at, link, statement: JSON.stringify(record) };
  }
  const { actor, subject, details, ...same } = record;
  return {
    ...same,
    actor: JSON.stringify(actor),
    subjectKind: subject.kind,
    subjectId: subject.id,
    subjectGeneration: subject.generation,
    subjectName: subject.name,
    details: JSON.stringify(details),
  };
}

/** A spreadsheet takes what begins with one of these for a formula; an apostrophe before it keeps it text. */
const FORMULA = /^[=+\-@\t\r]/;

function csvLine(cells: readonly (string | number | undefined)[]): string {
  const quoted = cells.map((cell) => {
    if (typeof cell !== "string") return cell ?? "";
    const text = FORMULA.test(cell) ? `'${cell}` : cell;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  });
  return `${quoted.join(",")}\r\n`;
}

export type ExportVerdict =
  | {
      readonly ok: true;
      readonly rows: number;
      /** Positions of the first row, and of the last one that a signature covers. */
      readonly from: number;
      readonly signedTo: number;
      /** SHA-256 of the public keys that signed, hexadecimal: compare them with what is known of the installation. */
      readonly keys: readonly string[];
      /** Position of the last anchor that it has; 0 when none was given, or none lies in it. */
      readonly anchoredTo: number;
    }
  | { readonly ok: false; readonly line: "header" }
  /** Its last line says that it could not be finished. */
  | { readonly ok: false; readonly line: "problem" }
  | { readonly ok: false; readonly row: bigint; readonly fault: AuditFault; readonly checkpoint?: bigint };

/** Links that somebody else has, in hexadecimal, by position: a checkpoint or a row that a sink took. */
export type Anchors = ReadonlyMap<number, string>;

/** Proves an export in JSON Lines without the database and without any secret key. */
export async function proveExport(
  lines: AsyncIterable<string>,
  anchors: Anchors = new Map(),
  onProgress?: (position: number) => void,
): Promise<ExportVerdict> {
  let proof: Proof | undefined;
  for await (const line of lines) {
    const record = parsed(line);
    if (proof !== undefined && (record as { readonly type?: unknown } | undefined)?.type === "problem") {
      return { ok: false, line: "problem" };
    }
    if (record?.type === "row" && record.position % PAGE === 0) onProgress?.(record.position);
    if (proof === undefined) {
      if (record?.type !== "header" || record.format !== 1 || !Array.isArray(record.keys)) {
        return { ok: false, line: "header" };
      }
      proof = new Proof(record, anchors);
    } else if (!proof.take(record)) break;
  }
  return proof?.verdict() ?? { ok: false, line: "header" };
}

class Proof {
  readonly #header: ExportHeader;
  readonly #publicKeys: ReadonlyMap<number, KeyObject>;
  readonly #checkpoints: CheckpointSequence;
  readonly #used = new Set<number>();
  readonly #anchors: Anchors;
  #anchored = 0;
  #walk: ChainWalk | undefined;
  #failure: Extract<ExportVerdict, { ok: false }> | undefined;

  constructor(header: ExportHeader, anchors: Anchors) {
    this.#header = header;
    this.#anchors = anchors;
    this.#publicKeys = new Map(
      header.keys.map(({ version, publicKey }) => [version, publicKeyOf(Buffer.from(publicKey, "base64"))]),
    );
    this.#checkpoints = new CheckpointSequence(header.installation, this.#publicKeys);
    if (header.after === 0) this.#begin();
  }

  /** False from the first fault on. */
  take(record: ExportRecord | undefined): boolean {
    const checkpoint = record?.type === "checkpoint" ? checkpointOf(record) : undefined;
    if (checkpoint !== undefined) this.#used.add(checkpoint.keyVersion);
    if (this.#walk === undefined) return this.#first(checkpoint);
    if (checkpoint !== undefined) return this.#walk.checkpoint(checkpoint);
    const row = record?.type === "row" ? rowOf(record) : undefined;
    if (row !== undefined) return this.#walk.row(row) && this.#isAnchored(row);
    return this.#fail(this.#walk.end.position + 1n, "macDiffers");
  }

  verdict(): ExportVerdict {
    const walk = this.#walk;
    if (this.#failure !== undefined) return this.#failure;
    if (walk === undefined) return { ok: false, row: BigInt(this.#header.after), fault: "checkpointMissing" };
    walk.finish({ ...walk.end, mac: GENESIS });
    const verdict = walk.verdict();
    if (!verdict.ok) return verdict;
    const { after } = this.#header;
    const keys = [...this.#used].map((version) => fingerprint(this.#publicKeys.get(version)));
    const { linked, signedTo } = verdict;
    return { ok: true, from: after + 1, rows: linked - after, signedTo, keys, anchoredTo: this.#anchored };
  }

  #isAnchored({ position, link }: LinkedRow): boolean {
    const anchor = this.#anchors.get(Number(position));
    if (anchor === undefined) return true;
    if (anchor !== link.toString("hex")) return this.#fail(position, "anchorMissed");
    this.#anchored = Number(position);
    return true;
  }

  /** A stretch begins with the checkpoint that it begins at. */
  #first(checkpoint: Checkpoint | undefined): boolean {
    const after = BigInt(this.#header.after);
    if (checkpoint === undefined || checkpoint.position !== after) return this.#fail(after, "checkpointMissing");
    const fault = this.#checkpoints.next(checkpoint, checkpoint.number);
    if (fault !== undefined) return this.#fail(after, fault);
    this.#begin(checkpoint);
    return true;
  }

  #begin(start?: ChainPosition): void {
    this.#walk = new ChainWalk({
      // What the MAC says only MazeVault can tell; the digest is under the signed links.
      rowHolds: digestHolds,
      headHolds: () => true,
      checkpoints: this.#checkpoints,
      ...(start && { start }),
    });
  }

  #fail(row: bigint, fault: AuditFault): false {
    this.#failure = { ok: false, row, fault };
    return false;
  }
}

function parsed(line: string): ExportRecord | undefined {
  try {
    return JSON.parse(line) as ExportRecord;
  } catch {
    return undefined;
  }
}

const fingerprint = (key: KeyObject | undefined): string =>
  key === undefined ? "" : createHash("sha256").update(spki(key)).digest("hex");
