/** What stands in paths and queries. */
import { z } from "zod";
import { labelName, objectName } from "../../../crds/common.ts";

export const namespace = labelName.meta({ description: "Namespace of the object." });
export const name = objectName.meta({ description: "Name of the object." });
export const inNamespace = z.object({ namespace, name });

/** Narrows a list. */
export const scopeQuery = {
  project: objectName.optional().meta({ description: "Only of this Project." }),
  environment: labelName.optional().meta({ description: "Only of this environment." }),
  namespace: labelName.optional().meta({ description: "Only in this namespace." }),
};

export interface Scope {
  readonly project?: string | undefined;
  readonly environment?: string | undefined;
  readonly namespace?: string | undefined;
}

/** Of any MazeVault object, as it stands in its `Ready` condition. */
export const readiness = {
  ready: z.boolean().meta({ description: "Whether everything that its manifest asks for is so." }),
  reason: z.string().meta({ description: "Reason of its condition Ready, see docs/reference/conditions.md." }),
  message: z.string().meta({ description: "What that means, for a person." }),
};

interface WithConditions {
  readonly status?: {
    readonly conditions?:
      | readonly { readonly type: string; readonly status: string; readonly reason: string; readonly message: string }[]
      | undefined;
  };
}

export function readinessOf({ status }: WithConditions): { ready: boolean; reason: string; message: string } {
  const found = status?.conditions?.find(({ type }) => type === "Ready");
  if (found === undefined) return { ready: false, reason: "Progressing", message: "it was not looked at yet" };
  return { ready: found.status === "True", reason: found.reason, message: found.message };
}
