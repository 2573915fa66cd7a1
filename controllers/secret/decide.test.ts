import { createSecretKey } from "node:crypto";
import type {
  ApplyRecord,
  DeliveryRecord,
  EntryDigest,
  RotationRecord,
  SecretRecord,
} from "../../core/ports/vault-store.ts";
import { Digester } from "../../core/vault/fingerprint.ts";
import { orderEntries, recipeOf } from "../../core/vault/recipe.ts";
import type { DeliverSpec, Secret, SecretSpec } from "../../crds/secret.ts";
import {
  CONSUMERS,
  deliveryFingerprint,
  INSTALLATION_ANNOTATION,
  type LiveCoreSecret,
  SOURCE_ANNOTATION,
} from "../delivery/desired.ts";
import { decide, keptValues, type Observed, secretDelivery } from "./decide.ts";

const NOW = new Date("2026-03-01T00:00:00Z");
const INSTALLATION = "installation-1";
const identity = {
  project: "payments",
  environment: "pro",
  namespace: "payments",
  namespaceUid: "ns-1",
  name: "orders-db",
};
const digests = new Digester(createSecretKey(Buffer.alloc(32, 7)), INSTALLATION, identity);
const lifecycle = { deletionPolicy: "SoftDelete", softDeleteMs: 1_000, keepVersions: 10 } as const;

const secret = (spec: Partial<SecretSpec> = {}): Secret => ({
  apiVersion: "mazevault.io/v1",
  kind: "Secret",
  metadata: { name: "orders-db", namespace: "payments", uid: "uid-1", resourceVersion: "1", generation: 1 },
  spec: {
    projectRef: { name: "payments" },
    environment: "pro",
    entries: [{ key: "username", literal: "orders" }],
    deliver: {},
    ...spec,
  },
});

/** Digests of a stored version in which each literal has its value, by the product's own planning. */
const storedEntries = (from: Secret): EntryDigest[] =>
  orderEntries(from.spec.entries).map((ordered) => {
    const { key, literal = "" } = ordered.entry;
    const fingerprint = digests.fingerprint(key, literal);
    return { key, fingerprint, recipe: recipeOf(digests, ordered, () => fingerprint) ?? "" };
  });

const record = (from: Secret, extra: Partial<SecretRecord> = {}): SecretRecord => ({
  id: "id-1",
  identity,
  state: "Active",
  currentVersion: 3,
  generation: 3n,
  lifecycle,
  entries: storedEntries(from),
  ...extra,
});

const fingerprintOf = (from: Secret, entries = storedEntries(from)): string =>
  deliveryFingerprint(digests, secretDelivery(from, from.spec.deliver ?? {}, INSTALLATION), entries);

const delivery = (from: Secret, extra: Partial<DeliveryRecord> = {}): DeliveryRecord => ({
  secretName: "orders-db",
  uid: "core-1",
  resourceVersion: "100",
  fingerprint: fingerprintOf(from),
  version: 3,
  pendingRestarts: [],
  ...extra,
});

const observed = (extra: Partial<Observed>): Observed => ({
  installation: INSTALLATION,
  digests,
  lifecycle,
  record: undefined,
  sources: new Map(),
  core: { kind: "Absent" },
  restartProblems: [],
  ...extra,
});

const live = (extra: Partial<LiveCoreSecret> = {}): LiveCoreSecret => ({
  uid: "core-1",
  resourceVersion: "101",
  type: "Opaque",
  immutable: false,
  labels: { "app.kubernetes.io/managed-by": "mazevault" },
  annotations: { [SOURCE_ANNOTATION]: "orders-db", [INSTALLATION_ANNOTATION]: INSTALLATION },
  ownerUids: ["uid-1"],
  data: new Map([["username", digests.fingerprint("username", "orders")]]),
  terminating: false,
  ...extra,
});

const foreign = (extra: Partial<LiveCoreSecret> = {}): LiveCoreSecret =>
  live({ uid: "core-9", labels: {}, annotations: {}, ownerUids: [], ...extra });

const withDeliver = (deliver: DeliverSpec): Secret => secret({ deliver });
const plain = secret();
const withExternal = secret({
  entries: [
    ...plain.spec.entries,
    { key: "partner", external: {} },
    { key: "both", template: "{{ username }}{{ partner }}" },
  ],
});
const changedValue = secret({ entries: [{ key: "username", literal: "someone-else" }] });

