/**
 * Everything that can be looked at from where the operator runs, each with what to do. It is asked for by people in
 * trouble, so nothing here may need what is broken: each check has its own time, and none waits for another.
 */
import type { DatabaseOptions } from "../../adapters/postgres/database.ts";
import { type DatabaseSizes, readDatabaseSizes } from "../../adapters/postgres/diagnosis.ts";
import type { Stores } from "../../adapters/postgres/stores.ts";
import type { KubernetesApi } from "../../controllers/runtime/transport.ts";
import { examine } from "../../core/diagnosis/examination.ts";
import type { Check, Finding } from "../../core/diagnosis/finding.ts";
import { redactResource, redactSpec } from "../../core/diagnosis/redaction.ts";
import { judgeResources, RESOURCES } from "../../core/diagnosis/resources.ts";
import type { VaultState } from "../../core/ports/target-vaults.ts";
import type { Resource } from "../../crds/common.ts";
import { redact } from "../../program/logging.ts";
import { VERSION } from "../../program/version.ts";
import type { Caches } from "../caches.ts";
import type { Config } from "../config.ts";
import { openRootKey } from "../database.ts";
import type { OperationalSecrets } from "../operational-secrets/operational-secrets.ts";
import { type ClusterParts, clusterChecks } from "./cluster.ts";
import { databaseChecks } from "./database.ts";
import { fileChecks } from "./files.ts";
import { pkiChecks } from "./pki.ts";
import { vaultChecks } from "./vaults.ts";

export interface DiagnosticsParts {
  readonly config: Config;
  readonly stores: Pick<Stores, "pki">;
  /** As it is reached now. */
  readonly database: () => DatabaseOptions;
  readonly secrets: Pick<OperationalSecrets, "read" | "source">;
  readonly api: KubernetesApi;
  readonly view: Caches;
  readonly vaults: () => readonly VaultState[];
  readonly metrics: () => Promise<string>;
  readonly actors: ClusterParts["actors"];
}

export interface InstallationFacts {
  readonly version: string;
  readonly node: string;
  readonly platform: string;
  readonly upSeconds: number;
  readonly residentBytes: number;
  readonly configuration: Readonly<Record<string, unknown>>;
  /** Absent while PostgreSQL does not answer. */
  readonly database?: DatabaseSizes;
  /** In the text format of Prometheus. */
  readonly metrics: string;
}

const WITHIN_MS = 5_000;

export class Diagnostics {
  readonly #parts: DiagnosticsParts;
  #underWay: Promise<readonly Finding[]> | undefined;

  constructor(parts: DiagnosticsParts) {
    this.#parts = parts;
  }

  /** What those who help from outside want to know, without anything that is secret. */
  async facts(): Promise<InstallationFacts> {
    const { config, database, metrics } = this.#parts;
    const sizes = await readDatabaseSizes(database());
    return {
      version: VERSION,
      node: process.version,
      platform: `${process.platform} ${process.arch}`,
      upSeconds: Math.round(process.uptime()),
      residentBytes: process.memoryUsage.rss(),
      // It names files, and holds none of what stands in them.
      configuration: redactSpec(redact(config)) as Record<string, unknown>,
      ...("check" in sizes ? {} : { database: sizes }),
      metrics: await metrics(),
    };
  }

  /** Every object of our kinds, without what may be secret in it. */
  *resources(): Generator<Resource> {
    for (const resource of this.#parts.view.everything()) yield redactResource(resource);
  }

  /** Whoever asks meanwhile gets the same. */
  examine(): Promise<readonly Finding[]> {
    this.#underWay ??= examine(this.#checks(), WITHIN_MS).finally(() => {
      this.#underWay = undefined;
    });
    return this.#underWay;
  }

  #checks(): readonly Check[] {
    const { config, stores, database, secrets, api, view, vaults } = this.#parts;
    const { rootKeySecret } = config.keys;
    const home = config.kubernetes.namespace;
    return [
      ...databaseChecks({
        options: database(),
        rootKey: async () => openRootKey(config.keys, secrets.read),
        rootKeyPlace:
          rootKeySecret === undefined
            ? {
                setting: "keys.file",
                where: config.keys.file,
                rights: "with mode 0600 and owned by the operator's user",
              }
            : {
                setting: "keys.rootKeySecret",
                where: secrets.source("keys.rootKeySecret"),
                rights: "as a new version",
              },
        checkpointMs: config.audit.checkpointMs,
        home,
      }),
      ...clusterChecks({
        api,
        systemNamespace: home,
        actors: this.#parts.actors,
        onboarded: () => [...view.bindingCache.values()].map(({ metadata }) => metadata.namespace ?? ""),
      }),
      ...fileChecks(config),
      ...pkiChecks({ store: stores.pki, baseUrl: config.pki.baseUrl, home }),
      ...vaultChecks({ api, states: vaults, keyVaults: () => view.keyVaultCache.values() }),
      {
        name: RESOURCES,
        otherwise: "kubectl get mazevault -A",
        examine: async () => judgeResources(view.everything(), home, new Date()),
      },
    ];
  }
}
