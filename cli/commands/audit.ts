import { createReadStream, createWriteStream, rmSync } from "node:fs";
import { createInterface } from "node:readline";
import { pipeline } from "node:stream/promises";
import { setTimeout as delay } from "node:timers/promises";
import { type Command, Option } from "commander";
import { type ExportVerdict, proveExport } from "../../core/audit/export.ts";
import { auditFaults, explainVerdict } from "../../core/audit/faults.ts";
import type { AuditFault, AuditVerdict } from "../../core/ports/audit-log.ts";
import { acting, type Context } from "../context.ts";
import { CommandError, EXIT, UsageError } from "../errors.ts";
import { assertNew } from "../input.ts";
import type { Output, Terminal } from "../output.ts";

interface Row {
  readonly sequence: string;
  readonly position?: string;
  readonly at: string;
  readonly action: string;
  readonly actor: {
    readonly kind: string;
    readonly subject?: string;
    readonly name?: string;
    readonly resource?: string;
  };
  readonly subject: { readonly kind: string; readonly name: string };
  readonly outcome: string;
}

const FOLLOW_EVERY_MS = 1_000;
const LONGEST_PAUSE_MS = 15_000;
const PAGE = 500;

const shown = ({ at, action, actor, subject, outcome }: Row) => ({
  time: at,
  action,
  actor: actor.subject ?? actor.name ?? actor.resource ?? actor.kind,
  subject: `${subject.kind} ${subject.name}`,
  outcome,
});

interface Filter {
  readonly action?: string;
  readonly actor?: string;
  readonly subject?: string;
  readonly outcome?: string;
}

interface Period {
  readonly from?: string;
  readonly to?: string;
}

const filtering = (command: Command): Command =>
  command
    .option("--action <action>", "only this one, such as SecretRead")
    .option("--actor <subject>", "only by this subject, such as 'LocalUser alice@example.com'")
    .option("--subject <name>", "only about this object, NAMESPACE/NAME")
    .option("--outcome <outcome>", "Success, Denied or Failure");

const within = (command: Command): Command =>
  command
    .addOption(new Option("--from <time>", "not before this time, such as 2026-03-01 (UTC)").argParser(time))
    .addOption(new Option("--to <time>", "before this time").argParser(time));

function time(text: string): string {
  const at = new Date(text);
  if (Number.isNaN(at.getTime()))
    throw new UsageError(`${text} is no time, such as 2026-03-01 or 2026-03-01T08:30:00Z`);
  return at.toISOString();
}

export function auditCommands(program: Command, terminal: Terminal): void {
  const audit = program.command("audit").description("the record of who did what");

  within(filtering(audit.command("list").description("rows that match, the oldest first"))).action(
    acting(terminal, async ({ client, output }, options: Filter & Period) => {
      const rows: Row[] = [];
      const query = { ...options, order: "oldest", limit: PAGE };
      for await (const row of client.items<Row>("/api/v1/audit", query)) rows.push(row);
      output.rows(rows, rows.map(shown));
    }),
  );

  filtering(
    audit
      .command("tail")
      .description("the newest rows")
      .option("--lines <number>", "how many", "20")
      .option(
        "-f, --follow",
        "go on with new ones as they enter the chain, which takes a second or two; none is missed, also when the server was away in between",
      ),
  ).action(
    acting(terminal, async (context, options: Filter & { lines: string; follow?: boolean }) => {
      const { client, output } = context;
      const { lines, follow, ...filter } = options;
      const linked = follow === true ? "true" : undefined;
      const { items } = await client.get<{ items: Row[] }>("/api/v1/audit", { ...filter, linked, limit: lines });
      const rows = items.toReversed();
      if (follow !== true) output.rows(rows, rows.map(shown));
      else {
        for (const row of rows) tell(output, row);
        await following(context, filter, rows.at(-1)?.position ?? "0");
      }
    }),
  );

  within(
    audit
      .command("export")
      .description("the record with everything that proves it, up to the checkpoints around the time that is asked for")
      .addOption(
        new Option("--format <format>", "jsonl can be proved, csv is for reading")
          .choices(["jsonl", "csv"])
          .default("jsonl"),
      )
      .option("--file <file>", "write it to a new file"),
  ).action(
    acting(terminal, async (context, options: Period & { format: string; file?: string }) => {
      const { file, ...query } = options;
      if (file !== undefined) assertNew(file);
      const { headers, pieces } = await context.client.stream("GET", "/api/v1/audit/export", query);
      if (file === undefined) {
        for await (const piece of pieces) context.output.raw(piece);
        return;
      }
      await saved(file, counted(pieces, Number(headers["x-row-count"]), context.output));
      context.output.note(`written to ${file}`);
    }),
  );

  audit
    .command("verify")
    .description("prove the record, or an export of it; ends with 7 when something was changed")
    .option("--file <file>", "an export in JSON Lines: nothing is asked of the server, and no secret is needed")
    .option("--anchor <file>", "what was kept elsewhere: the file of a sink, or an earlier export")
    .option("--signed-by <key>", "refuse an export that another installation has signed; the fingerprint of its key")
    .action(
      acting(terminal, async (context, options: { file?: string; anchor?: string; signedBy?: string }) => {
        if (options.file !== undefined) return verifyExport(context.output, { ...options, file: options.file });
        if (options.signedBy !== undefined) throw new UsageError("--signed-by is for an export: give --file");
        await verifyRecord(context, options.anchor);
      }),
    );
}

