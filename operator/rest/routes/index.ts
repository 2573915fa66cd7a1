/** Every route there is; in the order of the document. */
import type { Route } from "../route.ts";
import { accessRoutes } from "./access.ts";
import { auditRoutes } from "./audit.ts";
import { certificateRequestRoutes } from "./certificate-requests.ts";
import { certificateRoutes } from "./certificates.ts";
import { diagnosticsRoutes } from "./diagnostics.ts";
import { eventRoutes } from "./events.ts";
import { failoverRoutes } from "./failover.ts";
import { gatewayWriteRoutes } from "./gateway-writes.ts";
import { gatewayRoutes } from "./gateways.ts";
import { identityRoutes } from "./identities.ts";
import { issuerRoutes } from "./issuers.ts";
import { keyRoutes } from "./keys.ts";
import { projectRoutes } from "./projects.ts";
import { secretRoutes } from "./secrets/index.ts";
import { sessionRoutes } from "./sessions.ts";
import { syncConflictRoutes } from "./sync-conflicts.ts";
import { syncRuleRoutes } from "./sync-rules.ts";
import { systemRoutes } from "./system.ts";

export const routes: readonly Route[] = [
  ...systemRoutes,
  ...sessionRoutes,
  ...identityRoutes,
  ...projectRoutes,
  ...secretRoutes,
  ...certificateRoutes,
  ...certificateRequestRoutes,
  ...issuerRoutes,
  ...syncRuleRoutes,
  ...syncConflictRoutes,
  ...eventRoutes,
  ...gatewayRoutes,
  ...failoverRoutes,
  ...gatewayWriteRoutes,
  ...accessRoutes,
  ...auditRoutes,
  ...keyRoutes,
  ...diagnosticsRoutes,
];
