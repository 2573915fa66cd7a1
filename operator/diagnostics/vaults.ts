/** Key Vaults: budgets and breakers of those that this replica calls, and client certificates near their end. */
import { readCoreSecret } from "../../controllers/delivery/core-secret.ts";
import type { KubernetesApi } from "../../controllers/runtime/transport.ts";
import { type Check, type Finding, failing, warning } from "../../core/diagnosis/finding.ts";
import { judgeValidity } from "../../core/diagnosis/validity.ts";
import type { VaultState } from "../../core/ports/target-vaults.ts";
import type { KeyVault } from "../../crds/keyvault.ts";
import { validities } from "./files.ts";

export interface VaultParts {
  readonly api: KubernetesApi;
  readonly states: () => readonly VaultState[];
  readonly keyVaults: () => Iterable<KeyVault>;
}

/** As many credentials are looked at. */
const MOST = 200;
const LONG_PAUSE_MS = 1_000;

export const vaultChecks = ({ api, states, keyVaults }: VaultParts): readonly Check[] => [
  {
    name: "keyvault.calls",
    otherwise: "kubectl get keyvaults.mazevault.io -A",
    examine: async () => states().flatMap(judgeState),
  },
  {
    name: "keyvault.credentials",
    otherwise: "kubectl get keyvaults.mazevault.io -A",
    examine: async (signal) => {
      const some = [...keyVaults()].slice(0, MOST);
      return (await Promise.all(some.map((keyVault) => judgeCredential(api, keyVault, signal)))).flat();
    },
  },
];

function judgeState({ url, breaker, callsInWindow, limit, waiting, pausedMs }: VaultState): readonly Finding[] {
  const subject = new URL(url).host;
  const findings: Finding[] = [];
  if (breaker !== "Closed") {
    findings.push(
      failing("keyvault.calls", {
        subject,
        problem: "it failed again and again: the circuit breaker lets one call at a time try whether it is well",
        fix: `it closes by itself when the vault answers: curl -sv ${url}healthstatus, and https://status.azure.com`,
      }),
    );
  }
  if (pausedMs > LONG_PAUSE_MS) {
    findings.push(
      warning("keyvault.calls", {
        subject,
        problem: `it asked to be left alone for another ${Math.round(pausedMs / 1000)} s (HTTP 429)`,
        fix: "lower spec.budget.callsPer10Seconds of its KeyVault: somebody else uses up the limit of 4,000 calls in 10 s",
      }),
    );
  }
  if (waiting > 0 && callsInWindow >= limit) {
    findings.push(
      warning("keyvault.calls", {
        subject,
        problem: `${waiting} calls wait: the budget of ${limit} calls in 10 s is used up`,
        fix: "raise spec.budget.callsPer10Seconds of its KeyVault, or lengthen spec.interval of its SyncRules",
      }),
    );
  }
  return findings;
}

async function judgeCredential(
  api: KubernetesApi,
  { metadata, spec }: KeyVault,
  signal: AbortSignal,
): Promise<readonly Finding[]> {
  const { namespace = "", name } = metadata;
  const ref = spec.auth.servicePrincipal?.certificateSecretRef;
  if (ref === undefined) return [];
  // That it is missing, or out of reach, is told by the KeyVault's own condition.
  const secret = await readCoreSecret(api, namespace, ref.name, signal).catch(() => undefined);
  const pem = Buffer.from(secret?.data?.[ref.key] ?? "", "base64").toString("utf8");
  const fix = `upload a new certificate to the app registration in Entra ID, then put it with its key into core Secret ${namespace}/${ref.name}, key ${ref.key}`;
  return readable(pem).flatMap((each) =>
    judgeValidity(
      "keyvault.credentials",
      `the client certificate of KeyVault ${namespace}/${name}`,
      each,
      new Date(),
      fix,
    ),
  );
}

function readable(pem: string) {
  try {
    return validities(pem);
  } catch {
    // A damaged one is told by the KeyVault's own condition.
    return [];
  }
}
