/** Has a gateway look at the core Secrets of a rule, and write them. Values are opened only for those of which it says that it needs them. */
import { Fenced, SafeError, Stalled, Unavailable, Waiting } from "../../../core/errors.ts";
import { failpoint } from "../../../core/failpoints.ts";
import {
  type CopyWithValues,
  DELIVERED_AT_ONCE,
  type DeliveryFrame,
  deliverSecrets,
  LOOKED_AT_ONCE,
  lookAtSecrets,
  type OutcomeOfCopy,
  type SightOfCopy,
  type WantedCopy,
} from "../../../core/fleet/delivery-tasks.ts";
import type { GatewayTasks } from "../../../core/fleet/tasks.ts";
import type { AuditEntry } from "../../../core/ports/audit-log.ts";
import type { FleetStore } from "../../../core/ports/fleet-store.ts";
import type { GatewayCopyRecord, GatewayCopyStore } from "../../../core/ports/gateway-copy-store.ts";
import { Ambiguous } from "../../../core/ports/target-vault.ts";
import type { Writer } from "../../../core/ports/vault-store.ts";
import { type Done, type SyncResult, workThrough } from "../../../core/sync/run.ts";
import type { Vault } from "../../../core/vault/vault.ts";
import { DELIVERABLE_TYPES } from "../../../crds/secret.ts";
import { type SyncRule, syncRuleKind } from "../../../crds/syncrule.ts";
import { objectActor } from "../../actor.ts";
import { type Cluster, type Tenancy, tenancyOf } from "../../cluster.ts";
import { keyOf, resourceType } from "../../runtime/resource-type.ts";
import { identityOf } from "../../secret/observe.ts";
import { assertFitsType } from "../../secret/typed-values.ts";
import { type GatewayCopy, placeOf, refusal } from "./copies.ts";
import { gatewayTargetOf, type Passage, passageOf } from "./place.ts";

export interface SendDependencies {
  readonly cluster: Cluster;
  readonly vault: Vault;
  readonly fleet: Pick<FleetStore, "gateway">;
  readonly store: GatewayCopyStore;
  readonly tasks: GatewayTasks;
  readonly installation: string;
  readonly writer: () => Writer;
}

/** Of what is sent with values in one task; a single core Secret may have more, up to what Kubernetes takes. */
const BYTES_AT_ONCE = 256 * 1024;
/** Of what is told of core Secrets in one look, without values; what the gateway answers is about as long. */
const CHARACTERS_AT_ONCE = 400_000;
const TASKS_AT_ONCE = 4;
const SOON_MS = 1_000;

export class GatewaySender {
  readonly #deps: SendDependencies;

  constructor(deps: SendDependencies) {
    this.#deps = deps;
  }

  /** How they stand there, in their order. */
  async look(
    rule: SyncRule,
    passage: Passage,
    copies: readonly GatewayCopy[],
    signal: AbortSignal,
  ): Promise<readonly SightOfCopy[]> {
    const { tasks, installation } = this.#deps;
    const frame = frameOf(rule, passage, installation);
    const sights: SightOfCopy[] = [];
    for (const some of looks(copies.map(wanted))) {
      const body = { ...frame, secrets: some };
      const options = { signal, environments: [passage.environment] };
      const { secrets } = await asked(tasks.perform(passage.gateway, lookAtSecrets, body, options));
      assertAnswered(some, secrets);
      sights.push(...secrets);
    }
    return sights;
  }

  /** One that cannot be written holds up no other. `refused`: of which the gateway said so. */
  deliverAll(
    rule: SyncRule,
    copies: readonly GatewayCopy[],
    refused: (copy: GatewayCopy, outcome: OutcomeOfCopy) => void,
    signal: AbortSignal,
  ): Promise<SyncResult> {
    const tasks = chunks(copies, DELIVERED_AT_ONCE).map((some) => ({
      entries: some.map((copy) => ({ secretName: copy.secretName, key: "", entryName: placeOf(copy) })),
      run: () => new Batch(this.#deps, rule, refused, signal).deliver(some),
    }));
    return workThrough(tasks, { signal, concurrency: TASKS_AT_ONCE });
  }
}

/** All of it may be asked again, so what is not known is asked again. */
async function asked<T>(task: Promise<T>): Promise<T> {
  try {
    return await task;
  } catch (error) {
    if (!(error instanceof Ambiguous)) throw error;
    const message = "it is not known whether the gateway did it; it is asked again";
    throw new Unavailable("GatewayUnavailable", message, { cause: error });
  }
}

/** Up to `DELIVERED_AT_ONCE`, in as many tasks as their values need. */
class Batch {
  readonly #deps: SendDependencies;
  readonly #rule: SyncRule;
  readonly #refused: (copy: GatewayCopy, outcome: OutcomeOfCopy) => void;
  readonly #signal: AbortSignal;
  readonly #done: Done[] = [];
  #bytes = 0;
  /** What is known of the gateway, for the values that go in one task. */
  #gateway: ReturnType<FleetStore["gateway"]> | undefined;
  #pending: { readonly copy: GatewayCopy; readonly body: CopyWithValues }[] = [];

