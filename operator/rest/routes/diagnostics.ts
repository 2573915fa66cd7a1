/** For who keeps it running: what is wrong and what to do, and what to hand to those who help. Nothing in it is secret. */
import { z } from "zod";
import type { Target } from "../../../core/access/policy.ts";
import { JSON_LINES, problemLine } from "../json-lines.ts";
import { route } from "../route.ts";

const TAG = "Diagnostics";
const target = (): Target => ({ kind: "Audit" });

const finding = z.strictObject({
  check: z.string().meta({ description: "Name of the check, such as database.migrations." }),
  status: z.enum(["ok", "warning", "failing"]),
  subject: z.string().optional().meta({ description: "The object that it is about, such as Secret shop/db." }),
  problem: z.string().optional().meta({ description: "What is wrong, in one sentence." }),
  fix: z.string().optional().meta({ description: "What to do, with the command where there is one." }),
});

const facts = z.strictObject({
  version: z.string(),
  node: z.string(),
  platform: z.string(),
  upSeconds: z.int(),
  residentBytes: z.int(),
  configuration: z.record(z.string(), z.unknown()).meta({ description: "The settings; they name files, not secrets." }),
  database: z
    .strictObject({
      version: z.string(),
      migrations: z.array(z.string()),
      tables: z.array(z.strictObject({ name: z.string(), rows: z.number(), bytes: z.number() })),
    })
    .optional()
    .meta({ description: "Absent while PostgreSQL does not answer." }),
  metrics: z.string().meta({ description: "In the text format of Prometheus." }),
});

export const diagnosticsRoutes = [
  route({
    id: "getDiagnostics",
    method: "get",
    path: "/api/v1/diagnostics",
    tag: TAG,
    summary: "What does not work, and what to do about it.",
    description:
      "Looks at connections, clocks, rights, certificates, keys, migrations, budgets, the audit record, leadership and every resource. Takes five seconds at most, whatever does not answer.",
    access: { kind: "Allowed", verb: "audit", target },
    answers: {
      200: { description: "What was found.", schema: z.strictObject({ findings: z.array(finding) }) },
    },
    handle: async ({ services }) => ({ status: 200, body: { findings: await services.diagnostics.examine() } }),
  }),
  route({
    id: "getSupportFacts",
    method: "get",
    path: "/api/v1/support",
    tag: TAG,
    summary: "Versions, settings, sizes and metrics, for a support bundle.",
    access: { kind: "Allowed", verb: "audit", target },
    answers: { 200: { description: "What there is to know.", schema: facts } },
    handle: async ({ services }) => ({ status: 200, body: await services.diagnostics.facts() }),
  }),
  route({
    id: "getSupportResources",
    method: "get",
    path: "/api/v1/support/resources",
    tag: TAG,
    summary: "Every resource of MazeVault with its status, without what may be secret in it.",
    access: { kind: "Allowed", verb: "audit", target },
    answers: { 200: { description: "JSON Lines.", type: JSON_LINES } },
    handle: async ({ services }) => ({
      status: 200,
      stream: { type: JSON_LINES, pieces: lines(services.diagnostics.resources()), told: problemLine },
    }),
  }),
];

async function* lines(objects: Iterable<unknown>): AsyncGenerator<string> {
  for (const object of objects) yield `${JSON.stringify(object)}\n`;
}
