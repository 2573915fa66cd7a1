/** What the routes of secrets share: which one is meant, who may be let to it, and how its values stand in JSON. */
import { z } from "zod";
import { tenancyOf } from "../../../../controllers/cluster.ts";
import { resourceType } from "../../../../controllers/runtime/resource-type.ts";
import { identityOf } from "../../../../controllers/secret/observe.ts";
import type { Target } from "../../../../core/access/policy.ts";
import type { SecretRecord } from "../../../../core/ports/vault-store.ts";
import type { Sensitive } from "../../../../core/sensitive.ts";
import { type Secret, secretKind } from "../../../../crds/secret.ts";
import { Problem } from "../../problem.ts";
import type { Call, Input } from "../../route.ts";
import type { Services } from "../../services.ts";
import type { Scope } from "../names.ts";

export const TAG = "Secrets";
export const PATH = "/api/v1/namespaces/{namespace}/secrets/{name}";
export const FIELD_MANAGER = "mazevault-rest";
export const type = resourceType(secretKind);

export const encoding = z
  .enum(["utf8", "base64"])
  .default("utf8")
  .meta({ description: "How values stand in JSON: as text, or as base64 of their bytes." });

export interface Place {
  readonly namespace: string;
  readonly name: string;
}

export const targetOf = ({ metadata, spec }: Secret): Target => ({
  kind: "Secret",
  project: spec.projectRef.name,
  environment: spec.environment,
  namespace: metadata.namespace ?? "",
  name: metadata.name,
});

/** Of what is not there only the place is known: whoever may not look there learns nothing of it. */
export const target = ({ params }: { params: Place }, { view }: Services): Target => {
  const secret = view.secret(params.namespace, params.name);
  return secret === undefined ? { kind: "Secret", ...params } : targetOf(secret);
};

export function theSecret({ namespace, name }: Place, { view }: Services): Secret {
  const secret = view.secret(namespace, name);
  if (secret === undefined) throw new Problem(404, "NotFound", `there is no Secret ${namespace}/${name}`);
  return secret;
}

export const identify = (secret: Secret, { view }: Services) =>
  identityOf(secret, tenancyOf(view, secret).namespace.uid);

export async function theRecord(secret: Secret, services: Services): Promise<SecretRecord> {
  return stored(secret, await services.vault.describe(identify(secret, services)));
}

/** The same, to be opened next. */
export async function theRecordToOpen(secret: Secret, services: Services): Promise<SecretRecord> {
  return stored(secret, await services.vault.describeToOpen(identify(secret, services)));
}

function stored(secret: Secret, record: SecretRecord | undefined): SecretRecord {
  if (record !== undefined) return record;
  const { namespace, name } = secret.metadata;
  throw new Problem(
    404,
    "SecretNotStored",
    `nothing is stored for Secret ${namespace}/${name} yet; its status says why`,
  );
}

/** As RFC 9110, section 8.8.3, writes it. */
export const etag = ({ generation }: SecretRecord): Readonly<Record<string, string>> => ({ etag: `"${generation}"` });

export function assertUnchanged(record: SecretRecord | undefined, { ifMatch }: Pick<Call<Input>, "ifMatch">): void {
  if (ifMatch === undefined || (ifMatch === "*" && record !== undefined)) return;
  if (ifMatch === record?.generation.toString()) return;
  throw new Problem(412, "ChangedMeanwhile", "it is not what If-Match says any more; read it again and decide anew");
}

/** What is asked for must be where the secret is. */
export function assertBelongs(
  { namespace, name }: Place,
  asked: { readonly project?: string | undefined; readonly environment?: string | undefined },
  is: { readonly project: string; readonly environment: string },
): void {
  for (const field of ["project", "environment"] as const) {
    if (asked[field] === undefined || asked[field] === is[field]) continue;
    const message = `Secret ${namespace}/${name} is of ${field} ${is[field]}`;
    throw new Problem(409, "BelongsElsewhere", message, { errors: [{ field: `body.${field}`, message }] });
  }
}

export const dispose = (values: ReadonlyMap<string, Sensitive>): void => {
  for (const value of values.values()) value.dispose();
};

/** As much of a Secret as says where it belongs. */
interface Scoped {
  readonly metadata: { readonly namespace?: string | undefined };
  readonly spec: Pick<Secret["spec"], "projectRef" | "environment">;
}

export const inScope =
  ({ project, environment, namespace }: Scope) =>
  ({ metadata, spec }: Scoped): boolean =>
    (project === undefined || spec.projectRef.name === project) &&
    (environment === undefined || spec.environment === environment) &&
    (namespace === undefined || metadata.namespace === namespace);

export const keyOf = ({ metadata }: Secret): string => `${metadata.namespace}/${metadata.name}`;

export const written = z.strictObject({
  version: z.int(),
  changed: z.array(z.string()).meta({ description: "Keys that have another value now; none: nothing was done." }),
});
