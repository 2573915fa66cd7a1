/** The controller of `KeyVault`: tries now and then whether the vault answers and lets us in. */
import { Stalled, Unavailable, Waiting } from "../../core/errors.ts";
import type { TargetVaults } from "../../core/ports/target-vaults.ts";
import { type KeyVault, keyVaultKind } from "../../crds/keyvault.ts";
import { type Cluster, tenancyOf } from "../cluster.ts";
import type { Controller, OwnedConditionType } from "../runtime/controller.ts";
import { resourceType } from "../runtime/resource-type.ts";
import type { KubernetesApi } from "../runtime/transport.ts";
import { vaultAccess } from "./access.ts";
import { decide, type Probe } from "./decide.ts";

export interface KeyVaultControllerDependencies {
  readonly api: KubernetesApi;
  readonly cluster: Cluster;
  readonly vaults: TargetVaults;
}

export class KeyVaultController implements Controller<KeyVault, Probe, never, never> {
  readonly name = "keyvault";
  readonly fieldManager = "mazevault-keyvault";
  readonly resource = resourceType(keyVaultKind);
  readonly #deps: KeyVaultControllerDependencies;
  /** UIDs by key, to forget the credentials of an object that is gone. */
  readonly #opened = new Map<string, string>();

  constructor(deps: KeyVaultControllerDependencies) {
    this.#deps = deps;
  }

  async observe(keyVault: KeyVault, signal: AbortSignal): Promise<Probe> {
    const { api, cluster, vaults } = this.#deps;
    const tenancy = tenancyOf(cluster, keyVault);
    const { namespace, name, uid } = keyVault.metadata;
    try {
      const vault = vaults.open(await vaultAccess(api, keyVault, tenancy, signal), "Look");
      this.#remember(`${namespace}/${name}`, uid);
      // One page is one call, and enough to know.
      for await (const _ of vault.list(signal)) break;
      return { kind: "Answered" };
    } catch (error) {
      if (error instanceof Stalled || error instanceof Waiting || error instanceof Unavailable) {
        if (error.code === "ApiServerUnavailable") throw error;
        return { kind: "Refused", reason: error.code, message: error.message, stalled: error instanceof Stalled };
      }
      throw error;
    }
  }

  decide = decide;

  async perform(): Promise<never> {
    throw new TypeError("a KeyVault has no actions");
  }

  learn(seen: Probe): Probe {
    return seen;
  }

  conditionFor(): OwnedConditionType {
    return "Authorized";
  }

  async absent(key: string): Promise<void> {
    this.#remember(key, undefined);
  }

  /** An object that was made anew under its name has another UID, and the one before was never seen to be absent. */
  #remember(key: string, uid: string | undefined): void {
    const before = this.#opened.get(key);
    if (before !== undefined && before !== uid) this.#deps.vaults.forget(before);
    if (uid === undefined) this.#opened.delete(key);
    else this.#opened.set(key, uid);
  }
}