describe("decide", () => {
  test.each<{ because: string; secret: Secret; seen: Partial<Observed>; actions: string[]; delivered?: string }>([
    { because: "what was never stored is stored first", secret: plain, seen: {}, actions: ["StoreVersion"] },
    {
      because: "a changed entry makes a version",
      secret: changedValue,
      seen: { record: record(plain) },
      actions: ["StoreVersion"],
    },
    {
      because: "a soft-deleted secret that is applied again is recovered",
      secret: plain,
      seen: { record: record(plain, { state: "SoftDeleted" }) },
      actions: ["StoreVersion"],
    },
    {
      because: "a changed retention is recorded",
      secret: plain,
      seen: { record: record(plain), lifecycle: { ...lifecycle, keepVersions: 2 } },
      actions: ["StoreVersion"],
    },
    {
      because: "a stored version is delivered where nothing is",
      secret: plain,
      seen: { record: record(plain) },
      actions: ["Deliver"],
    },
    {
      because: "nothing is done when nobody touched what was delivered",
      secret: plain,
      seen: { record: record(plain, { delivery: delivery(plain) }), core: { kind: "Untouched" } },
      actions: [],
      delivered: "Succeeded",
    },
    {
      because: "what can be made is stored while an external entry has no value",
      secret: withExternal,
      seen: {},
      actions: ["StoreVersion"],
    },
    {
      because: "nothing is delivered before an external entry was written, though it was delivered before",
      secret: withExternal,
      seen: {
        record: record(plain, { delivery: delivery(plain) }),
        core: { kind: "Live", live: live({ data: new Map() }) },
      },
      actions: [],
      delivered: "ValueMissing",
    },
    {
      because: "what was written is delivered, by whomever the version was made",
      secret: secret({ entries: [{ key: "partner", external: {} }] }),
      seen: {
        record: record(secret({ entries: [{ key: "partner", literal: "written" }] }), { delivery: delivery(plain) }),
      },
      actions: ["Deliver"],
    },
    {
      because: "without deliver nothing is delivered, and Ready does not miss it",
      secret: secret({ deliver: undefined as never }),
      seen: { record: record(plain), core: { kind: "NotRequested" } },
      actions: [],
      delivered: "NotRequested",
    },
    {
      because: "a crash after delivering leaves only the record to be written",
      secret: plain,
      seen: { record: record(plain), core: { kind: "Live", live: live() } },
      actions: ["RecordDelivery"],
    },
    {
      because: "drift is repaired",
      secret: plain,
      seen: {
        record: record(plain, { delivery: delivery(plain) }),
        core: { kind: "Live", live: live({ data: new Map([["username", "edited"]]) }) },
      },
      actions: ["Deliver"],
    },
    {
      because: "an additional key is drift too",
      secret: plain,
      seen: {
        record: record(plain, { delivery: delivery(plain) }),
        core: { kind: "Live", live: live({ data: new Map([...live().data, ["extra", undefined]]) }) },
      },
      actions: ["Deliver"],
    },
    {
      because: "somebody else's object is never taken",
      secret: plain,
      seen: { record: record(plain), core: { kind: "Live", live: foreign() } },
      actions: [],
      delivered: "TargetNotOwned",
    },
    {
      because: "adopting needs equal data",
      secret: withDeliver({ adopt: true }),
      seen: {
        record: record(plain),
        core: { kind: "Live", live: foreign({ data: new Map([["username", "other"]]) }) },
      },
      actions: [],
      delivered: "TargetDiffers",
    },
    {
      because: "equal data is adopted",
      secret: withDeliver({ adopt: true }),
      seen: { record: record(plain), core: { kind: "Live", live: foreign() } },
      actions: ["Deliver"],
    },
    {
      because: "overwrite takes over other data",
      secret: withDeliver({ adopt: true, overwrite: true }),
      seen: {
        record: record(plain),
        core: { kind: "Live", live: foreign({ data: new Map([["username", "other"]]) }) },
      },
      actions: ["Deliver"],
    },
    {
      because: "a type cannot change, so another one is refused even where overwriting is asked for",
      secret: withDeliver({ adopt: true, overwrite: true }),
      seen: { record: record(plain), core: { kind: "Live", live: foreign({ type: "kubernetes.io/tls" }) } },
      actions: [],
      delivered: "TargetTypeDiffers",
    },
    {
      because: "two that deliver to one core Secret would take it from each other for ever",
      secret: withDeliver({ adopt: true, overwrite: true }),
      seen: { record: record(plain), core: { kind: "Live", live: foreign({ rival: "payments-db" }) } },
      actions: [],
      delivered: "TargetNotOwned",
    },
    {
      because: "what another controller owns is not taken from it",
      secret: withDeliver({ adopt: true, overwrite: true }),
      seen: {
        record: record(plain),
        core: { kind: "Live", live: foreign({ controller: "ExternalSecret orders-db" }) },
      },
      actions: [],
      delivered: "TargetNotOwned",
    },
    {
      because: "another name releases the old one before anything is delivered",
      secret: withDeliver({ secretName: "orders-database" }),
      seen: { record: record(plain, { delivery: delivery(plain) }) },
      actions: ["ReleaseDelivery"],
    },
    {
      because: "deliver was removed: what was delivered is released",
      secret: secret({ deliver: undefined as never }),
      seen: { record: record(plain, { delivery: delivery(plain) }), core: { kind: "NotRequested" } },
      actions: ["ReleaseDelivery"],
    },
    {
      because: "restarts that were not finished are finished",
      secret: withDeliver({ restartConsumers: true }),
      seen: {
        record: record(plain, {
          delivery: delivery(withDeliver({ restartConsumers: true }), { pendingRestarts: [CONSUMERS] }),
        }),
        core: { kind: "Untouched" },
      },
      actions: ["RestartWorkloads"],
    },
    {
      because: "what is being deleted is waited for",
      secret: plain,
      seen: { record: record(plain), core: { kind: "Live", live: live({ terminating: true }) } },
      actions: [],
      delivered: "Progressing",
    },
  ])("$because", ({ secret: subject, seen, actions, delivered }) => {
    const plan = decide(subject, observed(seen), NOW);
    expect(plan.actions.map(({ kind }) => kind)).toEqual(actions);
    if (delivered !== undefined) {
      expect(plan.status.conditions.find(({ type }) => type === "Delivered")?.reason).toBe(delivered);
    }
  });

  test("a missing value is named in Stored, with how to write it", () => {
    const only = secret({ entries: [{ key: "partner", external: {} }] });
    const { actions, status, next } = decide(only, observed({}), NOW);
    expect(actions).toEqual([]);
    expect(status.conditions[0]).toEqual({
      type: "Stored",
      status: "False",
      reason: "ValueMissing",
      message: "entry partner has no value yet; write it with: mazevault put payments/orders-db partner",
    });
    expect(next).toEqual({ kind: "settled" });
    const many = secret({ entries: "abcdef".split("").map((key) => ({ key, external: {} })) });
    expect(decide(many, observed({}), NOW).status.conditions[0]?.message).toBe(
      "entries a, b, c, d, e and others have no value yet; write each with: mazevault put payments/orders-db KEY",
    );
  });

  const restartsOf = (subject: Secret, seen: Partial<Observed>) => {
    const [action] = decide(subject, observed(seen), NOW).actions;
    return action?.kind === "Deliver" || action?.kind === "RecordDelivery"
      ? action.delivery.pendingRestarts
      : undefined;
  };
  const restarting = withDeliver({ restart: [{ kind: "Deployment", name: "orders" }], restartConsumers: true });

  test("the first delivery restarts nothing: nobody could have read another value", () => {
    expect(restartsOf(restarting, { record: record(restarting) })).toEqual([]);
  });

  test("a changed value restarts what is named, and the consumers", () => {
    const before = delivery(restarting, { fingerprint: "other.other" });
    const seen = { record: record(restarting, { delivery: before }), core: { kind: "Untouched" as const } };
    expect(restartsOf(restarting, seen)).toEqual(["Deployment/orders", CONSUMERS]);
  });

  test("changed labels restart nothing", () => {
    const [data] = fingerprintOf(restarting).split(".");
    const before = delivery(restarting, { fingerprint: `${data}.other` });
    const seen = { record: record(restarting, { delivery: before }), core: { kind: "Untouched" as const } };
    expect(restartsOf(restarting, seen)).toEqual([]);
  });

  test("repaired drift restarts nothing: the value is what it was", () => {
    const seen = {
      record: record(restarting, { delivery: delivery(restarting) }),
      core: { kind: "Live" as const, live: live({ data: new Map() }) },
    };
    expect(restartsOf(restarting, seen)).toEqual([]);
  });

  describe("rotating", () => {
    const entries: SecretSpec["entries"] = [
      { key: "username", literal: "orders" },
      { key: "password", generate: { kind: "Password" } },
    ];
    const rotation = { every: "24h" };
    const rotating = secret({ entries, rotation, deliver: undefined as never });
    const asked = (subject: Secret, token: string): Secret => ({
      ...subject,
      metadata: { ...subject.metadata, annotations: { "mazevault.io/rotate": token } },
    });
    const DAY_MS = 86_400_000;
    const stands = (extra: Partial<RotationRecord> = {}): RotationRecord => ({
      timetable: "every 24h",
      since: new Date(NOW.getTime() - DAY_MS / 2),
      held: [],
      ...extra,
    });
    const decided = (subject: Secret, seen: Partial<SecretRecord> | undefined) => {
      const stored = seen && record(subject, { id: "00000000-1", ...seen });
      const { actions, status, next } = decide(
        subject,
        observed({ record: stored, core: { kind: "NotRequested" } }),
        NOW,
      );
      return {
        actions,
        next,
        fields: status.fields,
        rotated: status.conditions.find(({ type }) => type === "Rotated"),
      };
    };

    test("what is stored for the first time is asked for along with it, and met by it", () => {
      const { actions } = decided(asked(rotating, "one"), undefined);
      expect(actions).toEqual([
        expect.objectContaining({
          kind: "StoreVersion",
          rotation: { timetable: "every 24h", since: NOW, request: "one", held: [] },
        }),
      ]);
    });

    test("what is not due is looked at again when it is, and status tells when", () => {
      expect(
        decided(rotating, { rotation: stands({ at: new Date(NOW.getTime() - 3_600_000), request: "one" }) }),
      ).toMatchObject({
        actions: [],
        next: { kind: "recheckAt", at: new Date("2026-03-01T23:00:00Z") },
        fields: {
          nextRotationTime: "2026-03-01T23:00:00Z",
          lastRotationTime: "2026-02-28T23:00:00Z",
          lastHandledRotate: "one",
        },
        rotated: { status: "True" },
      });
    });

    test("what is due is rotated, and what the manifest changed comes first", () => {
      const due = { rotation: stands({ since: new Date(NOW.getTime() - DAY_MS) }) };
      expect(decided(rotating, due).actions).toEqual([
        expect.objectContaining({
          kind: "Rotate",
          keys: ["password"],
          cause: { kind: "Timetable", timetable: "every 24h", due: NOW },
        }),
      ]);
      const changed = record(secret({ entries: [{ key: "username", literal: "other" }, ...entries.slice(1)] }), due);
      const { actions } = decide(rotating, observed({ record: changed, core: { kind: "NotRequested" } }), NOW);
      expect(actions.map(({ kind }) => kind)).toEqual(["StoreVersion"]);
    });

    test("what is new in the manifest is recorded first", () => {
      expect(decided(rotating, {}).actions).toEqual([
        expect.objectContaining({ kind: "ChangeRotation", rotation: { timetable: "every 24h", since: NOW, held: [] } }),
      ]);
    });

    test("what a person asks for is done once", () => {
      const plain = secret({ entries, deliver: undefined as never });
      expect(decided(asked(plain, "one"), {}).actions).toEqual([
        expect.objectContaining({ kind: "Rotate", cause: { kind: "Request", token: "one" } }),
      ]);
      const done = decided(asked(plain, "one"), { rotation: { since: NOW, at: NOW, request: "one", held: [] } });
      expect(done).toEqual({
        actions: [],
        next: { kind: "settled" },
        fields: { version: 3, lastRotationTime: "2026-03-01T00:00:00Z", lastHandledRotate: "one" },
        rotated: undefined,
      });
    });

    test.each([
      [
        "where nothing is generated",
        secret({ deliver: undefined as never }),
        "one",
        /no entry with generate has a value/,
      ],
      ["by what status could not hold", rotating, "x".repeat(257), /longer than 256 characters/],
    ])("what a person asks for %s is told, and does not count against Ready", (_, subject, token, says) => {
      const { actions, rotated } = decided(asked(subject, token), { rotation: stands({ at: NOW }) });
      expect(actions.filter(({ kind }) => kind === "Rotate")).toEqual([]);
      expect(rotated).toMatchObject({ reason: "NotRequested", message: expect.stringMatching(says) });
    });

    test("what is never due is told, and everything is delivered all the same", () => {
      const never = secret({ entries, rotation: { schedule: "0 0 31 2 *" } });
      const seen = observed({ record: record(never, { id: "00000000-1" }) });
      expect(decide(never, seen, NOW).actions.map(({ kind }) => kind)).toEqual(["Deliver"]);
      const untouched = observed({
        record: record(never, { id: "00000000-1", delivery: delivery(never) }),
        core: { kind: "Untouched" },
      });
      expect(decide(never, untouched, NOW)).toMatchObject({
        actions: [],
        next: {
          kind: "stalled",
          reason: "RotationInvalid",
          message: expect.stringMatching(/^spec\.rotation\.schedule/),
        },
      });
    });

    describe("what is applied to two roles of PostgreSQL", () => {
      const postgres = {
        host: "db",
        admin: { username: "rotator", passwordSecretRef: { name: "rotator", key: "password" } },
        roles: ["a", "b"],
        username: "username",
        password: "password",
      };
      const roles: SecretSpec["entries"] = [
        { key: "username", external: {} },
        { key: "password", generate: { kind: "Password" } },
      ];
      const applied = (...more: string[]): Secret =>
        secret({
          entries: [...roles, ...more.map((key) => ({ key, external: {} }))],
          rotation: { every: "24h", apply: { postgres } },
        });
      const known = new Map(["username", "password"].map((key) => [key, digests.fingerprint(key, "")]));
      const written = orderEntries(roles).map((ordered) => {
        const { key } = ordered.entry;
        const recipe = recipeOf(digests, ordered, (name) => known.get(name)) ?? "";
        return { key, fingerprint: known.get(key) ?? "", recipe };
      });
      const steps = (subject: Secret, apply: Partial<ApplyRecord>, lacks?: string) => {
        const stored = written.filter(({ key }) => key !== lacks);
        const handedOut = delivery(applied(), { fingerprint: fingerprintOf(applied(), written) });
        const seen = record(subject, {
          id: "00000000-1",
          entries: stored,
          rotation: stands({ at: NOW, apply: { last: 3, failed: [], ...apply } }),
          ...(lacks === undefined && { delivery: handedOut }),
        });
        const core = { kind: lacks === undefined ? "Untouched" : "Absent" } as const;
        const { actions, status } = decide(subject, observed({ record: seen, core }), NOW);
        return { kinds: actions.map(({ kind }) => kind), stored: status.conditions[0]?.message };
      };

      test("is confirmed when it is delivered, and not while delivery waits for a value", () => {
        const former = { version: 2, role: "a" };
        expect(steps(applied(), { former }).kinds).toEqual(["Confirm"]);
        expect(steps(applied("extra"), { former }).kinds).toEqual([]);
      });

      test("does not begin while delivery waits for a value that somebody has to write", () => {
        expect(steps(applied(), { asked: true }).kinds).toEqual(["Propose"]);
        expect(steps(applied("extra"), { asked: true }).kinds).toEqual([]);
      });

      test("begins while only the name of the role is missing, which nobody is told to write", () => {
        expect(steps(applied(), {}, "username").kinds).toEqual(["Propose"]);
        const both = steps(applied("extra"), {}, "username");
        expect(both.kinds).toEqual([]);
        expect(both.stored).toBe("entry extra has no value yet; write it with: mazevault put payments/orders-db extra");
      });
    });

    test("only what is applied keeps its value although its parameters change", () => {
      const { spec } = secret({
        entries: [...entries, { key: "token", generate: { kind: "Hex" } }],
        rotation: { every: "24h", keys: ["password"], apply: { job: { cronJobRef: { name: "change" } } } },
      });
      expect([...keptValues(spec, record(rotating))]).toEqual(["password"]);
      expect([...keptValues(rotating.spec, record(rotating))]).toEqual([]);
      const elsewhere = record(rotating, { vaultUrl: "https://payments.vault.azure.net/" });
      expect([...keptValues(spec, elsewhere)]).toEqual([]);
    });

    test("nothing is pending where a Key Vault has the values, since everybody reads its newest version", () => {
      const applied = secret({
        entries,
        rotation: { every: "24h", apply: { job: { cronJobRef: { name: "change" } } } },
        deliver: undefined as never,
      });
      const seen = observed({ record: record(applied, { vaultUrl: "https://payments.vault.azure.net/" }) });
      expect(decide(asked(applied, "one"), seen, NOW)).toMatchObject({
        actions: [],
        next: {
          kind: "stalled",
          reason: "RotationInvalid",
          message: expect.stringMatching(/^spec\.rotation\.apply: .*leave out apply, or use a Project/),
        },
      });
    });
  });
});
