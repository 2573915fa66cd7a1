/** What gateways are to do, and what came of it. */
import { standingPoll, TASK_ROUTES, taskPoll, taskResults } from "../../core/fleet/task-protocol.ts";
import { type FleetRoute, ofMember } from "./route.ts";

export const taskRoutes: readonly FleetRoute[] = [
  ofMember(TASK_ROUTES.standing, standingPoll, async ({ services, member, body, signal }) => ({
    status: 200,
    body: await services.tasks.awaitStanding(member, body, signal),
  })),
  ofMember(TASK_ROUTES.tasks, taskPoll, async ({ services, member, body, signal }) => ({
    status: 200,
    body: await services.tasks.poll(member, body, signal),
  })),
  ofMember(TASK_ROUTES.results, taskResults, async ({ services, member, body }) => ({
    status: 200,
    body: await services.tasks.finish(member, body.results),
  })),
];
