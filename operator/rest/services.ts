/** What routes work with. */
import type { Cluster } from "../../controllers/cluster.ts";
import type { KubernetesApi } from "../../controllers/runtime/transport.ts";
import type { AccessPolicies } from "../../core/access/policy.ts";
import type { SigningKeys } from "../../core/audit/checkpoint.ts";
import type { Environments } from "../../core/fleet/environments.ts";
import type { MembershipStatus } from "../../core/fleet/membership.ts";
import type { QueuedWrites } from "../../core/fleet/queued-writes.ts";
import type { Registrations } from "../../core/fleet/registrations.ts";
import type { Replica } from "../../core/fleet/replica.ts";
import type { IdempotentRequests } from "../../core/idempotency/requests.ts";
import type { Identities } from "../../core/identity/identities.ts";
import type { Authorities } from "../../core/pki/authority.ts";
import type { AuditLog } from "../../core/ports/audit-log.ts";
import type { FleetStore } from "../../core/ports/fleet-store.ts";
import type { PkiStore } from "../../core/ports/pki-store.ts";
import type { BreakerState } from "../../core/ports/primary-link.ts";
import type { VaultHints } from "../../core/ports/vault-hints.ts";
import type { VaultStore } from "../../core/ports/vault-store.ts";
import type { KeyRotation } from "../../core/vault/rotation.ts";
import type { Vault } from "../../core/vault/vault.ts";
import type { Certificate } from "../../crds/certificate.ts";
import type { Failover } from "../../crds/failover.ts";
import type { Gateway } from "../../crds/gateway.ts";
import type { GatewayEnvironment } from "../../crds/gatewayenvironment.ts";
import type { ClusterIssuer, Issuer } from "../../crds/issuer.ts";
import type { Secret } from "../../crds/secret.ts";
import type { SyncConflict } from "../../crds/syncconflict.ts";
import type { SyncRule } from "../../crds/syncrule.ts";
import type { Diagnostics } from "../diagnostics/diagnostics.ts";
import type { EventTokens } from "./event-tokens.ts";

/** The caches, and what they list. */
export interface View extends Cluster {
  secrets(): Iterable<Secret>;
  certificates(): Iterable<Certificate>;
  issuers(): Iterable<Issuer>;
  clusterIssuers(): Iterable<ClusterIssuer>;
  syncRules(): Iterable<SyncRule>;
  syncConflicts(): Iterable<SyncConflict>;
  gateway(name: string): Gateway | undefined;
  gateways(): Iterable<Gateway>;
  gatewayEnvironment(name: string): GatewayEnvironment | undefined;
  gatewayEnvironments(): Iterable<GatewayEnvironment>;
  failoversOf(environment: string): readonly Failover[];
  /** Whether a KeyVault is of the vault with this name, in lower case. */
  knowsVault(name: string): boolean;
}

export interface HealthPart {
  readonly name: string;
  /** What is wrong; undefined when nothing is. */
  readonly problem: string | undefined;
  /** What to do about it. */
  readonly fix: string;
}

export interface Services {
  readonly mode: "primary" | "gateway";
  readonly version: string;
  readonly view: View;
  readonly api: KubernetesApi;
  readonly vault: Vault;
  readonly vaultStore: Pick<VaultStore, "locate">;
  readonly rotation: Pick<KeyRotation, "find" | "list" | "rotate" | "root">;
  readonly pki: Pick<PkiStore, "authority" | "certificatesOf" | "certificateFor" | "listAuthorities" | "crl">;
  readonly authorities: Pick<Authorities, "openKey">;
  readonly audit: AuditLog;
  /** For exports, which are proved by the public halves. */
  readonly signing: SigningKeys;
  readonly identities: Identities;
  readonly idempotency: Pick<IdempotentRequests, "once">;
  readonly policies: AccessPolicies;
  readonly eventTokens: Pick<EventTokens, "accepts">;
  readonly vaultHints: VaultHints;
  readonly fleet: Pick<FleetStore, "gateway" | "gateways">;
  /** In mode primary. */
  readonly registrations?: Pick<Registrations, "issueToken">;
  /** In mode primary. */
  readonly environments?: Pick<Environments, "find">;
  readonly health: () => readonly HealthPart[];
  /** In mode gateway: how it stands with its primary. */
  readonly membership?: () => MembershipStatus;
  /** In mode gateway: whether the primary is asked at all. */
  readonly circuitBreaker?: () => BreakerState;
  /** In mode gateway: the primary's secrets that it serves. */
  readonly replica?: Replica;
  /** In mode gateway: what is on its way to the primary. */
  readonly writes?: QueuedWrites;
  /** Everything that can be looked at from here; bounded in time. */
  readonly diagnostics: Pick<Diagnostics, "examine" | "facts" | "resources">;
  /** Why nothing but its health can be told yet; undefined once it can. */
  readonly unready: () => string | undefined;
}
