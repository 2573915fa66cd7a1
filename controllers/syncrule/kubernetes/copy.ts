/** Brings core Secrets in other namespaces to where they should be, each by the steps that a delivery takes. */
import { Stalled, Unavailable, Waiting } from "../../../core/errors.ts";
import type { AuditEntry } from "../../../core/ports/audit-log.ts";
import type { CopyDelivery, CopyStore } from "../../../core/ports/copy-store.ts";
import { Conflict, type DeliveryRecord, type SecretRecord, type Writer } from "../../../core/ports/vault-store.ts";
import { type Done, type SyncResult, workThrough } from "../../../core/sync/run.ts";
import type { Vault } from "../../../core/vault/vault.ts";
import type { Secret } from "../../../crds/secret.ts";
import { type SyncRule, syncRuleKind } from "../../../crds/syncrule.ts";
import { objectActor } from "../../actor.ts";
import { type Cluster, tenancyOf } from "../../cluster.ts";
import type { DeliveryObserver } from "../../delivery/observe.ts";
import type { DeliveryContext, DeliveryPerformer } from "../../delivery/perform.ts";
import { settleDelivery } from "../../delivery/settle.ts";
import { ApiError, isForbidden } from "../../runtime/api-error.ts";
import { verdictOf } from "../../runtime/failure.ts";
import { resourceType } from "../../runtime/resource-type.ts";
import { identityOf } from "../../secret/observe.ts";
import { assertFitsType } from "../../secret/typed-values.ts";
import { type Copy, placeOf, refusal } from "./copies.ts";
import { type TargetNamespace, targetNamespace } from "./place.ts";

export interface CopyPerformerDependencies {
  readonly cluster: Cluster;
  readonly vault: Vault;
  readonly copies: CopyStore;
  readonly writer: () => Writer;
  readonly observer: DeliveryObserver;
  readonly performer: DeliveryPerformer;
}

export const SOON_MS = 1_000;

export class CopyPerformer {
  readonly #deps: CopyPerformerDependencies;

  constructor(deps: CopyPerformerDependencies) {
    this.#deps = deps;
  }

