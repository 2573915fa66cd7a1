/** The settings of the programs as JSON Schema, for the values `config` and `ocsp.config`: a typo fails where the chart is rendered. */
import { z } from "zod";
import { configSchema as ocsp } from "../../ocsp/config.ts";
import { configSchema as operator } from "../../operator/config.ts";

export type JsonSchema = { [keyword: string]: unknown };

/** What the chart says itself, each by a value of its own or since its files stand there: it must not be said twice. */
const SAID_BY_THE_CHART = {
  operator: [
    "mode",
    "kubernetes.kubeconfig",
    "kubernetes.namespace",
    "kubernetes.serviceAccount",
    "kubernetes.restServiceAccount",
    "database.host",
    "database.port",
    "database.name",
    "database.user",
    "database.passwordFile",
    "database.caFile",
    "redis.url",
    "redis.passwordFile",
    "redis.caFile",
    "keys.create",
    "http",
    "rest.host",
    "rest.port",
    "rest.certFile",
    "rest.keyFile",
    "rest.clientCaFile",
    "rest.clientCrlFile",
    "rest.eventTokensFile",
    "controllers.onboardNamespaces",
    "gateway.environment",
    "gateway.role",
    "gateway.primaryUrl",
    "gateway.primaryCaFile",
    "gateway.bootstrapTokenFile",
    // Secret, and a ConfigMap is none.
    "gateway.bootstrapToken",
  ],
  ocsp: [
    "database.host",
    "database.port",
    "database.name",
    "database.user",
    "database.passwordFile",
    "database.caFile",
    "http.host",
    "http.port",
    // Over plain HTTP, as its clients expect it.
    "http.certFile",
    "http.keyFile",
    "http.clientCaFile",
    "health",
  ],
} as const;

export const operatorSettings = (): JsonSchema => without(jsonSchema(operator), SAID_BY_THE_CHART.operator);
export const ocspSettings = (): JsonSchema => without(jsonSchema(ocsp), SAID_BY_THE_CHART.ocsp);

/** As Helm can read it: its regular expressions are RE2, which knows no look-ahead; `format` says the same. */
export function jsonSchema(schema: z.ZodType): JsonSchema {
  const { $schema: _, ...root } = z.toJSONSchema(schema, {
    target: "draft-7",
    io: "input",
    reused: "inline",
    override: ({ jsonSchema: made }) => {
      if (made.pattern?.includes("(?!") || made.pattern?.includes("(?=")) delete made.pattern;
      // What is left out is as the program says; of the environment the schema knows nothing.
      delete made.default;
      delete made.aliases;
    },
  });
  return root as JsonSchema;
}

function without(schema: JsonSchema, paths: readonly string[]): JsonSchema {
  for (const path of paths) remove(schema, path.split("."), path);
  return schema;
}

/** @throws when there is no such setting any more */
function remove(schema: JsonSchema, [head = "", ...rest]: readonly string[], path: string): void {
  const properties = schema.properties as Record<string, JsonSchema>;
  const child = properties[head];
  if (child === undefined) throw new Error(`there is no setting ${path}; correct charts/schema/settings.ts`);
  if (rest.length > 0) remove(child, rest, path);
  else delete properties[head];
}
