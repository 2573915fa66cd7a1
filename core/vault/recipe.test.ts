import { createSecretKey, randomBytes } from "node:crypto";
import fc from "fast-check";
import type { SecretEntry } from "../../crds/secret.ts";
import { identity } from "../ports/samples.ts";
import type { EntryDigest } from "../ports/vault-store.ts";
import { Sensitive } from "../sensitive.ts";
import { Digester } from "./fingerprint.ts";
import { type MadeEntry, makeEntries } from "./material.ts";
import { planVersion, unwritten, type VersionPlan } from "./recipe.ts";

const digester = new Digester(createSecretKey(randomBytes(32)), "installation", identity("one"));

type Sources = Readonly<Record<string, string>>;

const sourceFingerprints = (sources: Sources) =>
  new Map(Object.entries(sources).map(([key, value]) => [key, digester.fingerprint(key, value)]));

/** A version of these entries, its values made anew but for `kept`. */
function make(
  entries: readonly SecretEntry[],
  sources: Sources = {},
  kept: ReadonlyMap<string, Sensitive> = new Map(),
) {
  const values = new Map(Object.entries(sources).map(([key, value]) => [key, new Sensitive(Buffer.from(value))]));
  return makeEntries(digester, entries, values, kept);
}

const plan = (entries: readonly SecretEntry[], current: readonly EntryDigest[], sources: Sources = {}): VersionPlan =>
  planVersion(digester, entries, current, sourceFingerprints(sources));

const user: SecretEntry = { key: "user", literal: "orders" };
const password: SecretEntry = { key: "password", generate: { kind: "Password" } };
const apiKey: SecretEntry = { key: "api-key", secretRef: { name: "partner", key: "key" } };
const url: SecretEntry = { key: "url", template: "pg://{{ user }}:{{ password }}@db" };
const header: SecretEntry = { key: "header", template: "X-Url: {{ url }}" };
const partner: SecretEntry = { key: "partner", external: {} };
const all = [user, password, apiKey, url, header];
const sources = { "api-key": "k1" };

describe("a plan", () => {
  let current: readonly MadeEntry[];
  beforeAll(async () => {
    current = await make(all, sources);
  });
  const changed = (made: readonly string[], removed: readonly string[] = []) => ({ kind: "Changed", made, removed });

  test.each<[string, readonly SecretEntry[], Sources, object]>([
    ["nothing changed", all, sources, { kind: "Unchanged" }],
    ["order of entries is no change", [...all].reverse(), sources, { kind: "Unchanged" }],
    [
      "a default spelled out is no change",
      [user, { key: "password", generate: { kind: "Password", length: 32 } }, apiKey, url, header],
      sources,
      { kind: "Unchanged" },
    ],
    [
      "the same value from another source is no change",
      [user, password, { key: "api-key", literal: "k1" }, url, header],
      {},
      { kind: "Unchanged" },
    ],
    [
      "a literal changed, and templates through templates",
      [{ key: "user", literal: "payments" }, password, apiKey, url, header],
      sources,
      changed(["user", "url", "header"]),
    ],
    [
      "parameters of a generator changed",
      [user, { key: "password", generate: { kind: "Hex" } }, apiKey, url, header],
      sources,
      changed(["password", "url", "header"]),
    ],
    ["a source changed", all, { "api-key": "k2" }, changed(["api-key"])],
    [
      "a template's text changed",
      [user, password, apiKey, url, { key: "header", template: "{{ url }}" }],
      sources,
      changed(["header"]),
    ],
    ["an entry came", [...all, { key: "new", literal: "x" }], sources, changed(["new"])],
    ["an entry went", [user, password, url, header], {}, changed([], ["api-key"])],
    [
      "an entry was renamed",
      [user, password, url, header, { key: "api", secretRef: { name: "partner", key: "key" } }],
      { api: "k1" },
      changed(["api"], ["api-key"]),
    ],
    [
      "a literal became generated",
      [{ key: "user", generate: { kind: "UUID" } }, password, apiKey, url, header],
      sources,
      changed(["user", "url", "header"]),
    ],
    [
      "an external entry that nobody has written is not made, nor what refers to it",
      [...all, partner, { key: "both", template: "{{ user }}:{{ partner }}" }],
      sources,
      { kind: "Unchanged" },
    ],
    [
      "a template that refers to what nobody has written goes",
      [user, password, apiKey, { key: "url", template: "{{ partner }}" }, header, partner],
      sources,
      changed([], ["header", "url"]),
    ],
    [
      "a literal became external: its value stays",
      [{ key: "user", external: {} }, ...all.slice(1)],
      sources,
      { kind: "Unchanged" },
    ],
    [
      "a generated value became external: it is taken down as written, and stays",
      [user, { key: "password", external: {} }, apiKey, url, header],
      sources,
      changed(["password"]),
    ],
  ])("%s", (_, entries, given, expected) => {
    expect(plan(entries, current, given)).toEqual(expected);
  });

  test("for a secret that was never stored makes everything", () => {
    expect(plan(all, [], sources)).toEqual(changed(["user", "password", "api-key", "url", "header"]));
  });

  test("an external value stays until it is generated, and is then made anew", async () => {
    const written = await make([partner], {}, new Map([["partner", new Sensitive("p1")]]));
    expect(plan([partner], written)).toEqual({ kind: "Unchanged" });
    expect(unwritten([partner], written)).toEqual([]);
    expect(unwritten([...all, partner], [])).toEqual(["partner"]);
    expect(plan([{ key: "partner", literal: "p1" }], written)).toEqual({ kind: "Unchanged" });
    expect(plan([{ key: "partner", generate: { kind: "Hex" } }], written)).toEqual(changed(["partner"]));
  });

  test("waits for a source that is not there", () => {
    expect(() => plan(all, current)).toThrow(expect.objectContaining({ code: "SourceNotFound" }));
  });

  test("stalls on templates that cannot be made", () => {
    const broken: SecretEntry[] = [
      { key: "a", template: "{{ b }}" },
      { key: "b", template: "{{ a }}" },
    ];
    expect(() => plan(broken, [])).toThrow(expect.objectContaining({ code: "TemplateCycle" }));
    expect(() => plan([header], [])).toThrow(expect.objectContaining({ code: "TemplateInvalid" }));
    expect(() => plan([user, user], [])).toThrow(expect.objectContaining({ code: "ValueInvalid" }));
  });
});

