/**
 * What a primary and its gateways say to each other, of which either may be of the last release: bodies are read by the primary, and
 * answers by a gateway, which leaves out what it does not know.
 */
import { z } from "zod";
import { certificateAnswer, grant, heartbeatAnswer, registration } from "../../core/fleet/protocol.ts";
import { REPLICA, REPLICA_VALUES, replicaAnswer, replicaValuesAnswer } from "../../core/fleet/replica-protocol.ts";
import { issuerAnswer, SIGNING_ROUTES, signingAnswer } from "../../core/fleet/signing-protocol.ts";
import { TASK_ROUTES, taskAnswer, taskResultsAnswer } from "../../core/fleet/task-protocol.ts";
import { KNOWN_WRITES_PATH, knownWritesAnswer, WRITES_PATH, writesAnswer } from "../../core/fleet/writes.ts";
import { fleetRoutes } from "../../operator/fleet/routes.ts";
import { type Break, KEEP } from "./break.ts";
import { narrowed, type Schema } from "./schemas.ts";

/** By path; undefined: none is read. */
const answers: Readonly<Record<string, z.ZodType | undefined>> = {
  "/fleet/v1/registration": registration,
  "/fleet/v1/confirmation": undefined,
  "/fleet/v1/heartbeat": heartbeatAnswer,
  "/fleet/v1/certificate": certificateAnswer,
  [TASK_ROUTES.standing]: grant,
  [TASK_ROUTES.tasks]: taskAnswer,
  [TASK_ROUTES.results]: taskResultsAnswer,
  [REPLICA]: replicaAnswer,
  [REPLICA_VALUES]: replicaValuesAnswer,
  [WRITES_PATH]: writesAnswer,
  [KNOWN_WRITES_PATH]: knownWritesAnswer,
  [SIGNING_ROUTES.issuer]: issuerAnswer,
  [SIGNING_ROUTES.sign]: signingAnswer,
  [SIGNING_ROUTES.revoke]: undefined,
};

interface Exchange {
  readonly body: Schema;
  readonly answer?: Schema;
}

/** By path. */
export type Exchanges = Readonly<Record<string, Exchange>>;

export const exchanges = (): Exchanges =>
  Object.fromEntries(
    fleetRoutes.map(({ path, body }) => {
      if (!(path in answers)) throw new Error(`checks/compatibility/fleet.ts does not say what ${path} is answered`);
      const answer = answers[path];
      return [path, { body: schemaOf(body), ...(answer !== undefined && { answer: schemaOf(answer) }) }];
    }),
  );

function schemaOf(type: z.ZodType): Schema {
  const { $schema: _, ...schema } = z.toJSONSchema(type, { io: "input", reused: "inline" });
  return schema as Schema;
}

export function brokenByExchanges(released: Exchanges, now: Exchanges): readonly Break[] {
  return Object.entries(released).flatMap(([path, before]) => {
    const today = now[path];
    if (today === undefined) return [{ path, change: "was removed", fix: KEEP }];
    return [
      ...narrowed(before.body, today.body, `${path} body`),
      // The other way: whoever reads it is of the last release.
      ...narrowed(today.answer ?? {}, before.answer ?? {}, `${path} answer`, "LeftOut").map((each) => ({
        ...each,
        change: `${each.change}, as the last release reads it`,
        fix: "say only what it reads, or say it in a field beside it",
      })),
    ];
  });
}
