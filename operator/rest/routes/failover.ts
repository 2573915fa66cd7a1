/** Which gateway of an environment acts, and handing that over. */
import { z } from "zod";
import { obstacle } from "../../../controllers/failover/decide.ts";
import { requestFailover } from "../../../controllers/failover/request.ts";
import { gatewayOf, isOpen, ROLE_OF } from "../../../core/fleet/environment.ts";
import type { KnownEnvironment } from "../../../core/fleet/environments.ts";
import { GATEWAY_STATES, healthOf } from "../../../core/fleet/health.ts";
import type { Pair, Side } from "../../../core/ports/environment-store.ts";
import type { GatewayRecord } from "../../../core/ports/fleet-store.ts";
import type { Failover } from "../../../crds/failover.ts";
import { gatewayEnvironment, gatewayRole } from "../../../crds/gateway.ts";
import type { GatewayEnvironment } from "../../../crds/gatewayenvironment.ts";
import { Problem } from "../problem.ts";
import { type Call, type Input, route } from "../route.ts";
import type { Services } from "../services.ts";
import { FIELD_MANAGER } from "./secrets/secret.ts";

const TAG = "Gateways";
const SIDES: readonly Side[] = ["Primary", "Standby"];

const params = z.object({
  environment: gatewayEnvironment.meta({ description: "The environment, such as NPR." }),
});
const query = z.object({
  force: z.enum(["true", "false"]).optional().meta({
    description:
      "true: also when the gateway that is to act is not heard of, or writes wait in the queue of the other one.",
  }),
});

const member = z.strictObject({
  name: z.string(),
  state: z.enum(GATEWAY_STATES).meta({ description: "As /api/v1/admin/gateway-health tells it." }),
  score: z.number().min(0).max(1).optional().meta({ description: "1.0 is well; for who may list gateways." }),
});

const state = z.strictObject({
  environment: gatewayEnvironment,
  active: gatewayRole.meta({ description: "Which of the two is in charge." }),
  activeGateway: z.string().meta({ description: "Its name." }),
  epoch: z.int().min(1).meta({ description: "One more with each change of who acts." }),
  since: z.iso.datetime().meta({ description: "When that changed last." }),
  phase: z.enum(["stable", "waiting", "fencing"]).meta({
    description:
      "waiting: a failover waits for what keeps it from being begun; fencing: nobody acts until what the other gateway was granted is over.",
  }),
  message: z.string().optional().meta({ description: "What is waited for; for who may list gateways." }),
  primary: member,
  standby: member,
  automaticFailover: z.boolean().meta({ description: "Whether DR is activated without a person." }),
  failover: z.string().optional().meta({ description: "Name of the Failover that is under way." }),
});
type State = z.infer<typeof state>;

/** An environment with the object that says so. */
interface Found {
  readonly object: GatewayEnvironment;
  readonly known: KnownEnvironment;
  readonly pair: Pair;
  readonly records: Readonly<Record<Side, GatewayRecord | undefined>>;
  /** That has not ended, the newest one. */
  readonly open: Failover | undefined;
}

async function find({ services, input, may }: Pick<Call<Asked>, "services" | "input" | "may">): Promise<Found> {
  const { view, environments, fleet } = services;
  const wanted = input.params.environment;
  if (environments === undefined) {
    throw new Problem(409, "NotPrimary", "this is a gateway: ask its primary which gateway of an environment acts");
  }
  const read = await environments.find(wanted);
  const { record } = read;
  const object = record?.pair && view.gatewayEnvironment(record.pair.object);
  if (record?.pair === undefined || object === undefined) throw unknown(view, wanted, may);
  const { pair } = record;
  const [primary, standby] = await Promise.all([fleet.gateway(pair.primary), fleet.gateway(pair.standby)]);
  const open = view
    .failoversOf(pair.object)
    .filter(({ status }) => status?.outcome === undefined)
    .toSorted((one, other) => (age(one) < age(other) ? 1 : -1))[0];
  return { object, known: { ...read, record }, pair, records: { Primary: primary, Standby: standby }, open };
}

const age = ({ metadata: { creationTimestamp = "", uid } }: Failover): string => `${creationTimestamp} ${uid}`;

