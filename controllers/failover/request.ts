/** Asks for a failover as a person does, by an object. */
import { randomBytes } from "node:crypto";
import type { Side } from "../../core/ports/environment-store.ts";
import { API_VERSION } from "../../crds/common.ts";
import { type Failover, failoverKind } from "../../crds/failover.ts";
import { MADE_BY } from "../../crds/installation.ts";
import { resourceType } from "../runtime/resource-type.ts";
import type { KubernetesApi } from "../runtime/transport.ts";

export interface FailoverRequest {
  /** Name of the GatewayEnvironment. */
  readonly environment: string;
  readonly activate: Side;
  readonly force?: boolean;
  readonly madeBy: "rest" | "automatic-failover";
  readonly fieldManager: string;
  /** What the name ends with; drawn when absent. Asking twice with the same one asks once. */
  readonly suffix?: string;
}

const SUFFIX_BYTES = 4;
const drawn = (): string => randomBytes(SUFFIX_BYTES).toString("hex");

export function requestFailover(
  api: Pick<KubernetesApi, "create">,
  { environment, activate, force = false, madeBy, fieldManager, suffix = drawn() }: FailoverRequest,
  signal?: AbortSignal,
): Promise<Failover> {
  const name = `${environment}-${activate.toLowerCase()}-${suffix}`;
  const object = {
    apiVersion: API_VERSION,
    kind: failoverKind.kind,
    metadata: { name, annotations: { [MADE_BY]: madeBy } },
    spec: { environmentRef: { name: environment }, activate, ...(force && { force }) },
  };
  return api.create<Failover>(resourceType(failoverKind), object, { fieldManager, ...(signal && { signal }) });
}
