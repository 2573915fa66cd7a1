/** What an installation gets from the chart of today with values that it had, while pods of the last release start again beside new ones. */
import { parse } from "yaml";
import { z } from "zod";
import type { Chart } from "../chart.ts";
import { type Break, WIDEN } from "./break.ts";
import type { Schema } from "./schemas.ts";

type JsonSchema = Parameters<typeof z.fromJSONSchema>[0];

const SETTINGS = "settings.yaml";

interface ConfigMap {
  readonly metadata: { readonly name: string; readonly labels: Readonly<Record<string, string>> };
  readonly data: { readonly [SETTINGS]: string };
}

/**
 * @param chart of today, with the sets of values of the last release
 * @param settings that programs of the last release read, by the name of the program
 */
export async function brokenByRendering(chart: Chart, settings: Schema): Promise<readonly Break[]> {
  const sets = await chart.renderings();
  return [...sets].flatMap(([path, { ok, output, stdout }]) =>
    ok
      ? settingsIn(stdout).flatMap((each) => unread(each, path, settings))
      : [{ path, change: `cannot be rendered: ${output}`, fix: WIDEN }],
  );
}

/** Nothing else is parsed: definitions are long. */
const settingsIn = (manifests: string): readonly ConfigMap[] =>
  manifests
    .split(/^---$/m)
    .filter((text) => /^kind: ConfigMap$/m.test(text) && text.includes(`${SETTINGS}: |`))
    .map((text) => parse(text) as ConfigMap);

/** They have the same name in each release, so pods of the last one read what the new one has put there. */
function unread({ metadata, data }: ConfigMap, set: string, { properties = {} }: Schema): readonly Break[] {
  const { name, labels } = metadata;
  const program = labels["app.kubernetes.io/component"] === "ocsp" ? properties.ocsp : properties.operator;
  const schema = z.fromJSONSchema((program ?? false) as JsonSchema, { defaultTarget: "draft-7" });
  const { error } = schema.safeParse(parse(data[SETTINGS]));
  const fix = "set it with the release after, when every pod knows it";
  return (error?.issues ?? []).map(({ path, message }) => ({
    path: [set, name, ...path].join("."),
    change: `is not what the last release reads: ${message}`,
    fix,
  }));
}
