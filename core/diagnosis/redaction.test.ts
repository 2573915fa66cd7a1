import { redactResource, redactSpec } from "./redaction.ts";

const CANARY = "c4n4ry-9f31";

test.each<[string, unknown, unknown]>([
  ["a literal", { entries: [{ key: "k", literal: CANARY }] }, { entries: [{ key: "k", literal: "[redacted]" }] }],
  ["what is sealed", { entries: [{ key: "k", sealed: CANARY }] }, { entries: [{ key: "k", sealed: "[redacted]" }] }],
  [
    "a template, in which a value may stand",
    { entries: [{ key: "k", template: `x${CANARY}` }] },
    { entries: [{ key: "k", template: "[redacted]" }] },
  ],
  ["the path of a webhook", { url: `https://hooks.example/${CANARY}` }, { url: "https://hooks.example/[redacted]" }],
  ["the query of a URL", { url: `https://a.example/?sig=${CANARY}` }, { url: "https://a.example/[redacted]" }],
  ["the user of a URL", { url: `https://u:${CANARY}@a.example` }, { url: "https://a.example/[redacted]" }],
  ["a URL that is none", { url: `https://[${CANARY}` }, { url: "[redacted]" }],
])("%s is left out", (_name, spec, expected) => expect(redactSpec(spec)).toEqual(expected));

test("what is known to be harmless stays", () => {
  const spec = {
    projectRef: { name: "shop" },
    vaultUrl: "https://crdprointmzvgwckv01.vault.azure.net/",
    entries: [{ key: "password", generate: { kind: "Password", length: 32 } }],
    suspend: false,
  };
  expect(redactSpec(spec)).toEqual(spec);
});

test("annotations keep their names only: one of them may hold the whole manifest", () => {
  const metadata = {
    name: "db",
    annotations: { "kubectl.kubernetes.io/last-applied-configuration": CANARY },
    managedFields: [CANARY],
  };
  expect(redactResource({ metadata, spec: {}, status: { version: 2 } })).toEqual({
    metadata: { name: "db", annotations: { "kubectl.kubernetes.io/last-applied-configuration": "[redacted]" } },
    spec: {},
    status: { version: 2 },
  });
});
