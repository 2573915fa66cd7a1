/** At a gateway: what became of writes on their way to the primary. Whoever wrote sees their own, administrators see all. */
import { z } from "zod";
import { type QueuedWrites, writerOf } from "../../../core/fleet/queued-writes.ts";
import type { QueuedWrite } from "../../../core/ports/write-queue.ts";
import { cursorOf, keyOfCursor, pageOf, pageQuery } from "../page.ts";
import { Problem } from "../problem.ts";
import { type Call, type Input, route } from "../route.ts";
import type { Services } from "../services.ts";

const TAG = "Gateways";
const PATH = "/api/v1/gateway/writes";

const state = z.enum(["Waiting", "Applied", "KeptBeside", "Refused"]).meta({
  description:
    "Waiting: it has not reached the primary. Applied: its values are current there. KeptBeside: somebody has set newer ones, so they are a version of their own. Refused: the primary cannot store them.",
});

const shownWrite = z.strictObject({
  id: z.uuid(),
  namespace: z.string(),
  name: z.string(),
  project: z.string(),
  environment: z.string(),
  by: z.string().meta({ description: "Who wrote." }),
  baseVersion: z.int().meta({ description: "Version of the secret that the gateway had." }),
  ageSeconds: z.number().meta({ description: "Since it was accepted." }),
  state,
  version: z.int().optional().meta({ description: "The version that has the values." }),
  code: z.string().optional().meta({ description: "Why it was refused." }),
  detail: z.string().optional().meta({ description: "The same, for a person." }),
  settledSeconds: z.number().optional().meta({ description: "Since the primary has answered." }),
});

const queue = {
  length: z.int().meta({ description: "Writes that wait, whoever wrote them." }),
  limit: z.int().meta({ description: "Beyond it writes are refused." }),
  oldestAgeSeconds: z.number().optional().meta({ description: "Of the write that waits longest." }),
};

function shown(write: QueuedWrite): z.infer<typeof shownWrite> {
  const { id, place, secret, author, baseVersion, ageMs, outcome, settledForMs } = write;
  return {
    id,
    ...place,
    project: secret.project,
    environment: secret.environment,
    by: author.subject,
    baseVersion,
    ageSeconds: Math.round(ageMs / 1_000),
    state: write.state,
    ...(outcome?.kind === "Refused" && { code: outcome.code, detail: outcome.detail }),
    ...(outcome !== undefined &&
      outcome.kind !== "Refused" &&
      outcome.version !== undefined && { version: outcome.version }),
    ...(settledForMs !== undefined && { settledSeconds: Math.round(settledForMs / 1_000) }),
  };
}

function theQueue({ writes }: Services): QueuedWrites {
  if (writes === undefined)
    throw new Problem(409, "NotGateway", "this is a primary: what is written here waits for nobody");
  return writes;
}

const seesAll = ({ may, services }: Pick<Call<Input>, "may" | "services">): boolean =>
  may("administer", { kind: "Gateway", name: services.membership?.().identity?.name ?? "gateway" }).allowed;

export const gatewayWriteRoutes = [
  route({
    id: "listGatewayWrites",
    method: "get",
    path: PATH,
    tag: TAG,
    summary: "At a gateway: its write queue, and what became of writes of the last seven days.",
    query: z.object({ ...pageQuery, state: state.optional() }),
    access: { kind: "Authenticated" },
    answers: { 200: { description: "A page of them, newest first.", schema: pageOf(shownWrite).extend(queue) } },
    problems: [409],
    handle: async (call) => {
      const { input, services, who } = call;
      const { limit, after, state: of } = input.query;
      const writes = theQueue(services);
      const whose = {
        ...(!seesAll(call as Call<Input>) && { writer: writerOf(who) }),
        ...(of !== undefined && { state: of }),
      };
      await writes.look();
      const found = await writes.list(whose, after === undefined ? undefined : sequenceOf(after), limit + 1);
      const items = found.slice(0, limit);
      const last = items.at(-1);
      const { waiting, oldestAgeMs } = writes.length;
      return {
        status: 200,
        body: {
          length: waiting,
          limit: writes.most,
          ...(oldestAgeMs !== undefined && { oldestAgeSeconds: Math.round(oldestAgeMs / 1_000) }),
          items: items.map(shown),
          ...(found.length > limit && last !== undefined && { next: cursorOf(last.sequence.toString()) }),
        },
      };
    },
  }),
  route({
    id: "getGatewayWrite",
    method: "get",
    path: `${PATH}/{id}`,
    tag: TAG,
    summary: "At a gateway: what became of a write.",
    params: z.object({ id: z.uuid().meta({ description: "As the answer to the write said." }) }),
    access: { kind: "Authenticated" },
    answers: { 200: { description: "The write.", schema: shownWrite } },
    problems: [404, 409],
    handle: async (call) => {
      const { input, services, who } = call;
      const write = await theQueue(services).find(input.params.id);
      if (write === undefined || (write.writer !== writerOf(who) && !seesAll(call as Call<Input>)))
        throw new Problem(
          404,
          "NotFound",
          `there is no write ${input.params.id}, or it was answered more than seven days ago`,
        );
      return { status: 200, body: shown(write) };
    },
  }),
];

function sequenceOf(cursor: string): bigint {
  const text = keyOfCursor(cursor);
  if (/^\d{1,18}$/.test(text)) return BigInt(text);
  const message = "must be what `next` of the page before said";
  throw new Problem(400, "InvalidRequest", `query.after: ${message}`, { errors: [{ field: "query.after", message }] });
}
