/** Gateways: tokens to register with, who is in touch, and how well. */
import { z } from "zod";
import { isNotFound } from "../../../controllers/runtime/api-error.ts";
import { resourceType } from "../../../controllers/runtime/resource-type.ts";
import type { Target } from "../../../core/access/policy.ts";
import { FleetRefused } from "../../../core/fleet/errors.ts";
import { GATEWAY_STATES, healthOf, lastHeartbeat } from "../../../core/fleet/health.ts";
import type { GatewayRecord, Place } from "../../../core/ports/fleet-store.ts";
import { UNLED } from "../../../core/ports/vault-store.ts";
import { API_VERSION, labelName } from "../../../crds/common.ts";
import { type Gateway, gatewayEnvironment, gatewayKind, gatewayRole } from "../../../crds/gateway.ts";
import { MADE_BY } from "../../../crds/installation.ts";
import { pageOf, pageQuery, visiblePage } from "../page.ts";
import { Problem, retryAfter } from "../problem.ts";
import { type Call, type Input, route } from "../route.ts";
import type { Services } from "../services.ts";
import { readiness, readinessOf } from "./names.ts";
import { FIELD_MANAGER } from "./secrets/secret.ts";

const TAG = "Gateways";
const REVOKED_WITHIN_MS = 1_000;
const type = resourceType(gatewayKind);

/** It becomes the common name of a certificate. */
const name = labelName.meta({ description: "Name of the gateway." });
const byName = z.object({ name });

const environment = gatewayEnvironment.meta({ description: "The environment that it works for, such as NPR." });
const role = gatewayRole.meta({ description: "Its place in the pair of its environment." });

const summary = z.strictObject({
  name: z.string(),
  gatewayId: z.uuid().optional().meta({ description: "By which it is known everywhere." }),
  environment: environment.optional(),
  role: role.optional(),
  version: z.string().optional().meta({ description: "Version of the program there." }),
  registeredAt: z.iso.datetime().optional(),
  certificateNotAfter: z.iso.datetime().optional().meta({ description: "When its certificate ends, as it said last." }),
  ...readiness,
});

const told = z.strictObject({
  name: z.string(),
  environment: environment.optional(),
  role: role.optional(),
  status: z.enum(GATEWAY_STATES),
  healthScore: z
    .number()
    .min(0)
    .max(1)
    .optional()
    .meta({ description: "1.0 is well; this and what follows is for who may list gateways." }),
  lastHeartbeat: z.iso.datetime().optional(),
  ageSeconds: z.number().min(0).optional().meta({ description: "Since then, or since it registered." }),
  version: z.string().optional(),
  queueLength: z.int().min(0).optional().meta({ description: "Writes that wait there for the primary." }),
  certificateNotAfter: z.iso.datetime().optional(),
  problems: z.array(z.string()).optional().meta({ description: "What it tells itself, and what is seen from here." }),
});

const bootstrap = z.strictObject({
  name,
  environment: environment.optional().meta({ description: "Absent: as its object says, else as it says itself." }),
  role: role.optional().meta({ description: "Absent: as its object says, else as it says itself." }),
});

const targetOf = (gateway: string): Target => ({ kind: "Gateway", name: gateway });
const target = ({ params }: { readonly params: { readonly name: string } }): Target => targetOf(params.name);

function shown(gateway: Gateway): z.infer<typeof summary> {
  const { metadata, spec, status = {} } = gateway;
  const { gatewayId, version, registeredAt, certificateNotAfter } = status;
  const at = status.environment ?? spec.environment;
  const as = status.role ?? spec.role;
  return {
    name: metadata.name,
    ...(gatewayId !== undefined && { gatewayId }),
    ...(at !== undefined && { environment: at }),
    ...(as !== undefined && { role: as }),
    ...(version !== undefined && { version }),
    ...(registeredAt !== undefined && { registeredAt }),
    ...(certificateNotAfter !== undefined && { certificateNotAfter }),
    ...readinessOf(gateway),
  };
}

function theGateway({ view }: Services, wanted: string): Gateway {
  const found = view.gateway(wanted);
  if (found === undefined) throw new Problem(404, "NotFound", `there is no Gateway ${wanted}`);
  return found;
}

