/**
 * What a gateway does with core Secrets of its own cluster for its primary. It looks and writes only where a Project of its own
 * cluster admits it, and refuses what is meant for gateways of another environment.
 */
import { Fenced, Stalled, Unavailable, Waiting } from "../../../core/errors.ts";
import { CopyDigests } from "../../../core/fleet/copy-digests.ts";
import {
  type CopyWithValues,
  type DeliverBody,
  type DeliverResult,
  type DeliveryFrame,
  deliverSecrets,
  type LookBody,
  type LookResult,
  lookAtSecrets,
  type OutcomeOfCopy,
  type SightOfCopy,
  type WantedCopy,
} from "../../../core/fleet/delivery-tasks.ts";
import { ofAnyKind, type TaskContext, type TaskHandler } from "../../../core/fleet/tasks.ts";
import type { AuditEntry, AuditLog } from "../../../core/ports/audit-log.ts";
import type { DeliveryRecord } from "../../../core/ports/vault-store.ts";
import { Sensitive } from "../../../core/sensitive.ts";
import type { Reason } from "../../../crds/conditions.ts";
import type { Logger } from "../../../program/logging.ts";
import type { Cluster } from "../../cluster.ts";
import {
  type DesiredDelivery,
  dataDigest,
  deliveryFingerprint,
  desiredDelivery,
  INSTALLATION_ANNOTATION,
  isOurs,
  RULE_ANNOTATION,
} from "../../delivery/desired.ts";
import { DeliveryObserver } from "../../delivery/observe.ts";
import { type DeliveryContext, DeliveryPerformer, type DeliveryPerformerDependencies } from "../../delivery/perform.ts";
import { planDelivery } from "../../delivery/plan.ts";
import { settleDelivery } from "../../delivery/settle.ts";
import type { KubernetesApi } from "../../runtime/transport.ts";
import { asKnown } from "../kubernetes/copy.ts";
import { writersIn } from "../kubernetes/rivals.ts";
import { assertServed } from "./served.ts";

export interface DeliveryTaskDependencies extends Pick<DeliveryPerformerDependencies, "events" | "absorb"> {
  readonly api: KubernetesApi;
  /** Throws `Fenced` when another replica may lead. */
  readonly assertLeading: () => void;
  readonly cluster: Cluster;
  readonly audit: Pick<AuditLog, "append">;
  /** Of this gateway. */
  readonly installation: string;
  /** Of this gateway, such as NPR. */
  readonly environment: string;
  readonly log: Pick<Logger, "error">;
}

const SECRETS_AT_ONCE = 8;

/** `deps` is read at each task, so that it may be of an operator that has yet to start. */
export function deliveryTasks(deps: DeliveryTaskDependencies): readonly TaskHandler[] {
  const look: TaskHandler<LookBody, LookResult> = {
    kind: lookAtSecrets,
    perform: async (body, context) => {
      const task = new TaskAtHand(deps, body, context);
      return { secrets: await eachOf(body.secrets, context.signal, (wanted) => task.look(wanted)) };
    },
  };
  const deliver: TaskHandler<DeliverBody, DeliverResult> = {
    kind: deliverSecrets,
    perform: async (body, context) => {
      const task = new TaskAtHand(deps, body, context);
      return { secrets: await eachOf(body.secrets, context.signal, (wanted) => task.deliver(wanted)) };
    },
  };
  return [ofAnyKind(look), ofAnyKind(deliver)];
}

/** One task, after the check that it may be done here. */
class TaskAtHand {
  readonly #deps: DeliveryTaskDependencies;
  readonly #frame: DeliveryFrame;
  readonly #context: TaskContext;
  readonly #observer: DeliveryObserver;
  readonly #performer: DeliveryPerformer;
  readonly #writerOf: ReturnType<typeof writersIn>;