  /** One that cannot be made holds up no other. */
  copyAll(rule: SyncRule, copies: readonly Copy[], signal: AbortSignal): Promise<SyncResult> {
    const tasks = copies.map((copy) => ({
      entries: [{ secretName: copy.secretName, key: "", entryName: placeOf(copy) }],
      run: async () => [await this.#copy(rule, copy, signal).catch((error) => Promise.reject(asKnown(error)))],
    }));
    return workThrough(tasks, { signal });
  }

  async #copy(rule: SyncRule, copy: Copy, signal: AbortSignal): Promise<Done> {
    const { vault, writer, observer, performer } = this.#deps;
    const source = await copySource(this.#deps, rule, copy);
    const { stored } = source;
    const digests = await vault.digester(writer(), stored.identity);
    const context = copyContext(this.#deps, source);
    const facts = { digests, entries: stored.entries, version: stored.currentVersion, record: copy.record };
    const settled = await settleDelivery({ observer, performer }, copy.desired, facts, context, signal);
    switch (settled.kind) {
      case "Settled":
        return { kind: settled.written ? "Written" : "Confirmed" };
      case "RecheckAt":
        return { kind: "Waiting", afterMs: settled.at.getTime() - Date.now() };
      case "Refused":
        return { kind: "Failed", failure: refusal(copy, settled.reason, settled.message) };
    }
  }
}

/** `recorded`: what of a delivery goes on record. */
export function copyContext(
  { cluster, vault, copies, writer }: Pick<CopyPerformerDependencies, "cluster" | "vault" | "copies" | "writer">,
  { rule, secret, stored, copy }: CopySource,
  recorded: (delivery: DeliveryRecord) => CopyDelivery = (delivery) => delivery,
): DeliveryContext {
  const { namespace, desired } = copy;
  const actor = objectActor(resourceType(syncRuleKind), rule);
  return {
    object: rule,
    namespace: namespace.name,
    digests: () => vault.digester(writer(), stored.identity),
    record: (delivery) => {
      if (delivery === undefined) throw new TypeError("a copy that is no longer wanted stays on record");
      const audit = deliveryAudit(actor, secret, stored, copy, delivery);
      const where = { secretId: stored.id, namespace: namespace.name, namespaceUid: namespace.uid };
      return copies.recordCopy(writer(), { ...where, delivery: recorded(delivery) }, [audit]);
    },
    open: async (keys) => {
      // Asked again before the value leaves: the Project may have changed its mind since the plan was made.
      assertSameNamespace(cluster, rule, namespace);
      const purpose = `copy to core Secret ${placeOf(copy)}`;
      const opened = await vault.open(stored, { keys, actor, purpose });
      try {
        assertFitsType(desired, opened.values);
      } catch (error) {
        for (const value of opened.values.values()) value.dispose();
        throw error;
      }
      return opened;
    },
  };
}

export interface CopySource {
  readonly rule: SyncRule;
  readonly secret: Secret;
  readonly stored: SecretRecord;
  readonly copy: Copy;
}

/** Throws when the namespace may not be reached any more, or is another one by now. */
export function assertSameNamespace(cluster: Cluster, rule: SyncRule, { name, uid }: TargetNamespace): void {
  if (targetNamespace(cluster, rule, tenancyOf(cluster, rule), name).uid === uid) return;
  throw new Waiting("Progressing", `namespace ${name} was made anew`, SOON_MS);
}

/** A Secret whose current version is to be copied. */
export async function copySource(
  { cluster, vault }: Pick<CopyPerformerDependencies, "cluster" | "vault">,
  rule: SyncRule,
  copy: Copy,
): Promise<CopySource> {
  const { namespace = "" } = rule.metadata;
  const secret = cluster.secret(namespace, copy.secretName);
  if (secret === undefined) throw deletedMeanwhile(namespace, copy.secretName);
  const stored = await vault.describe(identityOf(secret, tenancyOf(cluster, rule).namespace.uid));
  if (stored?.state !== "Active") throw deletedMeanwhile(namespace, copy.secretName);
  return { rule, secret, stored, copy };
}

function deliveryAudit(
  actor: AuditEntry["actor"],
  { metadata }: Secret,
  { id }: SecretRecord,
  copy: Copy,
  { uid, version, pendingRestarts }: DeliveryRecord,
): AuditEntry {
  return {
    action: "SecretDelivered",
    actor,
    subject: { kind: "Secret", id, name: `${metadata.namespace}/${metadata.name}` },
    outcome: "Success",
    details: { coreSecret: placeOf(copy), uid, version, pendingRestarts: pendingRestarts.length },
  };
}

const deletedMeanwhile = (namespace: string, name: string): Waiting =>
  new Waiting("SecretNotStored", `Secret ${namespace}/${name} was deleted meanwhile`, SOON_MS);

/** What the API server and PostgreSQL say, in the words of the engine. */
export function asKnown(error: unknown): unknown {
  // Of one namespace, and with its message in status: the others are none the worse for it.
  if (error instanceof Waiting && error.code === "NamespaceNotOnboarded") {
    return new Stalled(error.code, error.message, { cause: error });
  }
  if (isForbidden(error)) {
    return new Stalled("NamespaceNotOnboarded", `the API server refuses us there: ${error.message}`, { cause: error });
  }
  if (error instanceof Stalled || error instanceof Waiting || error instanceof Unavailable) return error;
  if (!(error instanceof ApiError || error instanceof Conflict)) return error;
  const verdict = verdictOf(error);
  if (verdict.retry === "soon") return new Waiting("Progressing", "somebody else wrote it meanwhile", SOON_MS);
  if (verdict.retry !== "backoff") return error;
  return new Unavailable(verdict.reason, verdict.message, { cause: error });
}