const tell = (output: Output, row: Row): void =>
  output.line(output.format === "table" ? Object.values(shown(row)).join("  ") : JSON.stringify(row));

/** By position: a row that commits late has an earlier sequence number than some that were shown, but is linked behind them. */
async function following({ client, output }: Context, filter: Filter, from: string): Promise<never> {
  let after = from;
  let pauseMs = FOLLOW_EVERY_MS;
  for (;;) {
    await delay(pauseMs);
    const cursor = Buffer.from(after, "utf8").toString("base64url");
    try {
      const query = { ...filter, linked: "true", order: "oldest", after: cursor, limit: PAGE };
      const { items } = await client.get<{ items: Row[] }>("/api/v1/audit", query);
      for (const row of items) tell(output, row);
      after = items.at(-1)?.position ?? after;
      if (pauseMs > FOLLOW_EVERY_MS) output.note("back");
      pauseMs = FOLLOW_EVERY_MS;
    } catch (error) {
      if (!(error instanceof CommandError) || error.exitCode !== EXIT.unavailable) throw error;
      if (pauseMs === FOLLOW_EVERY_MS) output.note(`${error.message}; trying again`);
      pauseMs = Math.min(pauseMs * 2, LONGEST_PAUSE_MS);
    }
  }
}

/** Passes them on, and shows how far they are; each row has a line, and checkpoints some more. */
async function* counted(pieces: AsyncIterable<Buffer>, all: number, output: Output): AsyncGenerator<Buffer> {
  let lines = 0;
  for await (const piece of pieces) {
    for (let at = piece.indexOf(0x0a); at >= 0; at = piece.indexOf(0x0a, at + 1)) lines += 1;
    output.progress(Math.min(lines, Math.max(all - 1, 0)), all);
    yield piece;
  }
  output.progress(all, all);
}

/** Whole or not at all. */
async function saved(file: string, pieces: AsyncIterable<Buffer>): Promise<void> {
  try {
    await pipeline(pieces, createWriteStream(file, { mode: 0o600, flags: "wx" }));
  } catch (error) {
    if (error instanceof CommandError) {
      rmSync(file, { force: true });
      const { exitCode, problem, fix } = error;
      throw new CommandError(exitCode, `${problem}; nothing is kept in ${file}`, { ...(fix && { fix }), cause: error });
    }
    throw new UsageError(`${file} cannot be written (${(error as NodeJS.ErrnoException).code})`);
  }
}

type Told =
  | { readonly type: "progress"; readonly rows: number; readonly linked: number }
  | ({ readonly type: "verdict" } & Written<AuditVerdict>)
  /** The client throws it. */
  | { readonly type: "problem" };
/** As JSON has it. */
type Written<T> = T extends { readonly row: bigint }
  ? Omit<T, "row" | "checkpoint"> & { readonly row: string; readonly checkpoint?: string }
  : T;

