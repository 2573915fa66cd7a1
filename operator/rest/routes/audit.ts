/** The audit record: read, proved, and handed out. It says who did what, and never holds a value. */
import { z } from "zod";
import type { Target } from "../../../core/access/policy.ts";
import type { AuditAction, AuditFilter, AuditLog, AuditSubject, AuditVerdict } from "../../../core/ports/audit-log.ts";
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
};
const filters = z.object(filterQuery);
type Filter = z.infer<typeof filters>;

const filterOf = ({ action, actor, subject, outcome, from, to, order }: Filter): AuditFilter => ({
  ...(action !== undefined && { action: action as AuditAction }),
  ...(actor !== undefined && { actor }),
  ...(subject !== undefined && { subject: { name: subject } satisfies Partial<AuditSubject> }),
  ...(outcome !== undefined && { outcome }),
  ...(from !== undefined && { from: new Date(from) }),
  ...(to !== undefined && { to: new Date(to) }),
  order: order === "newest" ? "NewestFirst" : "OldestFirst",
});

/** Under way: it reads the whole record over one connection, and whoever asks meanwhile gets the same answer. */
const underWay = new WeakMap<AuditLog, Promise<AuditVerdict>>();

function verified(audit: AuditLog): Promise<AuditVerdict> {
  const standing = underWay.get(audit);
  if (standing !== undefined) return standing;
  const verifying = audit.verify().finally(() => underWay.delete(audit));
  underWay.set(audit, verifying);
  return verifying;
}

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
      const rows = await services.audit.read(filterOf(filter), sequenceOf(after), limit);
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
          ...(last !== undefined && rows.length === limit && { next: cursorOf(last.sequence.toString()) }),
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
    description: "Takes about a second for each 20,000 rows.",
    access: { kind: "Allowed", verb: "audit", target },
    answers: {
      200: {
        description: "What was found.",
        schema: z.strictObject({
          ok: z.boolean(),
          linked: z.int().optional(),
          unlinked: z.int().optional(),
          head: z.string().optional().meta({ description: "The last link, to be kept elsewhere." }),
          row: z.string().optional().meta({ description: "The first bad row." }),
          fault: z.string().optional(),
        }),
      },
    },
    handle: async ({ services }) => {
      const verdict = await verified(services.audit);
      const { ok } = verdict;
      return {
        status: 200,
        body: ok
          ? { ok, linked: verdict.linked, unlinked: verdict.unlinked, head: verdict.head }
          : { ok, row: verdict.row.toString(), fault: verdict.fault },
      };
    },
  }),
];

function sequenceOf(after: string | undefined): bigint | undefined {
  if (after === undefined) return undefined;
  const text = keyOfCursor(after);
  if (/^\d{1,18}$/.test(text)) return BigInt(text);
  const errors = [{ field: "query.after", message: "must be what `next` of the page before said" }];
  throw new Problem(400, "InvalidRequest", "query.after: must be what `next` of the page before said", { errors });
}