  constructor(
    deps: SendDependencies,
    rule: SyncRule,
    refused: (copy: GatewayCopy, outcome: OutcomeOfCopy) => void,
    signal: AbortSignal,
  ) {
    this.#deps = deps;
    this.#rule = rule;
    this.#refused = refused;
    this.#signal = signal;
  }

  async deliver(copies: readonly GatewayCopy[]): Promise<readonly Done[]> {
    for (const copy of copies) {
      this.#signal.throwIfAborted();
      try {
        const body = await this.#opened(copy);
        this.#bytes += JSON.stringify(body).length;
        this.#pending.push({ copy, body });
      } catch (error) {
        this.#done.push(openingFailed(copy, error));
      }
      if (this.#bytes >= BYTES_AT_ONCE) await this.#send();
    }
    await this.#send();
    return this.#done;
  }

  async #opened(copy: GatewayCopy): Promise<CopyWithValues> {
    const { cluster, vault, fleet } = this.#deps;
    const rule = this.#rule;
    const { tenancy, gateway } = await this.#passage({ gateway: (name) => (this.#gateway ??= fleet.gateway(name)) });
    const { namespace = "" } = rule.metadata;
    const secret = cluster.secret(namespace, copy.secretName);
    const stored = secret && (await vault.describe(identityOf(secret, tenancy.namespace.uid)));
    if (stored?.state !== "Active" || stored.id !== copy.secretId) {
      throw new Waiting("SecretNotStored", `Secret ${namespace}/${copy.secretName} was deleted meanwhile`, SOON_MS);
    }
    const { values, version } = await vault.open(stored, {
      keys: copy.desired.keys.map(({ from }) => from),
      actor: objectActor(resourceType(syncRuleKind), rule),
      purpose: `core Secret ${placeOf(copy)} in the cluster of Gateway ${gateway} for SyncRule ${keyOf(rule)}`,
    });
    try {
      assertFitsType(copy.desired, values);
      const data = [...values].map(([key, value]) => [key, value.reveal().toString("base64")]);
      return { ...wanted(copy), version, data: Object.fromEntries(data) };
    } finally {
      for (const value of values.values()) value.dispose();
    }
  }

