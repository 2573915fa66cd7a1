import { isGone } from "../../controllers/runtime/api-error.ts";
import { type ResourceType, resourceType } from "../../controllers/runtime/resource-type.ts";
import type { KubernetesApi } from "../../controllers/runtime/transport.ts";
import type { ClusterObject, ClusterObjects, RecoveredKind } from "../../core/ports/cluster-objects.ts";
import { auditSinkKind } from "../../crds/auditsink.ts";
import { certificateKind } from "../../crds/certificate.ts";
import { certificateRequestKind } from "../../crds/certificaterequest.ts";
import type { ObjectMeta } from "../../crds/common.ts";
import { gatewayKind } from "../../crds/gateway.ts";
import { gatewayEnvironmentKind } from "../../crds/gatewayenvironment.ts";
import { clusterIssuerKind, issuerKind } from "../../crds/issuer.ts";
import { type SecretSpec, secretKind } from "../../crds/secret.ts";
import { syncRuleKind } from "../../crds/syncrule.ts";
import { clusterUidOf, namespaces } from "../home.ts";

const types: Readonly<Record<RecoveredKind, ResourceType>> = {
  Namespace: namespaces,
  Secret: resourceType(secretKind),
  Issuer: resourceType(issuerKind),
  ClusterIssuer: resourceType(clusterIssuerKind),
  Certificate: resourceType(certificateKind),
  CertificateRequest: resourceType(certificateRequestKind),
  SyncRule: resourceType(syncRuleKind),
  Gateway: resourceType(gatewayKind),
  GatewayEnvironment: resourceType(gatewayEnvironmentKind),
  AuditSink: resourceType(auditSinkKind),
};

interface Listed {
  readonly metadata: ObjectMeta;
  readonly spec?: Pick<SecretSpec, "projectRef" | "environment">;
}

/** Lists that took too long are begun anew. */
const ATTEMPTS = 3;

/** The cluster as its API server has it, a page in memory at a time. */
export class ApiClusterObjects implements ClusterObjects {
  readonly #api: KubernetesApi;

  constructor(api: KubernetesApi) {
    this.#api = api;
  }

  clusterUid(): Promise<string> {
    return clusterUidOf(this.#api);
  }

  async *list(kind: RecoveredKind): AsyncGenerator<ClusterObject> {
    for (let attempt = 1; ; attempt += 1) {
      try {
        yield* this.#pages(kind);
        return;
      } catch (error) {
        // What was told already is told again, which changes nothing.
        if (!isGone(error) || attempt === ATTEMPTS) throw error;
      }
    }
  }

  async *#pages(kind: RecoveredKind): AsyncGenerator<ClusterObject> {
    const metadataOnly = kind !== "Secret";
    for await (const { items } of this.#api.list<Listed>(types[kind], { metadataOnly })) {
      for (const { metadata, spec } of items) {
        const { name, namespace, uid, deletionTimestamp } = metadata;
        if (deletionTimestamp !== undefined) continue;
        yield {
          name,
          uid,
          ...(namespace !== undefined && { namespace }),
          ...(spec !== undefined && { project: spec.projectRef.name, environment: spec.environment }),
        };
      }
    }
  }
}
