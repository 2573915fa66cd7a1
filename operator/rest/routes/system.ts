/** What everybody may know: that it is there, in which mode, and whether it works. */
import { z } from "zod";
import type { MembershipStatus } from "../../../core/fleet/membership.ts";
import type { QueuedWrites } from "../../../core/fleet/queued-writes.ts";
import type { BreakerState } from "../../../core/ports/primary-link.ts";
import { route } from "../route.ts";

const mode = z.enum(["primary", "gateway"]);

const problem = {
  problem: z.string().optional().meta({ description: "What is wrong." }),
  fix: z.string().optional().meta({ description: "What to do about it." }),
};

const gateway = z
  .strictObject({
    active: z.boolean().meta({
      description:
        "The primary lets it act for its environment at this moment; only the leader, which holds the channel, knows.",
    }),
    registration: z.strictObject({
      state: z.enum(["Unregistered", "Registering", "Registered", "Confirmed", "Revoked"]),
      gatewayId: z.uuid().optional(),
      name: z.string().optional(),
      environment: z.string().optional(),
      role: z.string().optional(),
      certificateNotAfter: z.iso.datetime().optional(),
      ...problem,
    }),
    channel: z.strictObject({
      state: z
        .enum(["Open", "Closed", "Standby"])
        .meta({ description: "Standby: another replica leads, and holds the channel." }),
      consecutiveFailures: z.int().meta({ description: "Heartbeats in a row that had no answer." }),
      lastHeartbeatAt: z.iso.datetime().optional(),
      ...problem,
    }),
    writeQueue: z
      .strictObject({
        length: z.int().meta({ description: "Writes that wait for the primary." }),
        limit: z.int().meta({ description: "Beyond it writes are refused." }),
        oldestAgeSeconds: z.number().optional().meta({ description: "Of the write that waits longest." }),
        refused: z.int().meta({ description: "Writes that the primary refused in the last seven days." }),
        ...problem,
      })
      .optional(),
    circuitBreaker: z
      .strictObject({
        state: z.enum(["Closed", "Open", "HalfOpen"]).meta({
          description:
            "Open: the primary did not answer several times in a row, and is only tried from time to time. Only the leader asks it, so others do not say.",
        }),
      })
      .optional(),
  })
  .meta({ description: "In mode gateway: how it stands with its primary. It serves whatever stands here." });

const health = z.strictObject({
  status: z.enum(["ok", "degraded"]),
  mode,
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
  gateway: gateway.optional(),
});

function writeQueueHealth(
  { state }: MembershipStatus,
  { length: { waiting, stranded, oldestAgeMs, refused }, most }: Pick<QueuedWrites, "length" | "most">,
): NonNullable<z.infer<typeof gateway>["writeQueue"]> {
  const stuck = state === "Revoked" && waiting > 0;
  return {
    length: waiting,
    limit: most,
    ...(oldestAgeMs !== undefined && { oldestAgeSeconds: Math.round(oldestAgeMs / 1_000) }),
    refused,
    ...(stranded > 0 && {
      problem: `${stranded} writes were accepted for another environment or another primary, and are not sent to this one`,
      fix: "register the gateway there again for what it is to have, or have their authors write anew: GET /api/v1/gateway/writes tells whose they are",
    }),
    ...(stuck && {
      problem: "the primary has revoked this gateway, so what waits here is not sent",
      fix: "register the gateway anew for the same environment with a new bootstrap token; what waits is kept, and sent then",
    }),
  };
}

function gatewayHealth(
  standing: MembershipStatus,
  breaker: BreakerState,
  writes: Pick<QueuedWrites, "length" | "most"> | undefined,
): z.infer<typeof gateway> {
  const { state, identity, certificateNotAfter, channel, active, fault, heartbeats } = standing;
  const wrong = fault && { problem: fault.problem, fix: fault.fix };
  const { lastAnsweredAt, consecutiveFailures } = heartbeats;
  return {
    active,
    registration: {
      state,
      ...identity,
      ...(certificateNotAfter && { certificateNotAfter: certificateNotAfter.toISOString() }),
      ...(state !== "Confirmed" && wrong),
    },
    channel: {
      state: channel,
      consecutiveFailures,
      ...(lastAnsweredAt && { lastHeartbeatAt: lastAnsweredAt.toISOString() }),
      ...(state === "Confirmed" && wrong),
    },
    ...(writes && { writeQueue: writeQueueHealth(standing, writes) }),
    ...(channel !== "Standby" && { circuitBreaker: { state: breaker } }),
  };
}

export const systemRoutes = [
  route({
    id: "getMode",
    method: "get",
    path: "/",
    tag: "System",
    summary: "In which mode this program runs.",
    access: { kind: "Anyone" },
    answers: { 200: { description: "The mode.", schema: z.strictObject({ mode }) } },
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
      const { mode, version, membership, circuitBreaker, writes } = services;
      const standing = membership?.();
      // A gateway serves also while its primary does not answer.
      const apart = standing !== undefined && (standing.state !== "Confirmed" || standing.fault !== undefined);
      return {
        status: failing ? 503 : 200,
        body: {
          status: failing || apart ? ("degraded" as const) : ("ok" as const),
          mode,
          version,
          checks,
          ...(standing && { gateway: gatewayHealth(standing, circuitBreaker?.() ?? "Closed", writes) }),
        },
      };
    },
  }),
];
