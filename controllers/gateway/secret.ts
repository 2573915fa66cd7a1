/** The core Secret with the token of a Gateway, in the installation's namespace. What the token is, is never read back. */
import { Waiting } from "../../core/errors.ts";
import { API_VERSION, type ObjectMeta } from "../../crds/common.ts";
import { type Gateway, gatewayKind } from "../../crds/gateway.ts";
import { MANAGED_BY, MANAGED_BY_LABEL } from "../delivery/desired.ts";
import { isAlreadyExists, isNotFound } from "../runtime/api-error.ts";
import { coreSecrets } from "../runtime/resource-type.ts";
import type { KubernetesApi } from "../runtime/transport.ts";
import type { TokenSecret } from "./decide.ts";

/** The same as in its data, for who may not read that. */
export const EXPIRES_AT = "mazevault.io/expires-at";

const FIELD_MANAGER = "mazevault-gateway";
const CHANGED_RECHECK_MS = 1_000;

export const tokenSecretName = (gateway: string): string => `${gateway}-bootstrap`;

interface WithMetadata {
  readonly metadata: ObjectMeta;
}

export class TokenSecrets {
  readonly #api: Pick<KubernetesApi, "get" | "create" | "delete">;
  readonly #namespace: string;

  constructor(api: Pick<KubernetesApi, "get" | "create" | "delete">, namespace: string) {
    this.#api = api;
    this.#namespace = namespace;
  }

  placeOf(gateway: string): { readonly namespace: string; readonly name: string } {
    return { namespace: this.#namespace, name: tokenSecretName(gateway) };
  }

  async find(gateway: string, signal: AbortSignal): Promise<TokenSecret | undefined> {
    const place = this.placeOf(gateway);
    try {
      const { metadata } = await this.#api.get<WithMetadata>(coreSecrets, place, { metadataOnly: true, signal });
      return seen(metadata, gateway);
    } catch (error) {
      if (isNotFound(error, place.name)) return undefined;
      throw error;
    }
  }

  /** Throws `Waiting` with TargetNotOwned when another one has come there. */
  async create({ metadata }: Gateway, token: string, expiresAt: Date, signal: AbortSignal): Promise<TokenSecret> {
    const place = this.placeOf(metadata.name);
    const end = expiresAt.toISOString();
    const { kind } = gatewayKind;
    const owner = { apiVersion: API_VERSION, kind, name: metadata.name, uid: metadata.uid, controller: true };
    const secret = {
      apiVersion: "v1",
      kind: "Secret",
      metadata: {
        ...place,
        labels: { [MANAGED_BY_LABEL]: MANAGED_BY },
        annotations: { [EXPIRES_AT]: end },
        ownerReferences: [owner],
      },
      type: "Opaque",
      stringData: { token, expiresAt: end },
    };
    try {
      const options = { fieldManager: FIELD_MANAGER, metadataOnly: true, signal };
      const written = await this.#api.create<WithMetadata>(coreSecrets, secret, options);
      return seen(written.metadata, metadata.name);
    } catch (error) {
      if (!isAlreadyExists(error)) throw error;
      const message = `core Secret ${place.namespace}/${place.name} has just been made by somebody else`;
      throw new Waiting("TargetNotOwned", message, CHANGED_RECHECK_MS);
    }
  }

  /** Only as it was seen. */
  async delete(gateway: string, { uid, resourceVersion }: TokenSecret, signal: AbortSignal): Promise<void> {
    const place = this.placeOf(gateway);
    const preconditions = { uid, resourceVersion };
    try {
      await this.#api.delete(coreSecrets, place, { preconditions, signal });
    } catch (error) {
      if (!isNotFound(error, place.name)) throw error;
    }
  }
}

function seen({ uid, resourceVersion, ownerReferences = [], annotations }: ObjectMeta, gateway: string): TokenSecret {
  const { kind } = gatewayKind;
  const owner = ownerReferences.find(
    (each) => each.apiVersion === API_VERSION && each.kind === kind && each.name === gateway,
  );
  const end = new Date(annotations?.[EXPIRES_AT] ?? "");
  return {
    uid,
    resourceVersion,
    ownerUid: owner?.uid,
    expiresAt: Number.isNaN(end.getTime()) ? undefined : end,
  };
}
