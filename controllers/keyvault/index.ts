/** The controller of `KeyVault`: tries now and then whether the vault answers and lets us in. */
import { Stalled, Unavailable, Waiting } from "../../core/errors.ts";
import { namedProject, vaultNameFault } from "../../core/naming/key-vaults.ts";
import type { TargetVaults } from "../../core/ports/target-vaults.ts";
import { PAGE_SIZE } from "../../core/sync/forecast.ts";
import { type KeyVault, keyVaultKind } from "../../crds/keyvault.ts";
import { type Cluster, tenancyOf } from "../cluster.ts";
import type { Controller, OwnedConditionType } from "../runtime/controller.ts";
import { keyOf, resourceType } from "../runtime/resource-type.ts";
import type { KubernetesApi } from "../runtime/transport.ts";
import { intervalMs } from "../syncrule/decide.ts";
import { vaultAccess } from "./access.ts";
import { decide, type Observed, type Probe } from "./decide.ts";
import type { VaultSizes } from "./sizes.ts";

export interface KeyVaultControllerDependencies {
  readonly api: KubernetesApi;
  readonly cluster: Cluster;
  readonly vaults: TargetVaults;
  readonly sizes: VaultSizes;
}

/** An answer, and what was asked. */
interface Answered {
  readonly probe: Extract<Probe, { kind: "Answered" }>;
  readonly uid: string;
  readonly generation: number | undefined;
}

export class KeyVaultController implements Controller<KeyVault, Observed, never, never> {
  readonly name = "keyvault";
  readonly fieldManager = "mazevault-keyvault";
  readonly resource = resourceType(keyVaultKind);
  readonly #deps: KeyVaultControllerDependencies;
  /** UIDs by key, to forget the credentials of an object that is gone. */
  readonly #opened = new Map<string, string>();
  /** By key: what the vault said last, as long as it was good. */
  readonly #answered = new Map<string, Answered>();
  readonly #recounted = new Set<string>();

  constructor(deps: KeyVaultControllerDependencies) {
    this.#deps = deps;
  }

  /** Only what it costs is another one: its next pass asks the vault nothing. */
  recount(key: string): void {
    this.#recounted.add(key);
  }

  async observe(keyVault: KeyVault, signal: AbortSignal): Promise<Observed> {
    const { cluster, sizes } = this.#deps;
    const { namespace = "", name } = keyVault.metadata;
    const probe = await this.#probe(keyVault, signal);
    const rules = cluster
      .syncRulesIn(namespace)
      .filter(({ spec }) => spec.suspend !== true && spec.target.keyVault?.ref.name === name);
    const onFirstPage = probe.kind === "Answered" ? probe.entries : undefined;
    // After a restart it is not known before the first look, and has hardly changed.
    const before = rules.length === 0 ? undefined : keyVault.status?.secrets;
    const entries = sizes.of(keyVault.spec.vaultUrl) ?? onFirstPage ?? before;
    return { probe, intervalsMs: rules.map(intervalMs), ...(entries !== undefined && { entries }) };
  }

  async #probe(keyVault: KeyVault, signal: AbortSignal): Promise<Probe> {
    const { api, cluster, vaults } = this.#deps;
    const { uid, generation } = keyVault.metadata;
    const key = keyOf(keyVault);
    const tenancy = tenancyOf(cluster, keyVault);
    const last = this.#answered.get(key);
    const recounted = this.#recounted.delete(key);
    if (recounted && last?.uid === uid && last.generation === generation) return last.probe;
    this.#answered.delete(key);
    try {
      const vault = vaults.open(await vaultAccess(api, keyVault, tenancy, undefined, signal), "Look");
      this.#remember(key, uid);
      let entries = 0;
      // One page is one call, and enough to know.
      for await (const page of vault.list(signal)) {
        entries = page.length;
        break;
      }
      const { project } = tenancy;
      const misnamed = vaultNameFault(namedProject(project), keyVault.spec.vaultUrl);
      const probe: Probe = {
        kind: "Answered",
        at: new Date(),
        ...(entries < PAGE_SIZE && { entries }),
        named: project.spec.naming !== undefined,
        ...(misnamed !== undefined && { misnamed }),
      };
      this.#answered.set(key, { probe, uid, generation });
      return probe;
    } catch (error) {
      if (error instanceof Stalled || error instanceof Waiting || error instanceof Unavailable) {
        if (error.code === "ApiServerUnavailable" || error.code === "DatabaseUnavailable") throw error;
        return { kind: "Refused", reason: error.code, message: error.message, stalled: error instanceof Stalled };
      }
      throw error;
    }
  }

  decide = decide;

  async perform(): Promise<never> {
    throw new TypeError("a KeyVault has no actions");
  }

  learn(seen: Observed): Observed {
    return seen;
  }

  conditionFor(): OwnedConditionType {
    return "Authorized";
  }

  async absent(key: string): Promise<void> {
    this.#answered.delete(key);
    this.#recounted.delete(key);
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