/** What else there is, is for who may list it. */
function unknown(view: Services["view"], wanted: string, may: Call<Input>["may"]): Problem {
  const objects = [...view.gatewayEnvironments()];
  const own = objects.find(({ spec }) => spec.environment === wanted)?.metadata.name;
  if (own !== undefined) {
    const message = `the gateways of GatewayEnvironment ${own} are not paired yet; its condition Paired says why`;
    return new Problem(404, "NotFound", message);
  }
  const shown = objects.filter(({ spec }) =>
    [spec.primaryRef, spec.standbyRef].every(({ name }) => may("list", { kind: "Gateway", name }).allowed),
  );
  const known = [...new Set(shown.map(({ spec }) => spec.environment))].sort();
  const there = known.length === 0 ? "" : `; there is ${known.join(", ")}`;
  return new Problem(404, "NotFound", `there is no GatewayEnvironment for ${wanted}${there}`);
}

function shown({ object, known, pair, records, open }: Found, mayList: boolean, requested = open): State {
  const { record, environment, at } = known;
  const of = (side: Side) => {
    const health = records[side] && healthOf(records[side], at);
    return {
      name: gatewayOf(pair, side),
      state: health?.state ?? ("awaitingRegistration" as const),
      ...(mayList && { score: health?.score ?? 0 }),
    };
  };
  const stands = requested === undefined ? "stable" : "waiting";
  const message = requested?.status?.conditions?.find(({ type }) => type === "Completed")?.message;
  return {
    environment,
    active: ROLE_OF[record.active],
    activeGateway: gatewayOf(pair, record.active),
    epoch: Number(record.epoch),
    since: record.since.toISOString(),
    phase: isOpen(record, at) ? stands : "fencing",
    ...(mayList && message !== undefined && { message }),
    primary: of("Primary"),
    standby: of("Standby"),
    automaticFailover: object.spec.automaticFailover !== undefined,
    ...(mayList && requested !== undefined && { failover: requested.metadata.name }),
  };
}

type Asked = Input & { readonly params: z.infer<typeof params>; readonly query: z.infer<typeof query> };

const target = ({ params: { environment } }: { readonly params: z.infer<typeof params> }) =>
  ({ kind: "Gateway", name: environment }) as const;

/** Leaves an object behind that says what is wanted, as `kubectl create` does; the leader does it. */
async function handOver(call: Call<Asked>, activate: Side) {
  const { input, services, signal, announce } = call;
  const found = await find(call);
  const { known, pair, open } = found;
  const force = input.query.force === "true";
  if (known.record.active === activate && open === undefined) return { status: 200, body: shown(found, true) };
  const refusal = activate === "Standby" && !force ? obstacle(activate, known, found) : undefined;
  if (refusal !== undefined && known.record.active !== activate) {
    throw new Problem(409, refusal.reason, `${refusal.message}; or do it all the same with ?force=true`);
  }
  await announce("Create", target(input));
  const request = { environment: pair.object, activate, force, madeBy: "rest", fieldManager: FIELD_MANAGER } as const;
  const made = await requestFailover(services.api, request, signal);
  return { status: 202, body: shown(found, true, made) };
}

const asking = {
  method: "post",
  tag: TAG,
  params,
  query,
  access: { kind: "Allowed", verb: "administer", target },
  answers: {
    200: { description: "That gateway is in charge already, and nothing else is under way.", schema: state },
    202: { description: "It was asked for; what comes of it is told by GET.", schema: state },
  },
  problems: [404, 409],
} as const;

export const failoverRoutes = [
  route({
    id: "getFailover",
    method: "get",
    path: "/api/v1/admin/failover/{environment}",
    tag: TAG,
    summary: "Which gateway of an environment acts.",
    description:
      "Without credentials, or without a grant of `list` on gateways, without scores, names of Failovers and messages.",
    params,
    access: { kind: "Optional" },
    answers: { 200: { description: "The state.", schema: state } },
    problems: [404, 409],
    handle: async (call) => {
      const { may } = call;
      const found = await find(call);
      const mayList = SIDES.every(
        (side) => may("list", { kind: "Gateway", name: gatewayOf(found.pair, side) }).allowed,
      );
      return { status: 200, body: shown(found, mayList) };
    },
  }),
  route({
    ...asking,
    id: "activateDr",
    path: "/api/v1/admin/failover/{environment}/activate-dr",
    summary: "Lets the standby act, whatever the primary does.",
    description:
      "Makes a Failover object. The former gateway is granted nothing from then on, and the standby acts when what it was granted is over, which takes 22 seconds. Refused when the standby is not heard of.",
    handle: (call) => handOver(call, "Standby"),
  }),
  route({
    ...asking,
    id: "failback",
    path: "/api/v1/admin/failover/{environment}/failback",
    summary: "Lets the primary act again.",
    description:
      "Makes a Failover object, which waits until heartbeats of the primary arrive and no writes wait at the standby.",
    handle: (call) => handOver(call, "Primary"),
  }),
];
