/**
 * The effects around a version that is applied before it is current. What is meant stands in the record before anything is
 * told; what is told can be repeated; what came of it is recorded after. So a crash at any point is finished by the next pass.
 */
import { Stalled, Waiting } from "../../../core/errors.ts";
import { failpoint } from "../../../core/failpoints.ts";
import type { DatabaseRoles, RotationWebhook } from "../../../core/ports/apply-targets.ts";
import type { Actor } from "../../../core/ports/audit-log.ts";
import type { FormerVersion, PendingVersion, SecretRecord, Writer } from "../../../core/ports/vault-store.ts";
import type { RotationCause } from "../../../core/vault/due.ts";
import type { Vault } from "../../../core/vault/vault.ts";
import { type Secret, secretKind } from "../../../crds/secret.ts";
import { objectActor } from "../../actor.ts";
import { unfinishedRollouts } from "../../delivery/rollout.ts";
import type { EventRecorder } from "../../runtime/events.ts";
import { resourceType } from "../../runtime/resource-type.ts";
import type { KubernetesApi } from "../../runtime/transport.ts";
import { overlapMs } from "../observe.ts";
import { type Applier, type ApplyOutcome, isOverdue, type PendingContext, type Underway } from "./applier.ts";
import { cancelJob, JobApplier } from "./job.ts";
import { PostgresApplier } from "./postgres.ts";
import { WebhookApplier } from "./webhook.ts";

export interface ApplyTargets {
  readonly roles: DatabaseRoles;
  readonly webhook: RotationWebhook;
}

export interface ApplyDependencies {
  readonly api: KubernetesApi;
  readonly vault: Vault;
  readonly targets: ApplyTargets;
  readonly installation: string;
  readonly events: Pick<EventRecorder, "record">;
  readonly writer: () => Writer;
}

interface OfSecret {
  readonly secret: Secret;
  readonly record: SecretRecord;
}

export type ApplyAction =
  | (OfSecret & { readonly kind: "Propose"; readonly keys: readonly string[]; readonly cause: RotationCause })
  | (OfSecret & { readonly kind: "Apply"; readonly pending: PendingVersion })
  /** `restarts`: what was restarted when the core Secret changed; `secretName`: absent where none is delivered. */
  | (OfSecret & { readonly kind: "Confirm"; readonly secretName?: string; readonly restarts: readonly string[] })
  | (OfSecret & { readonly kind: "End"; readonly former: FormerVersion })
  | (OfSecret & { readonly kind: "Abandon" });

export type ApplyActionOutcome =
  | { readonly kind: "Record"; readonly record: SecretRecord }
  /** It goes on by itself; look again then. */
  | { readonly kind: "Underway"; readonly message: string; readonly at: Date };

const ROLLOUT_RECHECK_MS = 5_000;
const END_RECHECK_MS = 30_000;
const MOST_LISTED = 5;

export class ApplyPerformer {
  readonly #deps: ApplyDependencies;

  constructor(deps: ApplyDependencies) {
    this.#deps = deps;
  }

  perform(action: ApplyAction, signal: AbortSignal): Promise<ApplyActionOutcome> {
    switch (action.kind) {
      case "Propose":
        return this.#propose(action, signal);
      case "Apply":
        return this.#apply(action, signal);
      case "Confirm":
        return this.#confirm(action, signal);
      case "End":
        return this.#end(action, signal);
      case "Abandon":
        return this.#abandon(action, signal);
    }
  }

