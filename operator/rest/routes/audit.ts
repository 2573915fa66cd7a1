/** The audit record: read, proved, and handed out. It says who did what, and never holds a value. */
import { setTimeout as delay } from "node:timers/promises";
import { z } from "zod";
import type { Target } from "../../../core/access/policy.ts";
import { csv, csvProblem, exportRecords, jsonLines, rangeOf } from "../../../core/audit/export.ts";
import type { AuditAction, AuditFilter, AuditLog, AuditSubject, AuditVerdict } from "../../../core/ports/audit-log.ts";
import { JSON_LINES, problemLine } from "../json-lines.ts";
import { cursorOf, keyOfCursor, pageOf, pageQuery } from "../page.ts";
import { Problem } from "../problem.ts";
import { route } from "../route.ts";

const TAG = "Audit";
const target = (): Target => ({ kind: "Audit" });

const row = z.strictObject({
  sequence: z.string().meta({ description: "Its number, in the order in which rows were written." }),
  position: z
    .string()
    .optional()
    .meta({ description: "Its place in the hash chain; absent for a moment after it was written." }),
  at: z.iso.datetime(),
  action: z.string(),
  actor: z.record(z.string(), z.unknown()).meta({ description: "Who did it." }),
  subject: z.strictObject({ kind: z.string(), id: z.string(), name: z.string() }),
  outcome: z.enum(["Success", "Denied", "Failure"]),
  details: z.record(z.string(), z.unknown()),
});

const filterQuery = {
  action: z
    .string()
    .regex(/^[A-Za-z]{1,64}$/, "must be the name of an action")
    .optional()
    .meta({ description: "Only this action, such as SecretRead." }),
  actor: z
    .string()
    .min(1)
    .max(512)
    .optional()
    .meta({ description: "Only by this subject, such as LocalUser alice@example.com." }),
  subject: z
    .string()
    .min(1)
    .max(512)
    .optional()
    .meta({ description: "Only about the object of this name, such as payments/orders-db." }),
  outcome: z.enum(["Success", "Denied", "Failure"]).optional().meta({ description: "Only with this outcome." }),
  from: z.iso.datetime().optional().meta({ description: "Not before this time." }),
  to: z.iso.datetime().optional().meta({ description: "Before this time." }),
  order: z.enum(["newest", "oldest"]).default("newest").meta({ description: "Which come first." }),
  linked: z.enum(["true", "false"]).default("false").meta({
    description:
      "Only rows that are in the hash chain, which each enters within a second or two, in its order: none comes in between later, so that whoever goes on behind a position misses nothing.",
  }),
};
const filters = z.object(filterQuery);
type Filter = z.infer<typeof filters>;

const filterOf = ({ action, actor, subject, outcome, from, to, order, linked }: Filter): AuditFilter => ({
  ...(action !== undefined && { action: action as AuditAction }),
  ...(actor !== undefined && { actor }),
  ...(subject !== undefined && { subject: { name: subject } satisfies Partial<AuditSubject> }),
  ...(outcome !== undefined && { outcome }),
  ...(from !== undefined && { from: new Date(from) }),
  ...(to !== undefined && { to: new Date(to) }),
  order: order === "newest" ? "NewestFirst" : "OldestFirst",
  linked: linked === "true",
});

interface Verification {
  readonly verdict: Promise<AuditVerdict>;
  progress: { readonly rows: number; readonly linked: number };
}

/** By what is asked: each reads the whole record over one connection, and whoever asks the same meanwhile gets the same answer. */
const underWay = new WeakMap<AuditLog, Map<string, Verification>>();
const PROGRESS_EVERY_MS = 500;

function verification(audit: AuditLog, anchor: string | undefined): Verification {
  const all = underWay.get(audit) ?? new Map<string, Verification>();
  underWay.set(audit, all);
  const question = anchor ?? "";
  const standing = all.get(question);
  if (standing !== undefined) return standing;
  const before = Promise.allSettled([...all.values()].map(({ verdict }) => verdict));
  const begun: Verification = {
    progress: { rows: 0, linked: 0 },
    verdict: before
      .then(() =>
        audit.verify({
          anchors: anchor === undefined ? [] : [anchorOf(anchor)],
          onProgress: (rows, linked) => {
            begun.progress = { rows, linked };
          },
        }),
      )
      .finally(() => all.delete(question)),
  };
  all.set(question, begun);
  return begun;
}

function anchorOf(anchor: string): { readonly position: bigint; readonly link: Buffer } {
  const [position = "", link = ""] = anchor.split(":");
  return { position: BigInt(position), link: Buffer.from(link, "hex") };
}

