/**
 * Applies a pending version by a Job made from a CronJob's template. Its name says for which version, so it is made once,
 * whoever leads; the values are files from a core Secret of the same name, which goes before the version becomes current.
 */
import { createHash } from "node:crypto";
import { failpoint } from "../../../core/failpoints.ts";
import type { Sensitive } from "../../../core/sensitive.ts";
import { applyTimeoutMs } from "../../../core/vault/apply.ts";
import type { Vault } from "../../../core/vault/vault.ts";
import { API_VERSION } from "../../../crds/common.ts";
import type { JobApplySpec } from "../../../crds/rotation-apply.ts";
import { MANAGED_BY, MANAGED_BY_LABEL } from "../../delivery/desired.ts";
import { ApiError, isAlreadyExists, isNotFound } from "../../runtime/api-error.ts";
import { coreSecrets, type ResourceType } from "../../runtime/resource-type.ts";
import type { KubernetesApi } from "../../runtime/transport.ts";
import { type Applier, type ApplyOutcome, isOverdue, type PendingContext, recheckMs } from "./applier.ts";

export interface JobApplierParts {
  readonly api: KubernetesApi;
  readonly vault: Pick<Vault, "open">;
}

const OPT_IN_ANNOTATION = "mazevault.io/rotation";
/** Of a Job and the core Secret with its values: which Secret and version they are for. */
const SECRET_ANNOTATION = "mazevault.io/rotates";
const VOLUME = "mazevault-pending";
export const PENDING_PATH = "/run/mazevault/pending";
const FIELD_MANAGER = "mazevault-rotation";
/** For whoever wants to read its log; long after it was looked at. */
const KEPT_SECONDS = 86_400;

const batch = (plural: string, kind: string): ResourceType => ({
  group: "batch",
  version: "v1",
  plural,
  kind,
  namespaced: true,
});
const JOBS = batch("jobs", "Job");
const CRON_JOBS = batch("cronjobs", "CronJob");

interface Container {
  readonly name: string;
  readonly volumeMounts?: readonly { readonly name: string; readonly mountPath: string }[];
  readonly env?: readonly { readonly name: string }[];
}

interface PodSpec {
  readonly containers: readonly Container[];
  readonly initContainers?: readonly Container[];
  readonly volumes?: readonly { readonly name: string }[];
}

interface JobSpec {
  readonly activeDeadlineSeconds?: number;
  readonly template: { readonly metadata?: object; readonly spec: PodSpec };
}

interface CronJob {
  readonly metadata: { readonly annotations?: Readonly<Record<string, string>> };
  readonly spec: { readonly jobTemplate: { readonly metadata?: object; readonly spec: JobSpec } };
}

interface Job {
  readonly metadata: { readonly uid: string; readonly annotations?: Readonly<Record<string, string>> };
  readonly status?: {
    readonly conditions?: readonly {
      readonly type: string;
      readonly status: string;
      readonly reason?: string;
      readonly message?: string;
    }[];
  };
}

/** Names of pods are made from it, and have 63 characters as labels. */
const LONGEST_NAME = 52;

export function jobName(secretName: string, uid: string, version: number): string {
  const suffix = `${createHash("sha256").update(uid).digest("hex").slice(0, 8)}-v${version}`;
  const begin = secretName.slice(0, LONGEST_NAME - suffix.length - 1).replace(/[-.]+$/, "");
  return `${begin.replaceAll(".", "-")}-${suffix}`;
}

export class JobApplier implements Applier {
  readonly #parts: JobApplierParts;
  readonly #spec: JobApplySpec;

  constructor(parts: JobApplierParts, spec: JobApplySpec) {
    this.#parts = parts;
    this.#spec = spec;
  }

