/** Objects that are made here. */
import { API_VERSION } from "../../../../crds/common.ts";
import { MADE_BY } from "../../../../crds/installation.ts";
import type { Secret } from "../../../../crds/secret.ts";
import type { Place } from "./secret.ts";

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
