/** Project and environment, which neither of the other tools knows, by namespace. */
import { UsageError } from "../errors.ts";
import type { Manifest } from "./manifests.ts";

export interface TenancyOptions {
  readonly project?: string;
  readonly environment?: string;
  /** Each NAMESPACE=PROJECT/ENVIRONMENT. */
  readonly map?: readonly string[];
  /** Of manifests without one. */
  readonly namespace?: string;
}

export interface Tenant {
  readonly project: string;
  readonly environment: string;
}

export class Tenancy {
  readonly #options: TenancyOptions;
  readonly #tenants: ReadonlyMap<string, Tenant>;

  /** @throws UsageError that names the option */
  constructor(options: TenancyOptions) {
    this.#options = options;
    this.#tenants = new Map(
      (options.map ?? []).map((text) => {
        const [, namespace, project, environment] = /^([^=/]+)=([^=/]+)\/([^=/]+)$/.exec(text) ?? [];
        if (namespace === undefined || project === undefined || environment === undefined) {
          throw new UsageError(`--map: ${text} must be NAMESPACE=PROJECT/ENVIRONMENT`);
        }
        return [namespace, { project, environment }];
      }),
    );
  }

  /** @throws UsageError */
  namespaceOf({ kind, metadata, source }: Manifest): string {
    const namespace = metadata.namespace ?? this.#options.namespace;
    if (namespace !== undefined) return namespace;
    throw new UsageError(`${source}: ${kind} ${metadata.name} says no namespace`, "give it with --namespace");
  }

  /** @throws UsageError */
  of(namespace: string): Tenant {
    const { project, environment } = this.#options;
    const mapped = this.#tenants.get(namespace);
    if (mapped !== undefined) return mapped;
    if (project !== undefined && environment !== undefined) return { project, environment };
    const missing = project === undefined ? "--project" : "--environment";
    throw new UsageError(
      `nothing says to which project and environment namespace ${namespace} belongs (${missing} is missing)`,
      `give --project and --environment, or --map ${namespace}=PROJECT/ENVIRONMENT`,
    );
  }
}
