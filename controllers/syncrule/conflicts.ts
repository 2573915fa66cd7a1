/** The objects in which a person sees that an entry was changed on both sides, and says which value both shall have. */
import { createHash } from "node:crypto";
import { Stalled } from "../../core/errors.ts";
import type { AuditLog } from "../../core/ports/audit-log.ts";
import type { EntryPlace } from "../../core/sync/entries.ts";
import { conflictKey } from "../../core/sync/exchange-plan.ts";
import type { FoundConflict } from "../../core/sync/run.ts";
import { API_VERSION } from "../../crds/common.ts";
import { type SyncConflict, syncConflictKind } from "../../crds/syncconflict.ts";
import { type SyncRule, syncRuleKind } from "../../crds/syncrule.ts";
import { objectActor } from "../actor.ts";
import type { Cluster } from "../cluster.ts";
import { isAlreadyExists, isNotFound } from "../runtime/api-error.ts";
import { type ResourceType, resourceType } from "../runtime/resource-type.ts";
import type { KubernetesApi } from "../runtime/transport.ts";
import { type Action, keyOfConflict, type Observed, type SeenToExchange } from "./decide.ts";

export interface SyncConflictsDependencies {
  readonly api: Pick<KubernetesApi, "get" | "create" | "delete" | "applyStatus">;
  readonly cluster: Pick<Cluster, "syncConflictsIn">;
  readonly audit: Pick<AuditLog, "append">;
  /** Of rules, in whose name it is done. */
  readonly resource: ResourceType;
  readonly fieldManager: string;
}

/** Key Vault's times have whole seconds. */
const SETTLES_MS = 1_000;

const conflictType = resourceType(syncConflictKind);

export class SyncConflicts {
  readonly #deps: SyncConflictsDependencies;
  /**
   * By UID of a SyncConflict: which version of the vault's side was seen, and when first. In memory only: a new leader reads
   * each open conflict once more.
   */
  readonly #seen = new Map<string, { readonly targetVersion: string; readonly at: number; settled: boolean }>();

  constructor(deps: SyncConflictsDependencies) {
    this.#deps = deps;
  }

  /** Those of the rule, and UIDs of those whose vault's side is settled. */
  of(rule: SyncRule): Pick<SeenToExchange, "conflicts" | "settled"> {
    const { uid, namespace = "" } = rule.metadata;
    const conflicts = this.#deps.cluster
      .syncConflictsIn(namespace)
      .filter(({ metadata }) => metadata.ownerReferences?.some((owner) => owner.uid === uid));
    const isSettled = ({ metadata, status }: SyncConflict): boolean => {
      const seen = this.#seen.get(metadata.uid);
      return seen?.settled === true && seen.targetVersion === status?.targetVersion;
    };
    return { conflicts, settled: new Set(conflicts.filter(isSettled).map(({ metadata }) => metadata.uid)) };
  }

  /** `readAt`: `performance.now()` before the entries were read. */
  settle(rule: SyncRule, found: readonly FoundConflict[], readAt: number): void {
    const open = new Map(this.of(rule).conflicts.map((each) => [keyOfConflict(each), each.metadata.uid]));
    for (const { entry, targetVersion } of found) {
      const uid = open.get(conflictKey(entry));
      if (uid === undefined) continue;
      const seen = this.#seen.get(uid);
      if (seen?.targetVersion !== targetVersion) {
        this.#seen.set(uid, { targetVersion, at: performance.now(), settled: false });
      } else seen.settled ||= readAt - seen.at >= SETTLES_MS;
    }
  }

