/** SyncRules whose target are core Secrets in a gateway's cluster: changes here go at once, what changes there is found by looking now and then. */
import { Stalled, Unavailable, Waiting } from "../../../core/errors.ts";
import type { OutcomeOfCopy, SightOfCopy } from "../../../core/fleet/delivery-tasks.ts";
import type { GatewayCopyRecord } from "../../../core/ports/gateway-copy-store.ts";
import type { SyncStore } from "../../../core/ports/sync-store.ts";
import type { SyncFailure } from "../../../core/sync/entries.ts";
import type { SyncResult } from "../../../core/sync/run.ts";
import type { Reason } from "../../../crds/conditions.ts";
import { type SyncRule, syncRuleKind } from "../../../crds/syncrule.ts";
import type { Logger } from "../../../program/logging.ts";
import { type Tenancy, tenancyOf } from "../../cluster.ts";
import type { Controller, OwnedConditionType } from "../../runtime/controller.ts";
import { keyOf, resourceType } from "../../runtime/resource-type.ts";
import { identityOf } from "../../secret/observe.ts";
import { scopeOf, secretsOf, separate } from "../coverage.ts";
import { intervalMs, SYNC_NOW_ANNOTATION } from "../decide.ts";
import type { Closed } from "../kubernetes/decide.ts";
import { type GatewayCopies, type GatewayCopy, placeOf, planGatewayCopies, refusal } from "./copies.ts";
import { type Action, decide, type Observed, type SeenToSend } from "./decide.ts";
import { type Passage, passageOf } from "./place.ts";
import { rivalsBeyond } from "./rivals.ts";
import { GatewaySender, recordOf, type SendDependencies } from "./send.ts";

export interface GatewayRuleDependencies extends Omit<SendDependencies, "store"> {
  readonly store: SyncStore;
  readonly copies: SendDependencies["store"];
  readonly log: Pick<Logger, "error">;
}

/** Undefined when something was put on record. */
type Outcome = SyncResult | undefined;

/** What the values alone can be refused for, and what was there then: until one of both changes they are not opened again. */
interface Refusal {
  readonly madeOf: string;
  readonly state: string;
  readonly failure: SyncFailure;
}

const BY_VALUE: ReadonlySet<Reason> = new Set<Reason>(["TargetDiffers", "ValueInvalid", "ValueTooLarge"]);

type Sights = Pick<SeenToSend, "inStep" | "moved" | "due" | "failures" | "waits" | "closed">;

export class GatewayRuleController implements Controller<SyncRule, Observed, Action, Outcome> {
  readonly name = "syncrule";
  readonly fieldManager = "mazevault-syncrule";
  readonly resource = resourceType(syncRuleKind);
  readonly #deps: GatewayRuleDependencies;
  readonly #sender: GatewaySender;
  /** By rule: when it looked at all of its core Secrets, in milliseconds since the epoch. */
  readonly #looked = new Map<string, { readonly uid: string; readonly at: number }>();
  /** By rule: how often something has changed about its gateway. */
  readonly #changes = new Map<string, number>();
  /** By rule, then by place. */
  readonly #refusals = new Map<string, Map<string, Refusal>>();
  /** What stood there when values were asked for, by copy. */
  readonly #states = new WeakMap<GatewayCopy, string>();

  constructor(deps: GatewayRuleDependencies) {
    this.#deps = deps;
    this.#sender = new GatewaySender({ ...deps, store: deps.copies });
  }

  /** Something changed about the gateway of these rules, by `namespace/name`: they are to look again. */
  gatewayChanged(rules: readonly string[]): void {
    for (const key of rules) {
      this.#looked.delete(key);
      this.#changes.set(key, (this.#changes.get(key) ?? 0) + 1);
    }
  }