async function verifyRecord({ client, output }: Context, anchorFile: string | undefined): Promise<void> {
  const last = anchorFile === undefined ? undefined : [...(await anchorsOf(anchorFile))].at(-1);
  const query = last === undefined ? {} : { anchor: last.join(":") };
  const { pieces } = await client.stream("POST", "/api/v1/audit/verification", query);
  let rest = "";
  let verdict: Extract<Told, { type: "verdict" }> | undefined;
  for await (const piece of pieces) {
    const lines = (rest + piece.toString("utf8")).split("\n");
    rest = lines.pop() ?? "";
    for (const told of lines.map((line) => JSON.parse(line) as Told)) {
      if (told.type === "verdict") verdict = told;
      else if (told.type === "progress") output.progress(Math.min(told.rows, told.linked - 1), told.linked);
    }
  }
  if (verdict === undefined) throw new CommandError(EXIT.unavailable, "the server ended without a verdict");
  if (verdict.ok) output.progress(verdict.linked, verdict.linked);
  const { type: _, ...found } = verdict;
  const explained = explainVerdict(
    found.ok
      ? found
      : {
          ok: false,
          row: BigInt(found.row),
          fault: found.fault,
          ...(found.checkpoint !== undefined && { checkpoint: BigInt(found.checkpoint) }),
        },
  );
  if (output.format !== "table") output.data(found);
  else if (found.ok) for (const line of [...explained, `the head of the chain is ${found.head}`]) output.line(line);
  if (!found.ok) throw new CommandError(EXIT.finding, explained.join("\n"));
}

async function verifyExport(
  output: Output,
  { file, anchor, signedBy }: { readonly file: string; readonly anchor?: string; readonly signedBy?: string },
): Promise<void> {
  const anchors = anchor === undefined ? new Map<number, string>() : await anchorsOf(anchor);
  const verdict = await proveExport(linesOf(file), anchors);
  if (output.format !== "table")
    output.data(verdict.ok || !("row" in verdict) ? verdict : { ...verdict, row: String(verdict.row) });
  if (!verdict.ok) throw new CommandError(EXIT.finding, `${file}: ${told(verdict)}`);
  const { rows, from, signedTo, keys, anchoredTo } = verdict;
  if (signedBy !== undefined && !keys.includes(signedBy)) {
    throw new CommandError(
      EXIT.finding,
      `${file}: it is not signed with the key ${signedBy}, but with ${keys.join(", ") || "none"}`,
    );
  }
  if (output.format !== "table") return;
  const reach = Math.max(0, ...anchors.keys());
  const end = from + rows - 1;
  for (const line of [
    `${rows} rows, from ${from} on, are whole and in order; those up to ${signedTo} are signed`,
    signedBy !== undefined
      ? "the key is the one that was given"
      : `signed with ${keys.join(", ") || "no key"}; compare it with what you know of the installation, and pin it with --signed-by`,
    anchoredTo === 0
      ? "no external anchor vouches for it: that the whole record was written anew cannot be excluded"
      : `an external anchor vouches for rows up to ${anchoredTo}`,
    ...(reach > end
      ? [`the record went on: what was kept elsewhere knows row ${reach}, the export ends at ${end}`]
      : []),
  ])
    output.line(line);
}

function told(verdict: Extract<ExportVerdict, { ok: false }>): string {
  if (!("row" in verdict)) {
    return verdict.line === "header"
      ? "it is no export in JSON Lines: its header is missing"
      : "it is not whole: its last line says why the server could not finish it; export the record again";
  }
  const fault: AuditFault = verdict.fault;
  return `row ${verdict.row}: ${auditFaults[fault]} (${fault})`;
}

/** Links by position that a sink or an export has: of its checkpoints and its last row. */
async function anchorsOf(file: string): Promise<ReadonlyMap<number, string>> {
  const anchors = new Map<number, string>();
  let last: { readonly position: number; readonly link: string } | undefined;
  for await (const line of linesOf(file)) {
    const { type, position, link } = recordOf(line);
    if (position === undefined || link === undefined) continue;
    if (type === "checkpoint") anchors.set(position, link);
    if (type === "row") last = { position, link };
  }
  if (last !== undefined) anchors.set(last.position, last.link);
  if (anchors.size === 0) throw new UsageError(`${file} has no row and no checkpoint`);
  return new Map([...anchors].sort(([a], [b]) => a - b));
}

function recordOf(line: string): { readonly type?: string; readonly position?: number; readonly link?: string } {
  try {
    return JSON.parse(line) as ReturnType<typeof recordOf>;
  } catch {
    // The line that is being written.
    return {};
  }
}

async function* linesOf(file: string): AsyncGenerator<string> {
  try {
    yield* createInterface({ input: createReadStream(file), crlfDelay: Number.POSITIVE_INFINITY });
  } catch (error) {
    throw new UsageError(`${file} cannot be read (${(error as NodeJS.ErrnoException).code})`);
  }
}
