/** A Key Vault that throttles, or fails. */
import type { FaultRule } from "../../../lab/keyvault/control.ts";
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

    let values = 0;
    /** Whatever is pushed now meets it. */
    const answers = async (effect: FaultRule["effect"]) => {
      values += 1;
      await control().setFaults([{ vault, effect }]);
      await on.world.apply(secret("pushed", { literal: `value ${values}` }));
    };
    const leftAlone = () => answers({ kind: "status", status: 429, retryAfterSeconds: 4 });
    const failing = () => answers({ kind: "status", status: 503 });
    const heal = () => control().setFaults([]);
    /** Budgets and breakers are those of whoever is asked, and the operator makes the calls. */
    const given = () => on.at(on.operator.loopbackUrl);
    const subject = `SyncRule ${TEAM}/push`;

    test.each<Fault>([
      {
        fault: "it wants to be left alone",
        plant: leftAlone,
        heal,
        given,
        check: "keyvault.calls",
        status: "warning",
        subject: azureVault(vault),
        problem: /left alone for another \d+ s/,
        fix: /callsPer10Seconds/,
      },
      {
        fault: "the same, told of what is pushed there",
        plant: leftAlone,
        heal,
        check: "resources",
        subject,
        problem: /^VaultThrottled: /,
        fix: /work resumes when it said so/,
      },
      {
        fault: "it fails, and the breaker is open",
        plant: failing,
        heal,
        given,
        check: "keyvault.calls",
        subject: azureVault(vault),
        problem: /circuit breaker/,
        fix: /status\.azure\.com/,
      },
      {
        fault: "the same, told of what is pushed there",
        plant: failing,
        heal,
        check: "resources",
        subject,
        problem: /^VaultUnreachable: /,
        fix: /tried again with growing pauses/,
      },
    ])("$fault", (fault) => on.plants(fault));
  });
