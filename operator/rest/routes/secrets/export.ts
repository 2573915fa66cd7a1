/** Many secrets at once, as a stream. */
import { setImmediate as turn } from "node:timers/promises";
import { z } from "zod";
import { problemOf } from "../../failure.ts";
import { JSON_LINES, problemLine } from "../../json-lines.ts";
import { type Call, type Input, route } from "../../route.ts";
import { type Scope, scopeQuery } from "../names.ts";
import { encoding, inScope, keyOf, TAG, targetOf, theRecordToOpen } from "./secret.ts";
import { read } from "./values.ts";

export const exportRoutes = [
  route({
    id: "exportSecrets",
    method: "get",
    path: "/api/v1/export",
    tag: TAG,
    summary: "The current values of many secrets, one JSON object a line.",
    description:
      "Each read is on record before its line leaves. A line without values says why. One of type problem is the last: the rest could not be read, and the connection breaks off.",
    query: z.object({ ...scopeQuery, encoding }),
    access: { kind: "Filtered", verb: "read" },
    answers: { 200: { description: "JSON Lines.", type: JSON_LINES } },
    handle: async (call) => ({
      status: 200,
      stream: { type: JSON_LINES, pieces: exported(call, call.input.query), told: problemLine },
    }),
  }),
];

async function* exported(
  call: Call<Input>,
  { encoding: as, ...scope }: Scope & { readonly encoding: "utf8" | "base64" },
): AsyncGenerator<string> {
  const { services, may, hasNoGrant } = call;
  if (hasNoGrant) return;
  const secrets = [...services.view.secrets()].filter(inScope(scope)).sort((a, b) => (keyOf(a) < keyOf(b) ? -1 : 1));
  for (const secret of secrets) {
    await turn();
    const { allowed, reason } = may("read", targetOf(secret));
    if (!allowed) continue;
    const { namespace, name } = secret.metadata;
    const place = { namespace, name, project: secret.spec.projectRef.name, environment: secret.spec.environment };
    let line: object;
    try {
      const record = await theRecordToOpen(secret, services);
      line = { ...place, ...(await read(record, { ...call, grant: reason } as Call<Input>, {}, as)) };
    } catch (error) {
      const problem = problemOf(error);
      // Without the database, or after a defect, nothing that follows can be right.
      if (problem.status >= 500 && problem.code !== "TamperDetected") throw error;
      line = { ...place, problem: problem.code };
    }
    yield `${JSON.stringify(line)}\n`;
  }
}