  async apply(context: PendingContext, signal: AbortSignal): Promise<ApplyOutcome> {
    const { pending } = context;
    const key = keyOf(context);
    const job = await this.#read<Job>(JOBS, key, signal);
    if (job === undefined) {
      const waits = `Job ${key.name} was not made in time`;
      // It would be killed as soon as it begins, in the middle of what it does.
      if (isOverdue(context)) return { kind: "Underway", message: waits, recheckMs: 0 };
      return this.#start(context, signal);
    }
    if (job.metadata.annotations?.[SECRET_ANNOTATION] !== markOf(context)) {
      return { kind: "Failed", message: `Job ${key.name} exists and is not ours; delete or rename it` };
    }
    const ended = endOf(job);
    if (ended === undefined) {
      return {
        kind: "Underway",
        message: `Job ${key.name} has not completed yet`,
        recheckMs: recheckMs(pending.since),
      };
    }
    await this.#deleteOwn(coreSecrets, context, signal);
    failpoint("apply.afterValuesDeleted");
    if (ended.type === "Complete") return { kind: "Applied" };
    const why = [ended.reason, ended.message].filter((text) => text).join(": ");
    return {
      kind: "Failed",
      message: `Job ${key.name} failed${why === "" ? "" : ` (${why})`}; its pods' logs say more`,
    };
  }

  /** A Job that has ended stays for a while: whoever wants to know why it failed reads its logs, and so does who leads next. */
  async cancel(context: PendingContext, signal: AbortSignal): Promise<void> {
    const job = await this.#read<Job>(JOBS, keyOf(context), signal);
    if (job !== undefined && endOf(job) === undefined) await this.#deleteOwn(JOBS, context, signal);
    await this.#deleteOwn(coreSecrets, context, signal);
  }

  async #start(context: PendingContext, signal: AbortSignal): Promise<ApplyOutcome> {
    const { secret, pending } = context;
    const { namespace } = keyOf(context);
    const { name } = this.#spec.cronJobRef;
    const cronJob = await this.#read<CronJob>(CRON_JOBS, { namespace, name }, signal);
    const field = "spec.rotation.apply.job.cronJobRef";
    if (cronJob === undefined) return { kind: "Failed", message: `${field}: there is no CronJob ${namespace}/${name}` };
    if (cronJob.metadata.annotations?.[OPT_IN_ANNOTATION] !== "allowed") {
      const how = `kubectl -n ${namespace} annotate cronjob ${name} ${OPT_IN_ANNOTATION}=allowed`;
      return { kind: "Failed", message: `${field}: CronJob ${namespace}/${name} does not opt in; do so with: ${how}` };
    }
    await this.#writeValues(context, signal);
    const manifest = jobManifest(context, cronJob, applyTimeoutMs(secret.spec));
    try {
      failpoint("apply.beforeJob");
      await this.#parts.api.create(JOBS, manifest, { fieldManager: FIELD_MANAGER, signal });
      failpoint("apply.afterJob");
    } catch (error) {
      if (error instanceof ApiError && (error.status === 422 || error.status === 403)) {
        await this.#deleteOwn(coreSecrets, context, signal);
        return { kind: "Failed", message: `a Job from CronJob ${namespace}/${name} is refused (${error.reason})` };
      }
      if (!isAlreadyExists(error)) throw error;
    }
    const message = `Job ${manifest.metadata.name} has not completed yet`;
    return { kind: "Underway", message, recheckMs: recheckMs(pending.since) };
  }

  async #writeValues(context: PendingContext, signal: AbortSignal): Promise<void> {
    const { record, pending, actor } = context;
    const key = keyOf(context);
    const purpose = `hand to Job ${key.namespace}/${key.name}`;
    const { values } = await this.#parts.vault.open(record, { version: pending.version, actor, purpose });
    try {
      const metadata = { ...key, ...metadataOf(context) };
      const manifest = {
        apiVersion: "v1",
        kind: "Secret",
        metadata,
        immutable: true,
        type: "Opaque",
        data: encoded(values),
      };
      const options = { fieldManager: FIELD_MANAGER, metadataOnly: true, signal };
      await this.#parts.api.create(coreSecrets, manifest, options);
      failpoint("apply.afterValues");
    } catch (error) {
      // Of an attempt that was cut short: a version has the same values for ever.
      if (!isAlreadyExists(error)) throw error;
    } finally {
      for (const value of values.values()) value.dispose();
    }
  }

  async #read<T>(type: ResourceType, key: { namespace: string; name: string }, signal: AbortSignal) {
    try {
      return await this.#parts.api.get<T>(type, key, { signal });
    } catch (error) {
      if (isNotFound(error, key.name)) return undefined;
      throw error;
    }
  }

  async #deleteOwn(type: ResourceType, context: PendingContext, signal: AbortSignal): Promise<void> {
    const key = keyOf(context);
    const found = await this.#read<Job>(type, key, signal);
    if (found?.metadata.annotations?.[SECRET_ANNOTATION] !== markOf(context)) return;
    const { uid } = found.metadata;
    try {
      await this.#parts.api.delete(type, key, { propagationPolicy: "Background", preconditions: { uid }, signal });
    } catch (error) {
      if (!isNotFound(error, key.name)) throw error;
    }
  }
}