  async observe(rule: SyncRule, signal: AbortSignal): Promise<Observed> {
    const { cluster, fleet } = this.#deps;
    const tenancy = tenancyOf(cluster, rule);
    if (rule.spec.suspend === true) return { kind: "Suspended" };
    const passage = await passageOf(cluster, fleet, rule, tenancy.project);
    const { copies, unstored } = await this.#covered(rule, tenancy, passage);
    const isDue = this.#lookIsDue(rule);
    const started = Date.now();
    const changes = this.#changes.get(keyOf(rule));
    const sights = await this.#sights(rule, passage, copies, isDue, signal);
    // Else the gateway of before may have answered.
    const isCurrent = changes === this.#changes.get(keyOf(rule));
    if (isDue && isCurrent && sights.closed === undefined)
      this.#looked.set(keyOf(rule), { uid: rule.metadata.uid, at: started });
    const last = this.#looked.get(keyOf(rule))?.at ?? started;
    const nextLook = new Date(last + intervalMs(rule));
    return { ...sights, kind: "Send", gateway: passage.gateway, unstored, nextLook, recorded: false };
  }

  async #covered(
    rule: SyncRule,
    tenancy: Tenancy,
    { gateway }: Passage,
  ): Promise<{ readonly copies: GatewayCopies; readonly unstored: readonly string[] }> {
    const { cluster, store, vault, copies, installation, writer } = this.#deps;
    const covered = secretsOf(cluster, rule);
    const names = covered.map(({ metadata }) => metadata.name);
    const sources = await store.sources({ ...scopeOf(rule, tenancy), names });
    const bySecret = Map.groupBy(separate(covered, sources).complete, ({ secretName }) => secretName);
    const secrets = await Promise.all(
      covered
        .filter(({ metadata }) => bySecret.has(metadata.name))
        .map(async (secret) => ({
          secret,
          entries: bySecret.get(secret.metadata.name) ?? [],
          digests: await vault.digester(writer(), identityOf(secret, tenancy.namespace.uid)),
        })),
    );
    const ids = secrets.flatMap(({ entries }) => entries.slice(0, 1).map(({ secretId }) => secretId));
    const records = await copies.gatewayCopies(gateway, ids);
    return {
      copies: planGatewayCopies({ rule, installation, secrets, records, rivalsOf: rivalsBeyond(cluster, rule) }),
      unstored: names.filter((name) => !bySecret.has(name)),
    };
  }

  #lookIsDue(rule: SyncRule): boolean {
    const last = this.#looked.get(keyOf(rule));
    const syncNow = rule.metadata.annotations?.[SYNC_NOW_ANNOTATION];
    if (syncNow !== undefined && syncNow !== rule.status?.lastHandledSyncNow) {
      this.#refusals.delete(keyOf(rule));
      return true;
    }
    return last === undefined || last.uid !== rule.metadata.uid || Date.now() - last.at >= intervalMs(rule);
  }

  /** Asks about all when it is time, else about those that are to be sent; about none there is nothing to ask. */
  async #sights(
    rule: SyncRule,
    passage: Passage,
    { delivered, due, failures }: GatewayCopies,
    all: boolean,
    signal: AbortSignal,
  ): Promise<Sights> {
    const asked = [...due, ...(all ? delivered : [])];
    const unasked = { inStep: delivered.length, moved: [], due, failures, waits: [] };
    if (asked.length === 0) return unasked;
    let sights: readonly SightOfCopy[];
    try {
      sights = await this.#sender.look(rule, passage, asked, signal);
    } catch (error) {
      if (signal.aborted) throw error;
      return { ...unasked, closed: closedBy(error) };
    }
    const isDue = new Set(due);
    const sorted = new SightedCopies(passage, this.#refusals.get(keyOf(rule)));
    for (const [index, sight] of sights.entries()) {
      const copy = asked[index];
      if (copy !== undefined) sorted.add(copy, sight, isDue.has(copy));
    }
    for (const [copy, state] of sorted.states) this.#states.set(copy, state);
    const { moved, toSend, refused, waits } = sorted;
    const inStep = sorted.inStep + (all ? 0 : delivered.length);
    return { inStep, moved, due: toSend, failures: [...failures, ...refused], waits };
  }

  decide = decide;

  async perform(action: Action, signal: AbortSignal): Promise<Outcome> {
    const { copies, writer, log } = this.#deps;
    const { rule } = action;
    if (action.kind === "Record") {
      await copies.recordGatewayCopies(writer(), keyOf(rule), action.moved, []);
      return undefined;
    }
    const remember = (copy: GatewayCopy, outcome: OutcomeOfCopy) => this.#remember(rule, copy, outcome);
    const result = await this.#sender.deliverAll(rule, action.due, remember, signal);
    if (result.unexpected !== undefined) {
      log.error({ object: keyOf(rule), error: result.unexpected }, "a core Secret of a gateway failed unexpectedly");
    }
    return result;
  }

  #remember(rule: SyncRule, copy: GatewayCopy, outcome: OutcomeOfCopy): void {
    const state = this.#states.get(copy);
    if (outcome.kind !== "Refused" || state === undefined || !BY_VALUE.has(outcome.reason)) return;
    const failure = refusal(copy, outcome.reason, outcome.message);
    const known = this.#refusals.get(keyOf(rule)) ?? new Map<string, Refusal>();
    this.#refusals.set(keyOf(rule), known.set(placeOf(copy), { madeOf: copy.madeOf, state, failure }));
  }

  learn(seen: Observed, action: Action, outcome: Outcome): Observed {
    if (seen.kind === "Suspended") return seen;
    if (action.kind === "Record") return { ...seen, recorded: true };
    return outcome === undefined ? seen : { ...seen, done: outcome };
  }

  conditionFor(): OwnedConditionType {
    return "Synced";
  }

  async absent(key: string): Promise<void> {
    this.#looked.delete(key);
    this.#changes.delete(key);
    this.#refusals.delete(key);
    const { copies, writer } = this.#deps;
    await copies.forgetGatewayCopies(writer(), { rule: key });
  }
}

