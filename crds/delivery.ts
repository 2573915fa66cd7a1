/** What every kind that delivers a core Secret lets its author say about it. */
import { z } from "zod";
import { type CelRule, labelValue, listMap, objectName, rules } from "./common.ts";

/** Of annotations on the pod templates of workloads that are restarted: one per core Secret. */
export const RESTART_PREFIX = "restart.mazevault.io/";

export const RESTARTABLE_KINDS = ["Deployment", "StatefulSet", "DaemonSet"] as const;

/**
 * Labels and annotations that other controllers act on would turn a delivered Secret into a lever (authority rule 6).
 * Kubernetes keeps keys without a prefix for the user's own, so those pass, save `owner`, by which Helm finds its
 * releases, and the underscore, by which sidecars (grafana_datasource) collect. Of the recommended labels `instance` and
 * `managed-by` are missing: Argo CD and Helm take what bears them for their own.
 */
const metadataKey = z
  .string()
  .max(63)
  .regex(
    /^([A-Za-z0-9]([-A-Za-z0-9]*[A-Za-z0-9])?|app\.kubernetes\.io\/(name|component|part-of|version))$/,
    "may be app.kubernetes.io/name, /component, /part-of or /version, or letters, digits and dashes without a prefix; on other keys controllers may act",
  );

const ALLOWED_METADATA =
  "Keys without a prefix (letters, digits and dashes), and app.kubernetes.io/ with name, component, part-of or version.";

const notHelmRelease = {
  rule: "!('owner' in self)",
  message: "owner is not allowed: Helm takes what bears it for a release of its own; choose another key",
};

/** Labels and annotations of the core Secret. */
export const deliveredMetadata = {
  labels: z
    .record(metadataKey, labelValue)
    .optional()
    .meta({
      description: `Labels to set on the core Secret. ${ALLOWED_METADATA}`,
      maxProperties: 32,
      ...rules(notHelmRelease),
    }),
  annotations: z
    .record(metadataKey, z.string().max(4096))
    .optional()
    .meta({ description: `Annotations to set on the core Secret. ${ALLOWED_METADATA}`, maxProperties: 32 }),
};

/** Who is told of a change, and what becomes of a core Secret that was there before. */
export const deliveryBehaviour = {
  restart: z
    .array(
      z.object({
        kind: z.enum(RESTARTABLE_KINDS).meta({ description: "Kind of the workload." }),
        name: objectName.meta({ description: "Name of the workload in this namespace." }),
      }),
    )
    .min(1)
    .max(32)
    .optional()
    .meta({
      description:
        "Workloads to restart after the delivered value changed. A workload opts in by using the core Secret, or by the annotation mazevault.io/restart: allowed.",
      ...listMap("kind", "name"),
    }),
  restartConsumers: z.boolean().optional().meta({
    description:
      "Restart every Deployment, StatefulSet and DaemonSet of this namespace that uses the core Secret, after the delivered value changed.",
  }),
  adopt: z.boolean().optional().meta({
    description:
      "Take over a core Secret of that name that exists already and is not ours, if its data is equal; nothing restarts.",
  }),
  overwrite: z
    .boolean()
    .optional()
    .meta({ description: "With adopt: take it over even when its data differs. The data that was there is lost." }),
};

export const overwriteNeedsAdopt: CelRule = {
  rule: "!has(self.overwrite) || !self.overwrite || (has(self.adopt) && self.adopt)",
  message: "overwrite needs adopt: true",
};
