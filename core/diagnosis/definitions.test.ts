import { resourceSchema } from "../../crds/generate/crd.ts";
import { kinds } from "../../crds/index.ts";
import { judgeDefinitions, type ServedDefinitions } from "./definitions.ts";

type Schemas = Record<string, { properties: { spec: { properties: Record<string, unknown> } } }>;

/** As the API server publishes them. */
const served = (change: (schemas: Schemas) => void = () => {}): ServedDefinitions => {
  const schemas = Object.fromEntries(
    kinds.map((kind) => [
      `io.mazevault.v1.${kind.kind}`,
      {
        ...structuredClone(resourceSchema(kind)),
        "x-kubernetes-group-version-kind": [{ group: "mazevault.io", version: "v1", kind: kind.kind }],
      },
    ]),
  ) as unknown as Schemas;
  change(schemas);
  return { components: { schemas: schemas as never } };
};

test("those of this program are as they should be", () => expect(judgeDefinitions(served())).toEqual([]));

test("a missing one, an older one and a newer one", () => {
  const findings = judgeDefinitions(
    served((schemas) => {
      delete schemas["io.mazevault.v1.AuditSink"];
      delete schemas["io.mazevault.v1.Secret"]?.properties.spec.properties.retention;
      Object.assign(schemas["io.mazevault.v1.Project"]?.properties.spec.properties ?? {}, {
        tomorrow: { type: "string" },
      });
    }),
  );
  expect(findings.map(({ subject, status, problem }) => [subject, status, problem])).toEqual([
    [
      "CustomResourceDefinition projects.mazevault.io",
      "warning",
      "the definition is newer than the program, which does not know spec.tomorrow",
    ],
    [
      "CustomResourceDefinition secrets.mazevault.io",
      "failing",
      expect.stringContaining("older than the program: it lacks spec.retention, spec.retention."),
    ],
    ["CustomResourceDefinition auditsinks.mazevault.io", "failing", expect.stringContaining("definition is missing")],
  ]);
});

test("where nothing is served, each kind is missing", () => {
  expect(judgeDefinitions(undefined)).toHaveLength(kinds.length);
});
