/** A Key Vault that throttles, or fails. */
import { azure } from "../../../lab/mazevault.ts";
import type { Fault } from "../fault.ts";
import { type Installation, TEAM } from "../installation.ts";
import { azureVault, keyVault, object, secret } from "../manifests.ts";

const [vault] = azure.vaults;

export const inAKeyVault = (on: Installation): void =>
  describe("of a Key Vault", () => {
    const push = object("SyncRule", "push", {
      projectRef: { name: TEAM },
      environment: "pro",
      direction: "Push",
      secrets: { names: ["pushed"] },
      target: { keyVault: { ref: { name: "healthy" } } },
    });
    const control = () => on.world.mazevault.keyVault.control;

    beforeAll(async () => {
      await on.world.apply(
        keyVault("healthy", azureVault(vault), { clientSecretRef: { name: "principal", key: "secret" } }),
        secret("pushed", { literal: "first" }),
        push,
      );
      await on.world.waitReady("syncrule.mazevault.io", "push", TEAM);
    });

    test.each<Fault>([
      {
        fault: "it wants to be left alone",
        plant: async () => {
          const effect = { kind: "status", status: 429, retryAfterSeconds: 4 } as const;
          await control().setFaults([{ vault, effect }]);
          await on.world.apply(secret("pushed", { literal: "second" }));
        },
        heal: () => control().setFaults([]),
        check: "keyvault.calls",
        status: "warning",
        subject: azureVault(vault),
        problem: /left alone for another \d+ s/,
        fix: /callsPer10Seconds/,
      },
      {
        fault: "it fails, and the breaker is open",
        plant: async () => {
          await control().setFaults([{ vault, effect: { kind: "status", status: 503 } }]);
          await on.world.apply(secret("pushed", { literal: "third" }));
        },
        heal: () => control().setFaults([]),
        check: "keyvault.calls",
        subject: azureVault(vault),
        problem: /circuit breaker/,
        fix: /status\.azure\.com/,
      },
    ])("$fault", (fault) => on.plants(fault));
  });