test("the digests of another secret, project or installation mean nothing here", () => {
  const elsewhere = new Digester(createSecretKey(randomBytes(32)), "installation", identity("one"));
  const fingerprints = new Set([
    digester.fingerprint("a", "value"),
    digester.fingerprint("b", "value"),
    elsewhere.fingerprint("a", "value"),
    digester.digest("recipe", ["a", "value"]),
  ]);
  expect(fingerprints.size).toBe(4);
});

test("a salted hash is made once, and again when what it hashes or how changes", async () => {
  const hashed = (cost = 4): SecretEntry => ({ key: "line", template: `{{ password | htpasswd: 'admin', ${cost} }}` });
  const before = await make([user, password, hashed()]);
  const valueAt = (made: readonly MadeEntry[], key: string) => made.find((each) => each.key === key)?.value;
  for (let pass = 0; pass < 3; pass += 1) {
    expect(plan([user, password, hashed()], before)).toEqual({ kind: "Unchanged" });
  }
  const renamed: SecretEntry = { key: "user", literal: "payments" };
  expect(plan([renamed, password, hashed()], before)).toEqual({ kind: "Changed", made: ["user"], removed: [] });
  const kept = new Map(["password", "line"].map((key) => [key, valueAt(before, key) as Sensitive]));
  const after = await make([renamed, password, hashed()], {}, kept);
  expect(valueAt(after, "line")?.revealText()).toBe(valueAt(before, "line")?.revealText());
  expect(plan([renamed, password, hashed()], after)).toEqual({ kind: "Unchanged" });

  const stronger: SecretEntry = { key: "password", generate: { kind: "Password", length: 40 } };
  expect(plan([user, stronger, hashed()], before)).toMatchObject({ made: ["password", "line"] });
  expect(plan([user, password, hashed(5)], before)).toMatchObject({ made: ["line"] });
});

describe("whatever the entries", () => {
  const keys = ["a", "b", "c", "d", "e"];
  const kind = fc.oneof(
    fc.string({ maxLength: 3 }).map((literal) => ({ literal })),
    fc
      .constantFrom("Hex", "Base64")
      .chain((name) => fc.integer({ min: 8, max: 9 }).map((bytes) => ({ generate: { kind: name, bytes } as const }))),
    fc.constant({ secretRef: { name: "source", key: "key" } }),
    fc.constant({ external: {} }),
    fc.array(fc.nat(3), { minLength: 1, maxLength: 3 }).map((references) => ({ references })),
  );
  /** Templates refer only to entries before them. */
  const entries = fc.array(kind, { minLength: 1, maxLength: keys.length }).map((list) =>
    list.map((made, index): SecretEntry => {
      const key = keys[index] ?? "";
      if (!("references" in made)) return { key, ...made };
      const referred = index === 0 ? [] : made.references.map((pick) => keys[pick % index]);
      return { key, template: `t${referred.map((name) => `{{ ${name} }}`).join("")}` };
    }),
  );
  const given = fc.tuple(...keys.map(() => fc.constantFrom("s1", "s2")));
  const sourcesOf = (list: readonly SecretEntry[], values: readonly string[]): Sources =>
    Object.fromEntries(
      list.flatMap(({ key, secretRef }, index) => (secretRef === undefined ? [] : [[key, values[index] ?? ""]])),
    );

  test("what was just made needs nothing", async () => {
    await fc.assert(
      fc.asyncProperty(entries, given, async (list, values) => {
        const from = sourcesOf(list, values);
        expect(plan(list, await make(list, from), from)).toEqual({ kind: "Unchanged" });
      }),
    );
  });

  test("carrying out a plan leaves nothing to do, and touches only what it named", async () => {
    await fc.assert(
      fc.asyncProperty(entries, given, entries, given, async (before, beforeValues, after, afterValues) => {
        const old = await make(before, sourcesOf(before, beforeValues));
        const from = sourcesOf(after, afterValues);
        const planned = plan(after, old, from);
        const made = new Set(planned.kind === "Changed" ? planned.made : []);
        const external = new Set(after.flatMap((entry) => (entry.external === undefined ? [] : [entry.key])));
        const kept = new Map(
          old.flatMap(({ key, value }): [string, Sensitive][] =>
            made.has(key) && !external.has(key) ? [] : [[key, value]],
          ),
        );
        const next = await make(after, from, kept);
        const fingerprints = new Map(old.map(({ key, fingerprint }) => [key, fingerprint]));
        for (const { key, fingerprint } of next) if (!made.has(key)) expect(fingerprint).toBe(fingerprints.get(key));
        expect(plan(after, next, from)).toEqual({ kind: "Unchanged" });
      }),
    );
  });
});
