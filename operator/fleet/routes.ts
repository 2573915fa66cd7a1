/** What gateways ask for inside the channel, and what is common to all of it. */
import { randomUUID } from "node:crypto";
import type { ChannelAnswer, ChannelHandler, ChannelRequest } from "../../adapters/channel/server-session.ts";
import { BodyRefused } from "../../adapters/channel/server-session.ts";
import type { MemberRefusalCode } from "../../core/fleet/errors.ts";
import type { Member } from "../../core/fleet/member.ts";
import { networkOf } from "../../core/identity/throttle.ts";
import { MalformedInput } from "../../core/pki/malformed-input.ts";
import type { RateCounter, RateCounters } from "../../core/ports/rate-counter.ts";
import { answeredWith } from "../../core/ports/tracer.ts";
import type { Logger } from "../../program/logging.ts";
import { problemOf } from "../rest/failure.ts";
import { PROBLEM_TYPE, Problem } from "../rest/problem.ts";
import { count } from "../rest/rate-limits.ts";
import type { RestServerParts } from "../rest/server.ts";
import { judgeBody } from "../rest/validation.ts";
import { membershipRoutes } from "./membership-routes.ts";
import { replicaRoutes } from "./replica-routes.ts";
import type { FleetRoute } from "./route.ts";
import type { FleetServices } from "./services.ts";
import { signingRoutes } from "./signing-routes.ts";
import { taskRoutes } from "./task-routes.ts";
import { writeRoutes } from "./write-routes.ts";

/** Of one gateway in each second, on average over ten. */
const PER_GATEWAY = { points: 500, windowSeconds: 10 };
/** Attempts to register, of one address, which may be that of a proxy with many gateways behind it. */
const REGISTRATIONS = { points: 10, windowSeconds: 60 };

const MEMBER_REFUSALS: readonly MemberRefusalCode[] = ["GatewayRevoked", "CertificateUnknown", "CertificateExpired"];
const ENDS_SESSIONS: ReadonlySet<string> = new Set(MEMBER_REFUSALS);

export interface FleetRoutesParts extends Pick<RestServerParts, "onAnswer" | "tracer"> {
  readonly services: FleetServices;
  /** @throws FleetRefused with a MemberRefusalCode; Unavailable FleetStateStale */
  readonly admit: (certificateDer: Buffer) => Member;
  readonly rateCounters: RateCounters;
  readonly log: Pick<Logger, "debug" | "error" | "warn">;
}

/** All that is asked for inside the channel. */
export const fleetRoutes: readonly FleetRoute[] = [
  ...membershipRoutes,
  ...taskRoutes,
  ...replicaRoutes,
  ...writeRoutes,
  ...signingRoutes,
];
const routes: ReadonlyMap<string, FleetRoute> = new Map(fleetRoutes.map((route) => [route.path, route] as const));

/** Answers what comes through the channel; whatever fails is a problem (RFC 9457) with a `code`. */
export function fleetHandler(parts: FleetRoutesParts): ChannelHandler {
  const { rateCounters, log, onAnswer, tracer } = parts;
  const limits: Limits = {
    gateways: rateCounters("gateway", PER_GATEWAY),
    registrations: rateCounters("registration", REGISTRATIONS),
  };
  const handle = async (request: ChannelRequest, route: string): Promise<ChannelAnswer> => {
    const { method } = request;
    const requestId = randomUUID();
    const started = performance.now();
    let answer: ChannelAnswer;
    try {
      answer = await answerTo(request, parts, limits);
    } catch (error) {
      const problem = fleetProblem(error);
      if (problem.status >= 500 && !request.signal.aborted) {
        const level = problem.status === 500 ? "error" : "warn";
        log[level]({ requestId, method, route, error }, "a gateway's request failed");
      }
      answer = answerOf(problem, requestId);
    }
    const { status } = answer;
    const seconds = (performance.now() - started) / 1000;
    onAnswer?.({ method, route, status, seconds });
    log.debug({ requestId, method, route, status, seconds }, "request of a gateway");
    return answer;
  };
  return (request) => {
    const { path, traceParent: parent } = request;
    const route = routes.has(path) ? path : "none";
    // A gateway that does not trace it has nobody who would look; its heartbeats and its waiting are most of what comes.
    if (tracer === undefined || parent === undefined) return handle(request, route);
    const attributes = { "http.route": route };
    return tracer.trace(`gateway ${route}`, { kind: "server", attributes, parent }, async () => {
      const answer = await handle(request, route);
      tracer.note(answeredWith(answer.status));
      return answer;
    });
  };
}

interface Limits {
  readonly gateways: RateCounter;
  readonly registrations: RateCounter;
}

async function answerTo(
  { method, path, peer, remoteAddress: address, json, signal }: ChannelRequest,
  { services, admit }: FleetRoutesParts,
  limits: Limits,
): Promise<ChannelAnswer> {
  // Also for what does not exist: one that is revoked learns it whatever it asks for, and its session ends.
  const member = peer === undefined ? undefined : admit(peer);
  if (member !== undefined) await count(limits.gateways, member.gatewayId, `gateway ${member.name}`);
  const route = routes.get(path);
  if (route === undefined) throw new Problem(404, "RouteNotFound", "there is nothing of that name in the channel");
  if (method !== "POST") {
    throw new Problem(405, "MethodNotAllowed", "only POST is answered here", { headers: { allow: "POST" } });
  }
  if (route.kind === "Stranger") {
    await count(limits.registrations, networkOf(address), "this address");
    const body = judgeBody(route.body, await json()) as never;
    return route.handle({ services, body, address, signal });
  }
  if (member === undefined || peer === undefined) {
    throw new Problem(401, "CertificateRequired", "only a gateway with a certificate of the fleet is answered here");
  }
  const body = judgeBody(route.body, await json()) as never;
  return route.handle({ services, body, address, signal, member, certificate: peer });
}

function fleetProblem(error: unknown): Problem {
  if (error instanceof BodyRefused) return new Problem(error.status, error.code, error.message);
  if (error instanceof MalformedInput) {
    const field = `body.${error.field}`;
    const errors = [{ field, message: error.problem }];
    return new Problem(400, "InvalidRequest", `${field}: ${error.problem}`, { errors });
  }
  return problemOf(error);
}

function answerOf(problem: Problem, requestId: string): ChannelAnswer {
  const { status, headers, code } = problem;
  return {
    status,
    headers,
    contentType: PROBLEM_TYPE,
    body: problem.body(requestId),
    ...(ENDS_SESSIONS.has(code) && { endsSession: code }),
  };
}
