/** Every kind that the API server is taught. Order is the order of installation. */
import { accessPolicyKind } from "./accesspolicy.ts";
import { auditSinkKind } from "./auditsink.ts";
import { certificateKind } from "./certificate.ts";
import { certificateRequestKind } from "./certificaterequest.ts";
import type { KindDefinition } from "./common.ts";
import { failoverKind } from "./failover.ts";
import { gatewayKind } from "./gateway.ts";
import { gatewayEnvironmentKind } from "./gatewayenvironment.ts";
import { clusterIssuerKind, issuerKind } from "./issuer.ts";
import { keyVaultKind } from "./keyvault.ts";
import { projectKind } from "./project.ts";
import { secretKind } from "./secret.ts";
import { syncConflictKind } from "./syncconflict.ts";
import { syncRuleKind } from "./syncrule.ts";

export const kinds: readonly KindDefinition[] = [
  projectKind,
  secretKind,
  keyVaultKind,
  syncRuleKind,
  syncConflictKind,
  clusterIssuerKind,
  issuerKind,
  certificateKind,
  certificateRequestKind,
  accessPolicyKind,
  auditSinkKind,
  gatewayKind,
  gatewayEnvironmentKind,
  failoverKind,
];
export * from "./access.ts";
export * from "./accesspolicy.ts";
export * from "./auditsink.ts";
export * from "./certificate.ts";
export * from "./certificaterequest.ts";
export * from "./common.ts";
export * from "./delivery.ts";
export * from "./failover.ts";
export * from "./gateway.ts";
export * from "./gatewayenvironment.ts";
export * from "./installation.ts";
export * from "./issuer.ts";
export * from "./keyvault.ts";
export * from "./names.ts";
export * from "./project.ts";
export * from "./secret.ts";
export * from "./syncconflict.ts";
export * from "./syncrule.ts";
