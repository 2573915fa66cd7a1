/** What everybody may know: that it is there, in which mode, and whether it works. */
import { z } from "zod";
import { route } from "../route.ts";

const health = z.strictObject({
  status: z.enum(["ok", "degraded"]),
  mode: z.literal("primary"),
  version: z.string(),
  checks: z
    .array(
      z.strictObject({
        name: z.string(),
        status: z.enum(["ok", "failing"]),
        problem: z.string().optional(),
        fix: z.string().optional(),
      }),
    )
    .meta({ description: "Each part that it needs." }),
});

export const systemRoutes = [
  route({
    id: "getMode",
    method: "get",
    path: "/",
    tag: "System",
    summary: "In which mode this program runs.",
    access: { kind: "Anyone" },
    answers: { 200: { description: "The mode.", schema: z.strictObject({ mode: z.literal("primary") }) } },
    handle: async ({ services }) => ({ status: 200, body: { mode: services.mode } }),
  }),
  route({
    id: "getHealth",
    method: "get",
    path: "/api/v1/health",
    tag: "System",
    summary: "Whether it works, part by part.",
    access: { kind: "Anyone" },
    answers: {
      200: { description: "Everything works.", schema: health },
    },
    problems: [503],
    handle: async ({ services }) => {
      const checks = services.health().map(({ name, problem, fix }) => ({
        name,
        status: problem === undefined ? ("ok" as const) : ("failing" as const),
        ...(problem !== undefined && { problem, fix }),
      }));
      const failing = checks.some(({ status }) => status === "failing");
      const { mode, version } = services;
      return {
        status: failing ? 503 : 200,
        body: { status: failing ? ("degraded" as const) : ("ok" as const), mode, version, checks },
      };
    },
  }),
];