  constructor(deps: DeliveryTaskDependencies, frame: DeliveryFrame, context: TaskContext) {
    assertServed(deps.cluster, deps.environment, frame);
    this.#deps = deps;
    this.#frame = frame;
    this.#context = context;
    const api = deps.api.guardingWrites(() => {
      deps.assertLeading();
      // A write that is under way when it may not act any more is of this cluster alone: who acts then has another one.
      context.assertActing();
      // The Project may have changed its mind since the task began.
      assertServed(deps.cluster, deps.environment, frame);
    });
    this.#observer = new DeliveryObserver({ ...deps, api });
    this.#performer = new DeliveryPerformer({ ...deps, api, observer: this.#observer });
    this.#writerOf = writersIn(deps.cluster, frame.namespace, () => true);
  }

  async look(wanted: WantedCopy): Promise<SightOfCopy> {
    return this.#answer(async () => {
      const desired = this.#desired(wanted);
      const rivalry = this.#rivalry(desired, wanted);
      if (rivalry !== undefined) return rivalry;
      const { delivered: record, version, copyKey } = wanted;
      const digests = new CopyDigests(copyKey);
      const core = await this.#observer.observe(desired, digests, record, this.#context.signal);
      if (core.kind === "Absent") return { kind: "Due", state: "" };
      if (core.kind === "Untouched") return { kind: "AsLeft" };
      const { live } = core;
      const state = `${live.uid}/${live.resourceVersion}`;
      const entries = desired.keys.map(({ from, to }) => ({ key: from, fingerprint: live.data.get(to) ?? "" }));
      const isAsDelivered =
        record !== undefined &&
        live.data.size === desired.keys.length &&
        record.fingerprint.split(".")[0] === dataDigest(digests, desired, entries);
      // What data is wanted is not known here: of other data than was delivered last only the values can tell.
      const open = { ...desired, overwrite: true };
      const facts = {
        digests,
        entries: isAsDelivered ? entries : [],
        version: record?.version ?? version,
        record,
        core: { kind: "Live", live: isAsDelivered ? live : { ...live, immutable: false } },
      } as const;
      const plan = planDelivery(open, facts, new Date());
      if (plan.kind === "Refused") return { kind: "Refused", reason: plan.reason, message: short(plan.message) };
      if (plan.kind === "RecheckAt") return waitingUntil(plan.at, desired);
      if (plan.kind === "Act" && plan.action.kind === "RecordDelivery" && isAsDelivered) {
        return { kind: "Moved", delivery: toWire(plan.action.delivery) };
      }
      return { kind: "Due", state };
    });
  }

  async deliver(wanted: CopyWithValues): Promise<OutcomeOfCopy> {
    const values = new Map(
      Object.entries(wanted.data).map(([key, value]) => [key, new Sensitive(Buffer.from(value, "base64"))]),
    );
    try {
      return await this.#answer(() => this.#deliver(wanted, values));
    } finally {
      for (const value of values.values()) value.dispose();
    }
  }

  async #deliver(wanted: CopyWithValues, values: ReadonlyMap<string, Sensitive>): Promise<OutcomeOfCopy> {
    const desired = this.#desired(wanted);
    const rivalry = this.#rivalry(desired, wanted);
    if (rivalry !== undefined) return rivalry;
    const { version, delivered, copyKey } = wanted;
    const digests = new CopyDigests(copyKey);
    const entries = [...values].map(([key, value]) => ({ key, fingerprint: digests.fingerprint(key, value) }));
    const record = await this.#standing(desired, digests, delivered);
    const missing = desired.keys.find(({ from }) => !values.has(from));
    if (missing !== undefined) throw new Stalled("ValueMissing", `the task has no value for key ${missing.from}`);
    const context = this.#deliveryContext(wanted, desired, digests, values);
    const given = { digests, entries, version, record };
    const { signal } = this.#context;
    const deps = { observer: this.#observer, performer: this.#performer };
    const settled = await settleDelivery(deps, desired, given, context, signal);
    if (settled.kind === "RecheckAt") return waitingUntil(settled.at, desired);
    if (settled.kind === "Refused") return { kind: "Refused", reason: settled.reason, message: short(settled.message) };
    if (settled.record === undefined) throw new TypeError("a delivery came to rest without a record");
    return { kind: "Delivered", delivery: toWire(settled.record), written: settled.written };
  }

  /**
   * What was delivered last into this cluster. The record may be of another one, when one gateway acts for the other: then what
   * stands here, and is ours, is what its consumers have read.
   */
  async #standing(
    desired: DesiredDelivery,
    digests: CopyDigests,
    record: DeliveryRecord | undefined,
  ): Promise<DeliveryRecord | undefined> {
    const core = record && (await this.#observer.observe(desired, digests, record, this.#context.signal));
    if (core?.kind !== "Live" || core.live.uid === record?.uid || !isOurs(core.live, desired, undefined)) return record;
    const { uid, resourceVersion, data } = core.live;
    const entries = desired.keys.map(({ from, to }) => ({ key: from, fingerprint: data.get(to) ?? "" }));
    const fingerprint = deliveryFingerprint(digests, desired, entries);
    return {
      secretName: desired.secretName,
      uid,
      resourceVersion,
      fingerprint,
      version: record?.version ?? 1,
      pendingRestarts: [],
    };
  }

  #deliveryContext(
    wanted: CopyWithValues,
    desired: DesiredDelivery,
    digests: CopyDigests,
    values: ReadonlyMap<string, Sensitive>,
  ): DeliveryContext {
    const { audit } = this.#deps;
    const frame = this.#frame;
    let stands = { uid: "", resourceVersion: "" };
    return {
      // Nothing else of this cluster stands for the rule.
      get object() {
        const { secretName: name, namespace } = desired;
        return { apiVersion: "v1", kind: "Secret", metadata: { name, namespace, ...stands }, spec: {} };
      },
      namespace: desired.namespace,
      digests: async () => digests,
      record: async (delivery) => {
        if (delivery === undefined) throw new TypeError("a copy that is no longer wanted stays");
        stands = { uid: delivery.uid, resourceVersion: delivery.resourceVersion };
        await audit.append([deliveryAudit(frame, wanted, desired, delivery)]);
      },
      open: async (keys) => ({
        version: wanted.version,
        // Disposed of by whoever writes them, perhaps more than once.
        values: new Map(
          keys.flatMap((key) => {
            const value = values.get(key);
            return value === undefined ? [] : [[key, new Sensitive(Buffer.from(value.reveal()))] as const];
          }),
        ),
      }),
    };
  }

  #desired({ secretName, source, keys }: WantedCopy): DesiredDelivery {
    const { rule, namespace, type, labels, annotations, restartConsumers, adopt, installation } = this.#frame;
    const what = {
      source: { kind: "Secret", namespace: rule.namespace, ...source },
      namespace,
      secretName,
      type,
      keys,
      owned: false,
      field: "spec.target.gateway.kubernetes",
    } as const;
    const settings = { labels, annotations, restartConsumers, adopt };
    const desired = desiredDelivery(what, settings, installation);
    return { ...desired, annotations: { ...desired.annotations, [RULE_ANNOTATION]: rule.uid } };
  }

  /** Who else writes it: something of this cluster, or another rule of the primary, which meets this one here. */
  #rivalry(
    { secretName, namespace }: DesiredDelivery,
    { rivals }: WantedCopy,
  ): (SightOfCopy & OutcomeOfCopy) | undefined {
    const place = `core Secret ${secretName} of namespace ${namespace} of the gateway's cluster`;
    const choose = "choose another spec.target.gateway.kubernetes.secretName";
    const refused = (reason: Reason, message: string) =>
      ({ kind: "Refused", reason, message: short(message) }) as const;
    const writer = this.#writerOf(secretName);
    if (typeof writer === "string")
      return refused("TargetNameCollision", `${place} is delivered by ${writer} there; ${choose}`);
    if (writer !== undefined)
      return refused("RulesOverlap", `a SyncRule of that cluster writes ${place} already; ${choose}`);
    const { annotations = {} } = this.#deps.cluster.coreSecret(namespace, secretName)?.metadata ?? {};
    const bearer = annotations[RULE_ANNOTATION];
    if (annotations[INSTALLATION_ANNOTATION] !== this.#frame.installation || bearer === undefined) return undefined;
    if (!rivals.includes(bearer)) return undefined;
    const message = `a SyncRule through another gateway (uid ${bearer}) writes ${place} already, where one gateway acts for the other; it is left to that one`;
    return refused("RulesOverlap", message);
  }

  /** What concerns one core Secret alone is its answer. */
  async #answer<T>(
    run: () => Promise<T>,
  ): Promise<T | Extract<OutcomeOfCopy, { kind: "Refused" | "Failed" | "Waiting" }>> {
    try {
      return await run();
    } catch (error) {
      const known = asKnown(error);
      if (concernsAll(known) || this.#context.signal.aborted) throw known;
      if (known instanceof Stalled) return { kind: "Refused", reason: known.code, message: short(known.message) };
      if (known instanceof Waiting) {
        return { kind: "Waiting", reason: known.code, message: short(known.message), afterMs: known.afterMs };
      }
      if (known instanceof Unavailable) return { kind: "Failed", reason: known.code, message: short(known.message) };
      this.#deps.log.error({ object: `${this.#frame.namespace}`, error }, "a core Secret failed unexpectedly");
      // Only the name: the text of an unknown error may hold anything.
      const name = error instanceof Error ? error.name : typeof error;
      return {
        kind: "Failed",
        reason: "Failed",
        message: `an unexpected ${name} occurred; the gateway's log tells more`,
      };
    }
  }
}

