import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";
import { parse } from "yaml";
import { type Schema, strict } from "./strict.ts";

interface Definition {
  readonly spec: {
    readonly group: string;
    readonly names: { readonly kind: string };
    readonly versions: readonly { readonly name: string; readonly schema: { readonly openAPIV3Schema: Schema } }[];
  };
}

/**
 * Writes the schemas of the resource definitions in `from` to `to`, by the names of `schemaName`.
 * @param kubernetes schemas of Kubernetes' own kinds, where the schema of `metadata` is
 */
export function writeCrdSchemas({ from, to, kubernetes }: Record<"from" | "to" | "kubernetes", string>): void {
  const core = pathToFileURL(path.join(kubernetes, "api.v1.json"));
  const metadata = { $ref: `${core}#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta` };
  for (const name of readdirSync(from).filter((each) => each.startsWith("mazevault.io_"))) {
    const { spec } = parse(readFileSync(path.join(from, name), "utf8")) as Definition;
    mkdirSync(path.join(to, spec.group), { recursive: true });
    for (const version of spec.versions) {
      const { openAPIV3Schema: schema } = version.schema;
      const text = { type: "string" };
      const whole = strict({ ...schema, properties: { ...schema.properties, apiVersion: text, kind: text, metadata } });
      const file = `${spec.names.kind.toLowerCase()}-${version.name}.json`;
      writeFileSync(path.join(to, spec.group, file), JSON.stringify(whole));
    }
  }
}