  /** On record before anybody sees it; both values are where they were. */
  async open(rule: SyncRule, found: FoundConflict, open: SyncConflict | undefined, signal: AbortSignal): Promise<void> {
    const { api, audit } = this.#deps;
    const { entry, secretId, platformVersion, targetVersion, targetUpdatedOn } = found;
    const { namespace = "", name: ruleName, uid } = rule.metadata;
    await audit.append([
      {
        action: "SyncConflictFound",
        actor: objectActor(this.#deps.resource, rule),
        subject: { kind: "Secret", id: secretId, name: `${namespace}/${entry.secretName}` },
        outcome: "Success",
        details: { key: entry.key, rule: ruleName, entry: entry.entryName, platformVersion, targetVersion },
      },
    ]);
    const name = conflictName(rule, entry);
    const identity = { apiVersion: API_VERSION, kind: syncConflictKind.kind };
    const owner = { apiVersion: API_VERSION, kind: syncRuleKind.kind, name: ruleName, uid };
    // What a person said was said of other values: it is to be said anew.
    if (open?.spec.resolution !== undefined) await this.close(rule, open, signal);
    if (open === undefined || open.spec.resolution !== undefined) {
      const metadata = { name, namespace, ownerReferences: [owner] };
      try {
        await api.create(
          conflictType,
          { ...identity, metadata, spec: {} },
          { fieldManager: this.#deps.fieldManager, signal },
        );
      } catch (error) {
        if (!isAlreadyExists(error)) throw error;
        // The cache has not seen yet what an earlier pass made; what somebody else made is not ours.
        const { metadata: found } = await api.get<SyncConflict>(conflictType, { namespace, name }, { signal });
        if (found.ownerReferences?.some((each) => each.uid === uid) !== true) {
          throw new Stalled("TargetNotOwned", `a SyncConflict ${name} is there that this rule did not make; delete it`);
        }
      }
    }
    const status: SyncConflict["status"] = {
      rule: ruleName,
      secret: entry.secretName,
      key: entry.key,
      name: entry.entryName,
      platformVersion,
      targetVersion,
      targetUpdatedOn: targetUpdatedOn.toISOString(),
    };
    const options = { fieldManager: this.#deps.fieldManager, force: true, signal };
    await api.applyStatus(conflictType, { ...identity, metadata: { name, namespace }, status }, options);
  }

  /** On record first, as well. */
  async close(rule: SyncRule, { metadata, spec, status }: SyncConflict, signal: AbortSignal): Promise<void> {
    const { namespace = "", name, uid } = metadata;
    this.#seen.delete(uid);
    await this.#deps.audit.append([
      {
        action: "SyncConflictEnded",
        actor: objectActor(this.#deps.resource, rule),
        subject: { kind: "Secret", id: "", name: `${namespace}/${status?.secret ?? ""}` },
        outcome: "Success",
        details: { key: status?.key ?? "", conflict: name, resolution: spec.resolution ?? "None" },
      },
    ]);
    await this.#deps.api
      .delete(conflictType, { namespace, name }, { preconditions: { uid }, signal })
      .catch((error: unknown) => {
        if (!isNotFound(error, name)) throw error;
      });
  }
}

/** The same for the same entry under the same rule, so that it is made once. */
function conflictName({ metadata: { name, uid } }: SyncRule, entry: EntryPlace): string {
  const digest = createHash("sha256")
    .update(`${uid} ${conflictKey(entry)}`)
    .digest("hex");
  return `${name.slice(0, 240).replace(/[^a-z0-9]+$/, "")}-${digest.slice(0, 10)}`;
}

/** In this pass it is not to be opened or closed again. */
export function dealtWith(
  seen: Exclude<Observed, { kind: "Suspended" }>,
  action: Extract<Action, { kind: "OpenConflict" | "CloseConflict" }>,
): Observed {
  if (action.kind === "CloseConflict" && seen.kind !== "Bidirectional") {
    return { ...seen, over: seen.over.filter((each) => each !== action.conflict) };
  }
  if (seen.kind !== "Bidirectional") return seen;
  if (action.kind === "CloseConflict") {
    return { ...seen, conflicts: seen.conflicts.filter((each) => each !== action.conflict) };
  }
  const { entry, platformVersion, targetVersion, targetUpdatedOn } = action.found;
  const opened = {
    ...action.open,
    spec: {},
    status: {
      secret: entry.secretName,
      key: entry.key,
      platformVersion,
      targetVersion,
      targetUpdatedOn: targetUpdatedOn.toISOString(),
    },
  } as SyncConflict;
  return { ...seen, conflicts: [...seen.conflicts.filter((each) => each !== action.open), opened] };
}
