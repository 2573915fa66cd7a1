/**
 * Whatever tenants and administrators do in whatever order: nothing is written where the Project does not admit it, nothing
 * that is not ours is written over, and no two write in turn.
 */
import fc from "fast-check";
import { Stalled, Waiting } from "../../../core/errors.ts";
import type { CopyRecord } from "../../../core/ports/copy-store.ts";
import type { SyncRule } from "../../../crds/syncrule.ts";
import { tenancyOf } from "../../cluster.ts";
import { deliveryFingerprint, SOURCE_ANNOTATION } from "../../delivery/desired.ts";
import { type Copy, planCopies } from "./copies.ts";
import { kubernetesOf, targetNamespace } from "./place.ts";
import { rivalsIn } from "./rivals.ts";
import { ruleOf, secretOf, Tenants } from "./testing/tenants.ts";

const PROJECTS = ["pay", "shop"];
const NAMESPACES = ["a", "b", "c", "d"];
const SECRETS = ["db", "mail"];
const PATTERNS = [undefined, "{namespace}-{secret}", "x-{secret}"];

const namespace = fc.constantFrom(...NAMESPACES);
const project = fc.constantFrom(...PROJECTS);
const action = fc.oneof(
  fc.record({ kind: fc.constant("admit" as const), project, namespace }),
  fc.record({ kind: fc.constant("expel" as const), project, namespace }),
  fc.record({ kind: fc.constant("recreate" as const), namespace }),
  fc.record({ kind: fc.constant("write" as const), project, namespace, name: fc.constantFrom(...SECRETS) }),
  fc.record({ kind: fc.constant("deliver" as const), project, namespace, name: fc.constantFrom(...SECRETS) }),
  fc.record({ kind: fc.constant("remove" as const), namespace, name: fc.constantFrom(...SECRETS) }),
  fc.record({ kind: fc.constant("foreign" as const), namespace, name: fc.constantFrom("db", "x-mail", "a-db") }),
  fc.record({
    kind: fc.constant("rule" as const),
    project,
    namespace,
    name: fc.constantFrom("one", "two"),
    into: fc.uniqueArray(namespace, { minLength: 1, maxLength: 4 }),
    pattern: fc.constantFrom(...PATTERNS),
  }),
  fc.record({ kind: fc.constant("unrule" as const), namespace, name: fc.constantFrom("one", "two") }),
);
type Action = typeof action extends fc.Arbitrary<infer A> ? A : never;

const digests = { digest: (purpose: string, fields: readonly string[]) => `${purpose}(${fields.join()})` };

class Story {
  readonly tenants = new Tenants();
  readonly versions = new Map<string, number>();
  readonly records = new Map<string, CopyRecord>();
  /** Core Secrets that somebody else made. */
  readonly foreign = new Map<string, string>();
  #count = 0;

  /** Two tenants that share a namespace, and have something to copy. */
  constructor() {
    this.tenants.admit("pay", "a", "b", "c").admit("shop", "c", "d");
    for (const [project, namespace] of [
      ["pay", "a"],
      ["pay", "b"],
      ["shop", "d"],
    ] as const) {
      for (const name of SECRETS) this.act({ kind: "write", project, namespace, name });
    }
  }