export const gatewayRoutes = [
  route({
    id: "bootstrapGateway",
    method: "post",
    path: "/api/v1/gateways/bootstrap",
    tag: TAG,
    summary: "Makes a token for a gateway to register with, once, and the Gateway object where it is missing.",
    description:
      "Tokens that nobody has used yet end with it. One that has registered goes on until it registers anew. The token is told this once.",
    body: bootstrap,
    access: { kind: "Allowed", verb: "administer", target: ({ body }) => targetOf(body.name) },
    answers: {
      201: {
        description: "The token. Give it to the gateway as GATEWAY_BOOTSTRAP_TOKEN.",
        schema: z.strictObject({
          token: z.string().meta({ description: "Whoever has it can register as this gateway." }),
          name: z.string(),
          gatewayId: z.uuid(),
          expiresAt: z.iso.datetime(),
        }),
      },
    },
    problems: [409, 422],
    handle: async (call) => {
      const { body } = call.input;
      const { registrations } = call.services;
      if (registrations === undefined) {
        throw new Problem(409, "NotPrimary", "this is a gateway: ask its primary for bootstrap tokens");
      }
      const place = merged(body, (await existing(call, body.name)) ?? (await made(call, body)));
      try {
        const issued = await registrations.issueToken(UNLED, { name: body.name, place, actor: call.actor });
        const { token, gatewayId, expiresAt } = issued;
        return { status: 201, body: { token, name: body.name, gatewayId, expiresAt: expiresAt.toISOString() } };
      } catch (error) {
        if (error instanceof FleetRefused) throw new Problem(409, error.code, error.message, { cause: error });
        throw error;
      }
    },
  }),
  route({
    id: "listGateways",
    method: "get",
    path: "/api/v1/gateways",
    tag: TAG,
    summary: "Gateways.",
    query: z.object(pageQuery),
    access: { kind: "Filtered", verb: "list" },
    answers: { 200: { description: "A page of them, by name.", schema: pageOf(summary) } },
    handle: async ({ input, services, may, hasNoGrant }) => {
      const nameOf = ({ metadata }: Gateway): string => metadata.name;
      const mayShow = (gateway: Gateway) => may("list", targetOf(nameOf(gateway))).allowed;
      const gateways = hasNoGrant ? [] : services.view.gateways();
      return { status: 200, body: await visiblePage(gateways, nameOf, input.query, mayShow, shown) };
    },
  }),
  route({
    id: "getGateway",
    method: "get",
    path: "/api/v1/gateways/{name}",
    tag: TAG,
    summary: "One gateway.",
    params: byName,
    access: { kind: "Allowed", verb: "list", target },
    answers: { 200: { description: "The gateway.", schema: summary } },
    problems: [404],
    handle: async ({ input, services }) => ({ status: 200, body: shown(theGateway(services, input.params.name)) }),
  }),
  route({
    id: "deleteGateway",
    method: "delete",
    path: "/api/v1/gateways/{name}",
    tag: TAG,
    summary: "Deletes the Gateway object, as kubectl delete does, which revokes the gateway.",
    params: byName,
    access: { kind: "Allowed", verb: "administer", target },
    answers: { 204: { description: "It is gone; its certificates count for nothing in a moment." } },
    problems: [404, 409],
    handle: async (call) => {
      const { input, services, signal } = call;
      const { uid } = theGateway(services, input.params.name).metadata;
      await call.announce("Delete", target(input));
      await services.api.delete(type, input.params, { preconditions: { uid }, signal });
      return { status: 204 };
    },
  }),
  route({
    id: "getGatewayHealth",
    method: "get",
    path: "/api/v1/admin/gateway-health",
    tag: TAG,
    summary: "How well each gateway is.",
    description: "Without credentials, or without a grant of `list`, only name, environment, role and status.",
    access: { kind: "Optional" },
    answers: {
      200: { description: "All of them, by name.", schema: z.strictObject({ items: z.array(told) }) },
    },
    handle: async ({ services, may }) => {
      const now = new Date();
      const records = new Map((await services.fleet.gateways()).map((record) => [record.name, record]));
      const objects = [...services.view.gateways()].toSorted((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
      const items = objects.map((gateway) => {
        const health = healthShown(gateway, records.get(gateway.metadata.name), now);
        if (may("list", targetOf(health.name)).allowed) return health;
        const { name: named, environment: at, role: as, status } = health;
        return {
          name: named,
          ...(at !== undefined && { environment: at }),
          ...(as !== undefined && { role: as }),
          status,
        };
      });
      return { status: 200, body: { items } };
    },
  }),
];

function healthShown({ metadata, spec }: Gateway, record: GatewayRecord | undefined, now: Date): z.infer<typeof told> {
  const at = record?.environment ?? spec.environment;
  const as = record?.role ?? spec.role;
  const place = {
    name: metadata.name,
    ...(at !== undefined && { environment: at }),
    ...(as !== undefined && { role: as }),
  };
  if (record === undefined) return { ...place, status: "awaitingRegistration", healthScore: 0, problems: [] };
  const { state, score, ageSeconds, problems } = healthOf(record, now);
  const heartbeat = state === "awaitingRegistration" ? undefined : lastHeartbeat(record);
  return {
    ...place,
    status: state,
    healthScore: score,
    ...(heartbeat !== undefined && {
      lastHeartbeat: heartbeat.at.toISOString(),
      version: heartbeat.version,
      queueLength: heartbeat.queueLength,
      certificateNotAfter: heartbeat.certificateNotAfter,
    }),
    ...(ageSeconds !== undefined && { ageSeconds }),
    problems: [...problems],
  };
}

/** Asked of the API server itself: a cache may not know yet what was made or deleted a moment ago. */
async function existing({ services, signal }: Call<Input>, wanted: string): Promise<Gateway | undefined> {
  try {
    const found = await services.api.get<Gateway>(type, { name: wanted }, { signal });
    if (found.metadata.deletionTimestamp === undefined && !(await hasFormer(found, services))) return found;
  } catch (error) {
    if (!isNotFound(error, wanted)) throw error;
    // A token that was made before the leader revokes the one of that name would end with it.
    const former = await services.fleet.gateway(wanted);
    if (former === undefined || former.revokedAt !== undefined) return undefined;
  }
  const message = `the Gateway ${wanted} was deleted and is not revoked yet; repeat the request in a moment`;
  throw new Problem(409, "GatewayNotRevoked", message, { headers: retryAfter(REVOKED_WITHIN_MS) });
}

/** A registration of before the object is of one of its name that was deleted while nobody watched. */
async function hasFormer({ metadata, status }: Gateway, { fleet }: Services): Promise<boolean> {
  if (status?.gatewayId !== undefined || metadata.creationTimestamp === undefined) return false;
  const { registeredAt, revokedAt } = (await fleet.gateway(metadata.name)) ?? {};
  return registeredAt !== undefined && revokedAt === undefined && registeredAt < new Date(metadata.creationTimestamp);
}

async function made({ services, signal, announce }: Call<Input>, body: z.infer<typeof bootstrap>): Promise<Gateway> {
  await announce("Create", targetOf(body.name));
  const { name: named, ...spec } = body;
  const object = {
    apiVersion: API_VERSION,
    kind: gatewayKind.kind,
    metadata: { name: named, annotations: { [MADE_BY]: "rest" } },
    spec,
  };
  return services.api.create<Gateway>(type, object, { fieldManager: FIELD_MANAGER, signal });
}

/** The object is the truth; what it leaves open the token may fix. */
function merged(asked: z.infer<typeof bootstrap>, { metadata, spec }: Gateway): Partial<Place> {
  for (const field of ["environment", "role"] as const) {
    if (asked[field] === undefined || spec[field] === undefined || asked[field] === spec[field]) continue;
    const fix = `leave ${field} out, or delete the Gateway, which revokes it, and make it anew`;
    const message = `${field}: Gateway ${metadata.name} says ${spec[field]}, and the request ${asked[field]}; ${fix}`;
    throw new Problem(409, "PlaceDiffers", message);
  }
  const at = asked.environment ?? spec.environment;
  const as = asked.role ?? spec.role;
  return { ...(at !== undefined && { environment: at }), ...(as !== undefined && { role: as }) };
}