  /** Asked again before a value is opened, and before it leaves: the Project may have changed its mind meanwhile. */
  async #passage(fleet: SendDependencies["fleet"]): Promise<Passage & { readonly tenancy: Tenancy }> {
    const { cluster } = this.#deps;
    const tenancy = tenancyOf(cluster, this.#rule);
    return { ...(await passageOf(cluster, fleet, this.#rule, tenancy.project)), tenancy };
  }

  async #send(): Promise<void> {
    const sent = this.#pending;
    if (sent.length === 0) return;
    this.#pending = [];
    this.#bytes = 0;
    this.#gateway = undefined;
    const { tasks, fleet, installation } = this.#deps;
    const passage = await this.#passage(fleet);
    const body = { ...frameOf(this.#rule, passage, installation), secrets: sent.map((each) => each.body) };
    failpoint("gatewayDelivery.beforeTask");
    const options = { signal: this.#signal, environments: [passage.environment] };
    const { secrets } = await asked(tasks.perform(passage.gateway, deliverSecrets, body, options));
    failpoint("gatewayDelivery.afterTask");
    assertAnswered(sent, secrets);
    await this.#record(passage, sent, secrets);
    for (const [index, outcome] of secrets.entries()) {
      const copy = sent[index]?.copy;
      if (copy !== undefined) this.#done.push(this.#doneOf(copy, outcome));
    }
  }

  async #record(
    { gateway }: Passage,
    sent: readonly { readonly copy: GatewayCopy; readonly body: CopyWithValues }[],
    outcomes: readonly OutcomeOfCopy[],
  ): Promise<void> {
    const { store, writer } = this.#deps;
    const records: GatewayCopyRecord[] = [];
    const audit: AuditEntry[] = [];
    for (const [index, { copy }] of sent.entries()) {
      const outcome = outcomes[index];
      if (outcome?.kind !== "Delivered") continue;
      records.push(recordOf(copy, gateway, outcome.delivery));
      audit.push(this.#deliveryAudit(copy, gateway, outcome.delivery));
    }
    if (records.length > 0) await store.recordGatewayCopies(writer(), keyOf(this.#rule), records, audit);
    failpoint("gatewayDelivery.afterRecord");
  }

  #deliveryAudit(copy: GatewayCopy, gateway: string, delivery: GatewayCopyRecord["delivery"]): AuditEntry {
    const rule = this.#rule;
    return {
      action: "SecretDelivered",
      actor: objectActor(resourceType(syncRuleKind), rule),
      subject: { kind: "Secret", id: copy.secretId, name: `${rule.metadata.namespace}/${copy.secretName}` },
      outcome: "Success",
      details: { coreSecret: placeOf(copy), gateway, uid: delivery.uid, version: delivery.version },
    };
  }

  #doneOf(copy: GatewayCopy, outcome: OutcomeOfCopy): Done {
    switch (outcome.kind) {
      case "Delivered":
        return { kind: outcome.written ? "Written" : "Confirmed" };
      case "Waiting":
        return { kind: "Waiting", afterMs: outcome.afterMs };
      case "Refused":
      case "Failed":
        this.#refused(copy, outcome);
        return { kind: "Failed", failure: refusal(copy, outcome.reason, outcome.message) };
    }
  }
}

export const recordOf = (
  { secretId, desired, madeOf }: GatewayCopy,
  gateway: string,
  delivery: GatewayCopyRecord["delivery"],
): GatewayCopyRecord => ({ secretId, gateway, namespace: desired.namespace, madeOf, delivery });

/** What concerns one Secret alone is told as its failure; anything else ends the batch. */
function openingFailed(copy: GatewayCopy, error: unknown): Done {
  if (error instanceof Fenced || error instanceof Unavailable) throw error;
  if (error instanceof Waiting) return { kind: "Waiting", afterMs: error.afterMs };
  if (error instanceof Stalled) return { kind: "Failed", failure: refusal(copy, error.code, error.message) };
  throw error;
}

function assertAnswered(asked: readonly unknown[], answered: readonly unknown[]): void {
  if (asked.length === answered.length) return;
  throw new AnswersMissing(`the gateway answered ${answered.length} of ${asked.length} core Secrets`);
}

class AnswersMissing extends SafeError {
  override readonly name = "AnswersMissing";
}

function frameOf(rule: SyncRule, { environment }: Passage, installation: string): DeliveryFrame {
  const { metadata, spec } = rule;
  const { kubernetes } = gatewayTargetOf(rule);
  const { type = DELIVERABLE_TYPES[0], labels, annotations, restartConsumers = false, adopt = false } = kubernetes;
  return {
    installation,
    environment,
    project: spec.projectRef.name,
    projectEnvironment: spec.environment,
    rule: { namespace: metadata.namespace ?? "", name: metadata.name, uid: metadata.uid },
    namespace: kubernetes.namespace,
    type,
    labels,
    annotations,
    restartConsumers,
    adopt,
  };
}

const wanted = ({ desired, copyKey, version, record, rivals }: GatewayCopy): WantedCopy => ({
  secretName: desired.secretName,
  source: { name: desired.source.name, uid: desired.source.uid },
  keys: desired.keys.map(({ from, to }) => ({ from, to })),
  copyKey,
  version,
  delivered: record && { ...record.delivery, pendingRestarts: [...record.delivery.pendingRestarts] },
  rivals: [...rivals],
});

/** One alone may have more characters. */
function looks(all: readonly WantedCopy[]): readonly WantedCopy[][] {
  const cut: WantedCopy[][] = [];
  let characters = 0;
  for (const each of all) {
    const { length } = JSON.stringify(each);
    const last = cut.at(-1);
    if (last !== undefined && last.length < LOOKED_AT_ONCE && characters + length <= CHARACTERS_AT_ONCE) {
      last.push(each);
      characters += length;
    } else {
      cut.push([each]);
      characters = length;
    }
  }
  return cut;
}

const chunks = <T>(all: readonly T[], size: number): readonly (readonly T[])[] =>
  Array.from({ length: Math.ceil(all.length / size) }, (_, index) => all.slice(index * size, (index + 1) * size));