  act(step: Action): void {
    const { tenants } = this;
    this.#count += 1;
    switch (step.kind) {
      case "admit":
        tenants.admit(step.project, step.namespace);
        break;
      case "expel":
        tenants.admissions.get(step.project)?.delete(step.namespace);
        break;
      case "recreate":
        tenants.existing.set(step.namespace, `uid-${this.#count}`);
        for (const place of [...tenants.cores.keys()].filter((each) => each.startsWith(`${step.namespace}/`))) {
          tenants.cores.delete(place);
          this.foreign.delete(place);
        }
        break;
      case "write":
      case "deliver": {
        const others = tenants.secrets.filter(
          ({ metadata }) => metadata.namespace !== step.namespace || metadata.name !== step.name,
        );
        const deliver = step.kind === "deliver" ? { deliver: {} } : {};
        const secret = secretOf(step.namespace, step.name, { projectRef: { name: step.project }, ...deliver });
        tenants.secrets = [...others, secret];
        this.versions.set(secret.metadata.uid, this.#count);
        break;
      }
      case "remove":
        tenants.secrets = tenants.secrets.filter(
          ({ metadata }) => metadata.namespace !== step.namespace || metadata.name !== step.name,
        );
        break;
      case "foreign": {
        const place = `${step.namespace}/${step.name}`;
        if (tenants.cores.has(place) || !tenants.existing.has(step.namespace)) break;
        const metadata = { name: step.name, namespace: step.namespace, uid: place, resourceVersion: `${this.#count}` };
        tenants.cores.set(place, { metadata });
        this.foreign.set(place, metadata.resourceVersion);
        break;
      }
      case "rule": {
        const { into: namespaces, pattern } = step;
        const rule = ruleOf(
          step.namespace,
          step.name,
          { namespaces, labels: { by: step.name }, ...(pattern !== undefined && { secretName: pattern }) },
          { projectRef: { name: step.project } },
        );
        const creationTimestamp = new Date(1_700_000_000_000 + this.#count * 1_000).toISOString();
        const metadata = { ...rule.metadata, uid: `${rule.metadata.uid}-${this.#count}`, creationTimestamp };
        this.#dropRule(step);
        tenants.rules = [...tenants.rules, { ...rule, metadata }];
        break;
      }
      case "unrule":
        this.#dropRule(step);
        break;
    }
  }

  #dropRule({ namespace, name }: { readonly namespace: string; readonly name: string }): void {
    this.tenants.rules = this.tenants.rules.filter(
      ({ metadata }) => metadata.namespace !== namespace || metadata.name !== name,
    );
  }

  /** Every rule once; how many core Secrets were written. */
  reconcile(): number {
    return this.tenants.rules.reduce((sum, rule) => sum + this.#one(rule), 0);
  }

  #one(rule: SyncRule): number {
    const { tenants } = this;
    const tenancy = known(() => tenancyOf(tenants, rule));
    if (tenancy === undefined) return 0;
    const open = kubernetesOf(rule).namespaces.flatMap(
      (name) => known(() => targetNamespace(tenants, rule, tenancy, name)) ?? [],
    );
    const covered = tenants
      .secretsIn(rule.metadata.namespace ?? "")
      .filter(({ spec }) => spec.projectRef.name === rule.spec.projectRef.name);
    const plan = planCopies({
      rule,
      installation: "here",
      secrets: covered.map((secret) => ({ secret, digests, entries: [this.#entryOf(secret)] })),
      namespaces: open.map((each) => ({
        ...each,
        coreSecret: (name) => tenants.coreSecret(each.name, name),
        rivalOf: rivalsIn(tenants, rule, each.name),
      })),
      records: [...this.records.values()],
    });
    return plan.due.filter((copy) => this.#write(rule, copy)).length;
  }

  #entryOf({ metadata: { name, uid } }: { readonly metadata: { readonly name: string; readonly uid: string } }) {
    const version = this.versions.get(uid) ?? 0;
    return { secretId: uid, secretName: name, version, key: "password", recipe: "r", fingerprint: `f${version}` };
  }

  /** As a delivery goes about it: what is not ours stays. */
  #write(rule: SyncRule, { secretName, namespace, desired }: Copy): boolean {
    const { tenants } = this;
    const admitted = tenants.admissions.get(rule.spec.projectRef.name);
    expect(admitted?.has(namespace.name)).toBe(true);
    expect(admitted?.has(rule.metadata.namespace ?? "")).toBe(true);
    expect(namespace.name).not.toBe(rule.metadata.namespace);
    const place = `${namespace.name}/${desired.secretName}`;
    const there = tenants.cores.get(place)?.metadata;
    const source = desired.annotations[SOURCE_ANNOTATION] ?? "";
    if (there !== undefined && there.annotations?.[SOURCE_ANNOTATION] !== source) return false;
    const secret = tenants.secret(rule.metadata.namespace ?? "", secretName);
    if (secret === undefined) throw new Error("a Secret that is not there was copied");
    const entry = this.#entryOf(secret);
    this.#count += 1;
    const stands = { uid: there?.uid ?? `core-${this.#count}`, resourceVersion: `${this.#count}` };
    tenants.cores.set(place, {
      metadata: { name: desired.secretName, namespace: namespace.name, ...stands, annotations: desired.annotations },
    });
    const fingerprint = deliveryFingerprint(digests, desired, [entry]);
    const delivery = {
      secretName: desired.secretName,
      ...stands,
      fingerprint,
      version: entry.version,
      pendingRestarts: [],
    };
    this.records.set(`${namespace.uid} ${desired.secretName}`, {
      secretId: entry.secretId,
      namespace: namespace.name,
      namespaceUid: namespace.uid,
      delivery,
    });
    return true;
  }
}

function known<T>(read: () => T): T | undefined {
  try {
    return read();
  } catch (error) {
    if (error instanceof Stalled || error instanceof Waiting) return undefined;
    throw error;
  }
}

const numRuns = Number(process.env.INTERLEAVINGS ?? 300);

test("nothing of one tenant reaches another, nothing foreign is written over, and everything comes to rest", () => {
  let written = 0;
  fc.assert(
    fc.property(fc.array(action, { minLength: 8, maxLength: 60 }), (steps) => {
      const story = new Story();
      for (const step of steps) {
        story.act(step);
        written += story.reconcile();
      }
      story.reconcile();
      expect(story.reconcile()).toBe(0);
      for (const [place, resourceVersion] of story.foreign) {
        expect(story.tenants.cores.get(place)?.metadata.resourceVersion).toBe(resourceVersion);
      }
    }),
    { numRuns },
  );
  // Else the property says nothing.
  expect(written).toBeGreaterThan(numRuns);
});