/** What the gateway said of each, sorted by what is to be done about it. */
class SightedCopies {
  inStep = 0;
  readonly moved: GatewayCopyRecord[] = [];
  readonly toSend: GatewayCopy[] = [];
  readonly refused: SyncFailure[] = [];
  readonly waits: number[] = [];
  readonly states = new Map<GatewayCopy, string>();
  readonly #passage: Passage;
  readonly #known: ReadonlyMap<string, Refusal> | undefined;

  constructor(passage: Passage, known: ReadonlyMap<string, Refusal> | undefined) {
    this.#passage = passage;
    this.#known = known;
  }

  /** `due`: whatever stands there, it is to become something else. */
  add(copy: GatewayCopy, sight: SightOfCopy, due: boolean): void {
    switch (sight.kind) {
      case "AsLeft":
        if (due) this.#send(copy, copy.record === undefined ? "" : stateOf(copy.record.delivery));
        else this.inStep += 1;
        return;
      case "Moved":
        if (due) this.#send(copy, stateOf(sight.delivery));
        else {
          this.inStep += 1;
          this.moved.push(recordOf(copy, this.#passage.gateway, sight.delivery));
        }
        return;
      case "Due":
        this.#send(copy, sight.state);
        return;
      case "Waiting":
        this.waits.push(sight.afterMs);
        return;
      case "Refused":
      case "Failed":
        this.refused.push(refusal(copy, sight.reason, sight.message));
    }
  }

  #send(copy: GatewayCopy, state: string): void {
    const known = this.#known?.get(placeOf(copy));
    if (known?.madeOf === copy.madeOf && known.state === state) this.refused.push(known.failure);
    else {
      this.toSend.push(copy);
      this.states.set(copy, state);
    }
  }
}

const stateOf = ({ uid, resourceVersion }: GatewayCopyRecord["delivery"]): string => `${uid}/${resourceVersion}`;

/** What concerns all of the rule; anything else is a fault of ours. */
function closedBy(error: unknown): Closed {
  if (error instanceof Waiting) return { reason: error.code, message: error.message, afterMs: error.afterMs };
  if (error instanceof Stalled || error instanceof Unavailable) return { reason: error.code, message: error.message };
  throw error;
}
