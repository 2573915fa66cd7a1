/** Every kind that the API server is taught. Order is the order of installation. */
import type { KindDefinition } from "./common.ts";
import { keyVaultKind } from "./keyvault.ts";
import { projectKind } from "./project.ts";
import { secretKind } from "./secret.ts";
import { syncRuleKind } from "./syncrule.ts";

export const kinds: readonly KindDefinition[] = [projectKind, secretKind, keyVaultKind, syncRuleKind];
export * from "./common.ts";
export * from "./installation.ts";
export * from "./keyvault.ts";
export * from "./project.ts";
export * from "./secret.ts";
export * from "./syncrule.ts";
