/** Secrets of the primary that a gateway serves: where its own cluster has none of that place, at the same paths. */

import type { Target } from "../../../../core/access/policy.ts";
import { Unavailable } from "../../../../core/errors.ts";
import type { Replica } from "../../../../core/fleet/replica.ts";
import type { HeldSecret } from "../../../../core/fleet/replica-directory.ts";
import { reasons } from "../../../../crds/conditions.ts";
import { Problem } from "../../problem.ts";
import type { Call, Input } from "../../route.ts";
import type { Services } from "../../services.ts";
import { dispose, type Place, target } from "./secret.ts";
import { encoded } from "./values.ts";

/** When the primary last confirmed it (RFC 3339). */
export const SYNCED_AT = "mazevault-synced-at";

/** Headers of answers that a gateway may give. */
export const OF_GATEWAYS = {
  [SYNCED_AT]: "Of a gateway, for what is the primary's: when that last confirmed it (RFC 3339).",
};

/** Code of the reason. */
const LEFT_OUT = "mazevault-replica-left-out";

/** Of lists, beside those. */
export const OF_LISTS = {
  [LEFT_OUT]: "Of a gateway that cannot tell now what the primary has: why that is left out.",
};

/** The gateway's own objects are listed whatever is wrong with what it holds of the primary. */
export async function heldNow<Held>(
  replica: Replica | undefined,
  list: (replica: Replica) => Promise<readonly Held[]>,
): Promise<{ readonly held: readonly Held[]; readonly leftOut: Readonly<Record<string, string>> }> {
  if (replica === undefined) return { held: [], leftOut: {} };
  try {
    const held = await list(replica);
    if (held.length > 0) replica.assertCurrent();
    return { held, leftOut: {} };
  } catch (error) {
    if (!(error instanceof Unavailable)) throw error;
    return { held: [], leftOut: { [LEFT_OUT]: error.code } };
  }
}

export async function replicatedAt(
  place: Place,
  { view, replica }: Pick<Services, "view" | "replica">,
): Promise<HeldSecret | undefined> {
  return view.secret(place.namespace, place.name) === undefined ? replica?.find(place) : undefined;
}

export const targetOfReplicated = ({ secret: { project, environment, namespace, name } }: HeldSecret): Target => ({
  kind: "Secret",
  project,
  environment,
  namespace,
  name,
  replicated: true,
});

/** Of a secret that is here or at the primary; for reading only. */
export async function readTarget({ params }: { params: Place }, services: Services): Promise<Target> {
  const held = await replicatedAt(params, services);
  return held === undefined ? target({ params }, services) : targetOfReplicated(held);
}

export const shownReplicated = ({ secret, valued }: HeldSecret) => ({
  namespace: secret.namespace,
  name: secret.name,
  project: secret.project,
  environment: secret.environment,
  version: secret.version,
  entries: secret.entries.map(({ key, source }) => ({ key, source })),
  protection: secret.protection,
  ...(secret.readers !== undefined && { readers: secret.readers.map(({ name, publicKey }) => ({ name, publicKey })) }),
  ...(valued
    ? { ready: true, reason: "Succeeded", message: reasons.Succeeded }
    : { ready: false, reason: "SecretNotReplicated", message: reasons.SecretNotReplicated }),
  replicated: true as const,
});

export const keyOfReplicated = ({ secret: { namespace, name } }: HeldSecret): string => `${namespace}/${name}`;

export const syncedAtHeader = (services: Services): Readonly<Record<string, string>> => {
  const syncedAt = services.replica?.assertCurrent();
  return syncedAt === undefined ? {} : { [SYNCED_AT]: syncedAt.toISOString() };
};

/** A primary that was restored may give a generation again, with other values. */
const tagOf = ({ secret: { generation, values } }: HeldSecret): string => `${generation}-${values.slice(0, 16)}`;

interface Wanted {
  readonly version?: number | undefined;
  readonly key?: string | undefined;
  readonly encoding: "utf8" | "base64";
}

export async function replicatedValues(held: HeldSecret, { version, key, encoding }: Wanted, call: Call<Input>) {
  const { services, actor, grant, ifNoneMatch } = call;
  const { replica } = services;
  if (replica === undefined) throw new TypeError("what is replicated has a replica");
  const headers = (of: HeldSecret) => ({ etag: `"${tagOf(of)}"`, ...syncedAtHeader(services) });
  if (version !== undefined && version !== held.secret.version) {
    const message = `a gateway holds only the current version, ${held.secret.version}; ask the primary for version ${version}`;
    throw new Problem(404, "VersionNotKept", message);
  }
  if (ifNoneMatch === tagOf(held)) return { status: 304, headers: headers(held) };
  if (key !== undefined && !held.secret.entries.some((entry) => entry.key === key))
    throw new Problem(404, "EntryUnknown", `version ${held.secret.version} has no value of ${key}`);
  const only = key === undefined ? {} : { keys: [key] };
  const opened = await replica.open(held, { actor, purpose: `REST: ${grant}`, ...only });
  try {
    const body = { version: opened.held.secret.version, values: encoded(opened.values, encoding) };
    return { status: 200, body, headers: headers(opened.held) };
  } finally {
    dispose(opened.values);
  }
}
