/** How this installation calls Azure, from whichever of its programs. */
import { readFileSync } from "node:fs";
import { type AzureCall, type KeyVaultOptions, KeyVaults } from "../adapters/keyvault/vaults.ts";
import type { Logger } from "../program/logging.ts";
import type { Config } from "./config.ts";

export const openKeyVaults = (
  { azure }: Pick<Config, "azure">,
  log: Pick<Logger, "debug">,
  onCall: (call: AzureCall) => void,
  more: Pick<KeyVaultOptions, "ledger" | "breaker" | "readsOnly">,
): KeyVaults =>
  new KeyVaults({
    connectTo: azure.connectTo,
    ...(azure.caFile !== undefined && { ca: readFileSync(azure.caFile, "utf8") }),
    ...(azure.managedIdentityClientId !== undefined && { managedIdentityClientId: azure.managedIdentityClientId }),
    allowedHosts: azure.allowedVaultHosts,
    authorityHost: azure.authorityHost,
    requestTimeoutMs: azure.timeoutMs,
    ...more,
    onCall: (call) => {
      onCall(call);
      // Microsoft's support asks for the request's id.
      log.debug({ ...call }, "Azure was called");
    },
  });