const FOR_ALL: ReadonlySet<Reason> = new Set<Reason>([
  "GatewayFenced",
  "DatabaseUnavailable",
  "KeyUnavailable",
  "NamespaceNotServed",
  "NamespaceNotAdmitted",
  "GatewayEnvironmentDiffers",
  "TargetNamespaceNotFound",
]);

const concernsAll = (error: unknown): boolean =>
  error instanceof Fenced ||
  ((error instanceof Unavailable || error instanceof Stalled || error instanceof Waiting) && FOR_ALL.has(error.code));

const short = (message: string): string => message.slice(0, 1024);

const waitingUntil = (
  at: Date,
  { namespace, secretName }: DesiredDelivery,
): Extract<SightOfCopy, { kind: "Waiting" }> => ({
  kind: "Waiting",
  reason: "Progressing",
  message: `core Secret ${namespace}/${secretName} is being deleted there`,
  afterMs: Math.max(0, at.getTime() - Date.now()),
});

const toWire = ({ secretName, uid, resourceVersion, fingerprint, version, pendingRestarts }: DeliveryRecord) => ({
  secretName,
  uid,
  resourceVersion,
  fingerprint,
  version,
  pendingRestarts: [...pendingRestarts],
});

const deliveryAudit = (
  { installation, rule, environment, project, projectEnvironment }: DeliveryFrame,
  { source }: CopyWithValues,
  { namespace, secretName }: DesiredDelivery,
  { uid, version, pendingRestarts }: DeliveryRecord,
): AuditEntry => ({
  action: "SecretDelivered",
  actor: { kind: "Controller", name: "gateway-delivery" },
  subject: { kind: "Secret", id: source.uid, name: `${rule.namespace}/${source.name}` },
  outcome: "Success",
  details: {
    coreSecret: `${namespace}/${secretName}`,
    uid,
    version,
    pendingRestarts: pendingRestarts.length,
    installation,
    rule: `${rule.namespace}/${rule.name}`,
    ruleUid: rule.uid,
    project: `${project}/${projectEnvironment}`,
    environment,
  },
});

/** Some at a time, the answers in their order. The first that throws ends it; what was under way is finished first. */
async function eachOf<T, R>(all: readonly T[], signal: AbortSignal, run: (one: T) => Promise<R>): Promise<R[]> {
  const answers: R[] = new Array(all.length);
  let next = 0;
  let failed = false;
  const work = async (): Promise<void> => {
    while (next < all.length && !failed) {
      signal.throwIfAborted();
      const index = next++;
      try {
        answers[index] = await run(all[index] as T);
      } catch (error) {
        failed = true;
        throw error;
      }
    }
  };
  const settled = await Promise.allSettled(Array.from({ length: SECRETS_AT_ONCE }, work));
  const rejected = settled.find((each) => each.status === "rejected");
  if (rejected !== undefined) throw rejected.reason;
  return answers;
}
