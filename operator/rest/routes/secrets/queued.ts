/** At a gateway: values of a secret that its primary has go into the queue, and from there to the primary. */
import { z } from "zod";
import type { ReplicatedSecret } from "../../../../core/fleet/replica-item.ts";
import type { QueuedWrite } from "../../../../core/ports/write-queue.ts";
import type { Sensitive } from "../../../../core/sensitive.ts";
import { assertAccepted } from "../../../../core/vault/refusals.ts";
import { Problem, type ProblemStatus } from "../../problem.ts";
import type { Answer, Call, DocumentedAnswer, Input } from "../../route.ts";
import { assertBelongs } from "./secret.ts";

/** While the primary is in touch it answers in this time, or not at once. */
const PATIENCE_MS = 5_000;

export const writePath = (id: string): string => `/api/v1/gateway/writes/${id}`;

export const waitingAnswer: DocumentedAnswer = {
  description: "At a gateway: it is kept here, and sent to the primary as soon as that is in touch.",
  schema: z.strictObject({
    queued: z.literal(true),
    id: z.uuid().meta({ description: "What became of it is told at /api/v1/gateway/writes/{id}." }),
  }),
  headers: { location: "Where it is told what became of it." },
};

export async function queued(
  call: Call<Input>,
  secret: ReplicatedSecret,
  asked: { readonly project?: string | undefined; readonly environment?: string | undefined },
  values: ReadonlyMap<string, Sensitive>,
): Promise<Answer> {
  const { services, who, actor, idempotencyKey, ifMatch, signal } = call;
  const { writes, membership, replica } = services;
  if (writes === undefined) throw new TypeError("a gateway has a queue");
  // Grants that are older than gateway.offlineLimit let nobody write either.
  replica?.assertCurrent();
  assertBelongs(secret, asked, secret);
  if (ifMatch !== undefined) {
    const message = "If-Match cannot be judged by a gateway: send the request to the primary, or leave it out";
    throw new Problem(412, "NotJudgedHere", message, { errors: [{ field: "header.if-match", message }] });
  }
  assertTaken(secret, values);
  const { id } = await writes.accept({ who, actor, secret, values, idempotencyKey });
  // Whoever leads knows whether there is anybody to wait for; and where others wait for longer, this one will too.
  const isStuck = (writes.length.oldestAgeMs ?? 0) > PATIENCE_MS;
  const patienceMs = membership?.().channel === "Closed" || isStuck ? 0 : PATIENCE_MS;
  return answerOf(id, await writes.settled(id, patienceMs, signal));
}

/** As the primary would: what it would refuse, and what is in plaintext though it must not be, is not even kept. */
function assertTaken({ entries, readers }: ReplicatedSecret, values: ReadonlyMap<string, Sensitive>): void {
  assertAccepted({
    entries: entries.map(({ key, source }) => (source === "external" ? { key, external: {} } : { key })),
    readers,
    values,
  });
}

function answerOf(id: string, write: QueuedWrite | undefined): Answer {
  const outcome = write?.outcome;
  if (outcome === undefined) return { status: 202, body: { queued: true, id }, headers: { location: writePath(id) } };
  switch (outcome.kind) {
    case "Applied":
      return { status: 200, body: { version: outcome.version, changed: outcome.changed } };
    case "KeptBeside": {
      const where = outcome.version === undefined ? "a version that has them already" : `version ${outcome.version}`;
      const message = `somebody has set newer values at the primary; these are kept as ${where}, which is not the current one`;
      throw new Problem(409, "KeptBeside", message);
    }
    case "Refused":
      throw new Problem(statusOf(outcome.code), outcome.code, outcome.detail);
  }
}

const statusOf = (code: string): ProblemStatus => (code === "NotFound" ? 404 : 409);