/** Nothing that a Job was given of a pending version is left, and none of it runs. */
export const cancelJob = (parts: JobApplierParts, context: PendingContext, signal: AbortSignal): Promise<void> =>
  new JobApplier(parts, { cronJobRef: { name: "" } }).cancel(context, signal);

const endOf = ({ status }: Job) =>
  status?.conditions?.find(({ type, status: holds }) => (type === "Complete" || type === "Failed") && holds === "True");

function keyOf({ secret, pending }: PendingContext): { readonly namespace: string; readonly name: string } {
  const { namespace = "", name, uid } = secret.metadata;
  return { namespace, name: jobName(name, uid, pending.version) };
}

const markOf = ({ secret, record, pending }: PendingContext): string =>
  `${secret.metadata.name} ${record.id} ${pending.version}`;

const metadataOf = (context: PendingContext) => ({
  labels: { [MANAGED_BY_LABEL]: MANAGED_BY },
  annotations: { [SECRET_ANNOTATION]: markOf(context) },
  ownerReferences: [
    {
      apiVersion: API_VERSION,
      kind: "Secret",
      name: context.secret.metadata.name,
      uid: context.secret.metadata.uid,
      controller: true,
    },
  ],
});

const encoded = (values: ReadonlyMap<string, Sensitive>): Record<string, string> =>
  Object.fromEntries([...values].map(([key, value]) => [key, value.reveal().toString("base64")]));

/** The template as it is, but for where the values are, how long it may take, and whose it is. */
export function jobManifest(context: PendingContext, cronJob: CronJob, timeoutMs: number) {
  const { name, namespace } = keyOf(context);
  const { spec } = cronJob.spec.jobTemplate;
  const { template, activeDeadlineSeconds = Number.POSITIVE_INFINITY } = spec;
  const pod = template.spec;
  const variables = [
    { name: "MAZEVAULT_SECRET", value: `${namespace}/${context.secret.metadata.name}` },
    { name: "MAZEVAULT_VERSION", value: String(context.pending.version) },
  ];
  const withValues = <T extends Container>(container: T): T => ({
    ...container,
    env: [...(container.env ?? []).filter((each) => !variables.some((own) => own.name === each.name)), ...variables],
    volumeMounts: [
      ...(container.volumeMounts ?? []).filter((mount) => mount.name !== VOLUME),
      { name: VOLUME, mountPath: PENDING_PATH, readOnly: true },
    ],
  });
  return {
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: { name, namespace, ...metadataOf(context) },
    spec: {
      ...spec,
      suspend: false,
      activeDeadlineSeconds: Math.min(activeDeadlineSeconds, Math.max(1, Math.ceil(timeoutMs / 1_000))),
      ttlSecondsAfterFinished: KEPT_SECONDS,
      template: {
        ...template,
        spec: {
          ...pod,
          containers: pod.containers.map(withValues),
          ...(pod.initContainers && { initContainers: pod.initContainers.map(withValues) }),
          volumes: [
            ...(pod.volumes ?? []).filter((volume) => volume.name !== VOLUME),
            { name: VOLUME, secret: { secretName: name, defaultMode: 0o444 } },
          ],
        },
      },
    },
  };
}
