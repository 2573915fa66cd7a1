import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { writeCrdSchemas } from "./crd-schemas.ts";
import { filesOf } from "./kubernetes-schemas.ts";
import { strict } from "./strict.ts";

describe("strict", () => {
  test("an object has no field but those that are named, at any depth", () => {
    const inner = { type: "object", properties: { name: { type: "string" } } };
    const strictInner = { ...inner, additionalProperties: false };
    expect(
      strict({ properties: { list: { items: inner }, map: { additionalProperties: inner }, ref: { allOf: [inner] } } }),
    ).toEqual({
      properties: {
        list: { items: strictInner },
        map: { additionalProperties: strictInner },
        ref: { allOf: [strictInner] },
      },
      additionalProperties: false,
    });
  });

  test("what takes any field keeps taking it", () => {
    const open = [
      { type: "object" },
      { type: "object", additionalProperties: { type: "string" } },
      { properties: { a: {} }, "x-kubernetes-preserve-unknown-fields": true },
    ];
    expect(open.map(strict)).toEqual(open);
  });

  test("a field that is called as a keyword is a field", () => {
    const named = { properties: { properties: { type: "object" }, items: { type: "object" } } };
    expect(strict(named)).toEqual({ ...named, additionalProperties: false });
  });
});

test("a kind of Kubernetes has a file by its name, in the folder of its group, that refers to its document", () => {
  const gvk = (group: string, version: string, kind: string) => ({
    "x-kubernetes-group-version-kind": [{ group, version, kind }],
  });
  const deployment = { type: "object", properties: {}, ...gvk("apps", "v1", "Deployment") };
  const options = { type: "object", ...gvk("", "v1", "DeleteOptions") };
  const document = { components: { schemas: { "io.k8s.Deployment": deployment, "io.k8s.DeleteOptions": options } } };
  expect([...filesOf("apis/apps/v1", document)]).toEqual([
    [
      "apis.apps.v1.json",
      {
        components: {
          schemas: {
            "io.k8s.Deployment": { ...deployment, additionalProperties: false },
            "io.k8s.DeleteOptions": options,
          },
        },
      },
    ],
    ["apps/deployment-v1.json", { $ref: "../apis.apps.v1.json#/components/schemas/io.k8s.Deployment" }],
  ]);
  const pod = { components: { schemas: { "io.k8s.Pod": { type: "object", ...gvk("", "v1", "Pod") } } } };
  expect([...filesOf("api/v1", pod)].map(([file]) => file)).toEqual(["api.v1.json", "v1/pod-v1.json"]);
});

test("a resource definition has a file too, with what every object has", () => {
  const dir = mkdtempSync(path.join(tmpdir(), "lab-schemas-"));
  try {
    const definition = {
      spec: {
        group: "mazevault.io",
        names: { kind: "Secret" },
        versions: [{ name: "v1", schema: { openAPIV3Schema: { required: ["spec"], properties: { spec: {} } } } }],
      },
    };
    writeFileSync(path.join(dir, "mazevault.io_secrets.yaml"), JSON.stringify(definition));
    writeCrdSchemas({ from: dir, to: dir, kubernetes: "/schemas" });
    expect(JSON.parse(readFileSync(path.join(dir, "mazevault.io/secret-v1.json"), "utf8"))).toEqual({
      required: ["spec"],
      additionalProperties: false,
      properties: {
        spec: {},
        apiVersion: { type: "string" },
        kind: { type: "string" },
        metadata: {
          $ref: "file:///schemas/api.v1.json#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
        },
      },
    });
  } finally {
    rmSync(dir, { recursive: true });
  }
});