/** A line now and then, so that neither a person nor a proxy takes it for dead, and the verdict as the last one. */
async function* told(begun: Verification): AsyncGenerator<string> {
  const ended = begun.verdict.then((found) => ({ found }));
  // Whoever looks away must not leave a rejection that nobody handles.
  ended.catch(() => {});
  for (;;) {
    const first = await Promise.race([ended, delay(PROGRESS_EVERY_MS, undefined)]);
    if (first !== undefined) {
      const { found } = first;
      yield `${JSON.stringify({ type: "verdict", ...found }, numbers)}\n`;
      return;
    }
    yield `${JSON.stringify({ type: "progress", ...begun.progress })}\n`;
  }
}

const numbers = (_: string, value: unknown): unknown => (typeof value === "bigint" ? value.toString() : value);

export const auditRoutes = [
  route({
    id: "listAudit",
    method: "get",
    path: "/api/v1/audit",
    tag: TAG,
    summary: "Rows of the audit record.",
    query: z.object({ ...filterQuery, ...pageQuery }),
    access: { kind: "Allowed", verb: "audit", target },
    answers: { 200: { description: "A page of them.", schema: pageOf(row) } },
    handle: async ({ input, services }) => {
      const { limit, after, ...filter } = input.query;
      const rows = await services.audit.read(filterOf(filter), placeOf(after), limit);
      const last = rows.at(-1);
      const items = rows.map(({ sequence, position, entry, at }) => ({
        sequence: sequence.toString(),
        ...(position !== undefined && { position: position.toString() }),
        at: at.toISOString(),
        action: entry.action,
        actor: { ...entry.actor },
        subject: { kind: entry.subject.kind, id: entry.subject.id, name: entry.subject.name },
        outcome: entry.outcome,
        details: { ...entry.details },
      }));
      return {
        status: 200,
        body: {
          items,
          ...(last !== undefined &&
            rows.length === limit && {
              next: cursorOf(String(filter.linked === "true" ? last.position : last.sequence)),
            }),
        },
      };
    },
  }),
  route({
    id: "verifyAudit",
    method: "post",
    path: "/api/v1/audit/verification",
    tag: TAG,
    safe: true,
    summary: "Proves the audit record: every row, the chain, the signatures.",
    description:
      "Takes about a second for each 20,000 rows. Lines of type progress tell how far it is; the last line, of type verdict, says whether it is ok, or names the first bad row and its fault; a last line of type problem says why there is none.",
    query: z.object({
      anchor: z
        .string()
        .regex(/^[1-9]\d{0,14}:[0-9a-f]{64}$/, "must be POSITION:LINK")
        .optional()
        .meta({ description: "Position and link of a row or checkpoint that was kept outside of the database." }),
    }),
    access: { kind: "Allowed", verb: "audit", target },
    answers: { 200: { description: "JSON Lines.", type: JSON_LINES } },
    handle: async ({ input, services }) => ({
      status: 200,
      stream: { type: JSON_LINES, pieces: told(verification(services.audit, input.query.anchor)), told: problemLine },
    }),
  }),
  route({
    id: "exportAudit",
    method: "get",
    path: "/api/v1/audit/export",
    tag: TAG,
    summary: "The audit record, or a stretch of it, with everything that proves it.",
    description:
      "A stretch begins and ends at the checkpoints around it, so there can be more than was asked for. JSON Lines can be proved without the installation; CSV is for reading. One that cannot be finished, such as when retention removes rows that it has not reached, ends with a line of type problem that says why, and the connection breaks off.",
    query: z.object({
      from: filterQuery.from,
      to: filterQuery.to,
      format: z.enum(["jsonl", "csv"]).default("jsonl").meta({ description: "JSON Lines, or RFC 4180." }),
    }),
    access: { kind: "Allowed", verb: "audit", target },
    answers: {
      200: {
        description: "The record.",
        type: JSON_LINES,
        otherTypes: ["text/csv"],
        headers: { "x-row-count": "About how many rows are to come." },
      },
    },
    handle: async ({ input, services }) => {
      const { from, to, format } = input.query;
      const { audit, signing } = services;
      const time = { ...(from && { from: new Date(from) }), ...(to && { to: new Date(to) }) };
      const range = await rangeOf(audit, time);
      const upTo = range.upTo ?? (await audit.head()).position;
      const records = exportRecords(audit, signing, range);
      return {
        status: 200,
        headers: { "x-row-count": String(upTo - (range.after ?? 0n)) },
        stream:
          format === "csv"
            ? { type: "text/csv", pieces: csv(records), told: (problem) => csvProblem(problemLine(problem)) }
            : { type: JSON_LINES, pieces: jsonLines(records), told: problemLine },
      };
    },
  }),
];

/** Sequence number or position. */
function placeOf(after: string | undefined): bigint | undefined {
  if (after === undefined) return undefined;
  const text = keyOfCursor(after);
  if (/^\d{1,18}$/.test(text)) return BigInt(text);
  const errors = [{ field: "query.after", message: "must be what `next` of the page before said" }];
  throw new Problem(400, "InvalidRequest", "query.after: must be what `next` of the page before said", { errors });
}
