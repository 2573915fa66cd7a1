/** Objects that are made here. */
import { API_VERSION } from "../../../../crds/common.ts";
import type { Secret } from "../../../../crds/secret.ts";
import type { Place } from "./secret.ts";

/** Whose objects may be changed here: what stands in Git would be changed back. */
const MADE_BY = "mazevault.io/made-by";

/** A `Secret` whose values come through here. */
export const externalObject = (
  place: Place,
  scope: { readonly project: string; readonly environment: string },
  keys: readonly string[],
) => ({
  apiVersion: API_VERSION,
  kind: "Secret",
  metadata: { ...place, annotations: { [MADE_BY]: "rest" } },
  spec: {
    projectRef: { name: scope.project },
    environment: scope.environment,
    entries: keys.map((key) => ({ key, external: {} })),
  },
});

export const isOurs = ({ metadata }: Secret): boolean => metadata.annotations?.[MADE_BY] === "rest";