  async #propose(
    { secret, record: seen, keys, cause }: Extract<ApplyAction, { kind: "Propose" }>,
    signal: AbortSignal,
  ): Promise<ApplyActionOutcome> {
    const { vault, writer } = this.#deps;
    const actor = actorOf(secret);
    const values = (await this.#applier(secret).values?.({ secret, record: seen, actor }, signal)) ?? new Map();
    try {
      failpoint("apply.beforePropose");
      const { entries } = secret.spec;
      const { record } = await vault.applied.propose(writer(), seen, { entries, keys, values, cause, actor });
      failpoint("apply.afterPropose");
      return { kind: "Record", record };
    } finally {
      for (const value of values.values()) value.dispose();
    }
  }

  async #apply(
    { secret, record: seen, pending }: Extract<ApplyAction, { kind: "Apply" }>,
    signal: AbortSignal,
  ): Promise<ApplyActionOutcome> {
    const { api, vault, writer, events } = this.#deps;
    const context = { secret, record: seen, actor: actorOf(secret), pending };
    const applier = this.#applier(secret);
    const outcome = await attempt(() => applier.apply(context, signal));
    failpoint("apply.afterEffect");
    if (outcome.kind === "Applied") {
      // Of a Job from before the manifest asked for something else.
      if (!(applier instanceof JobApplier)) await cancelJob({ api, vault }, context, signal);
      const record = await vault.applied.promote(writer(), seen, {
        entries: secret.spec.entries,
        formerRole: outcome.formerRole,
        overlapMs: overlapMs(secret),
        actor: context.actor,
      });
      failpoint("apply.afterPromote");
      // Nothing of it was new.
      if (record.currentVersion === seen.currentVersion) return { kind: "Record", record };
      const note = `version ${record.currentVersion} was applied and is current`;
      events.record(secret, { type: "Normal", reason: "RotationApplied", action: "Apply", note });
      return { kind: "Record", record };
    }
    const message = outcome.kind === "Failed" ? outcome.message : overdue(context, outcome);
    if (message === undefined) return underway(outcome as Underway);
    await cancelJob({ api, vault }, context, signal);
    failpoint("apply.beforeDiscard");
    const record = await vault.applied.discard(writer(), seen, message, context.actor);
    failpoint("apply.afterDiscard");
    const note = `version ${pending.version} was not applied, version ${record.currentVersion} stays: ${message}`;
    events.record(secret, { type: "Warning", reason: "RotationFailed", action: "Apply", note });
    return { kind: "Record", record };
  }

  async #confirm(
    { secret, record: seen, secretName, restarts }: Extract<ApplyAction, { kind: "Confirm" }>,
    signal: AbortSignal,
  ): Promise<ApplyActionOutcome> {
    const { api, vault, writer } = this.#deps;
    const { namespace = "" } = secret.metadata;
    const unfinished =
      secretName === undefined || restarts.length === 0
        ? []
        : await unfinishedRollouts(api, { namespace, secretName }, restarts, signal);
    if (unfinished.length > 0) {
      const more = unfinished.length > MOST_LISTED ? ` and ${unfinished.length - MOST_LISTED} others` : "";
      const message = `waits for ${unfinished.slice(0, MOST_LISTED).join(", ")}${more}`;
      return underway({ kind: "Underway", message, recheckMs: ROLLOUT_RECHECK_MS });
    }
    failpoint("apply.beforeConfirm");
    return { kind: "Record", record: await vault.applied.confirm(writer(), seen, actorOf(secret)) };
  }

  async #end(
    { secret, record: seen, former }: Extract<ApplyAction, { kind: "End" }>,
    signal: AbortSignal,
  ): Promise<ApplyActionOutcome> {
    const { vault, writer, events } = this.#deps;
    const actor = actorOf(secret);
    const applier = this.#applier(secret);
    failpoint("apply.beforeEnd");
    if (applier.end === undefined && former.role !== undefined) {
      const record = await vault.applied.abandonFormer(writer(), seen, actor);
      const note = `role ${former.role} of version ${former.version} still logs in: spec.rotation.apply.postgres was removed before it ended; end it by hand`;
      events.record(secret, { type: "Warning", reason: "FormerNotEnded", action: "Apply", note });
      return { kind: "Record", record };
    }
    const answer = (await applier.end?.({ secret, record: seen, actor, former }, signal)) ?? { kind: "Done" };
    if (answer.kind !== "Done") {
      const message = `role ${former.role} cannot be ended: ${answer.message}`;
      return underway({ kind: "Underway", message, recheckMs: END_RECHECK_MS });
    }
    failpoint("apply.afterEnd");
    return { kind: "Record", record: await vault.applied.endFormer(writer(), seen, actor) };
  }

  async #abandon(
    { secret, record: seen }: Extract<ApplyAction, { kind: "Abandon" }>,
    signal: AbortSignal,
  ): Promise<ApplyActionOutcome> {
    const { api, vault, writer } = this.#deps;
    const pending = seen.rotation?.apply?.pending;
    // How it was applied is not said any more; what a Job has of it must not stay.
    if (pending !== undefined) {
      const context = { secret, record: seen, actor: actorOf(secret), pending };
      await cancelJob({ api, vault }, context, signal);
    }
    return { kind: "Record", record: await vault.applied.abandonApply(writer(), seen, actorOf(secret)) };
  }

  #applier({ spec }: Secret): Applier {
    const { api, vault, installation, targets } = this.#deps;
    const { job, webhook, postgres } = spec.rotation?.apply ?? {};
    if (job !== undefined) return new JobApplier({ api, vault }, job);
    if (webhook !== undefined) {
      return new WebhookApplier({ api, vault, installation, webhook: targets.webhook }, webhook);
    }
    if (postgres !== undefined) {
      return new PostgresApplier({ api, vault, installation, roles: targets.roles }, postgres);
    }
    throw new Stalled("ValueInvalid", "spec.rotation.apply: set exactly one of job, webhook, postgres");
  }
}

const actorOf = (secret: Secret): Actor => objectActor(resourceType(secretKind), secret);

const underway = ({ message, recheckMs }: Underway): ApplyActionOutcome => ({
  kind: "Underway",
  message,
  at: new Date(Date.now() + recheckMs),
});

/** What is still missing can come, until the time is over. */
async function attempt(apply: () => Promise<ApplyOutcome>): Promise<ApplyOutcome> {
  try {
    return await apply();
  } catch (error) {
    if (!(error instanceof Waiting)) throw error;
    return { kind: "Underway", message: error.message, recheckMs: error.afterMs };
  }
}

/** Undefined: there is time left. */
function overdue(context: PendingContext, { message }: Underway): string | undefined {
  const { timeout = "10m" } = context.secret.spec.rotation?.apply ?? {};
  return isOverdue(context) ? `not applied within ${timeout}: ${message}` : undefined;
}
