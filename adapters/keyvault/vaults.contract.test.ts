import { targetVaultContract } from "../../core/ports/target-vault.contract.ts";
import { access, StandIn, VAULT_NAME } from "./testing/stand-in.ts";
import type { KeyVaults } from "./vaults.ts";

describe("Key Vault adapter against the stand-in", () => {
  const standIn = new StandIn();
  let vaults: KeyVaults;
  beforeAll(async () => {
    await standIn.start();
    vaults = standIn.vaults();
  });
  afterAll(() => standIn.stop());

  targetVaultContract(() => {
    const { control } = standIn.lab;
    return {
      vault: vaults.open(access(), "Change"),
      hands: {
        put: async (name, value, tags) => void (await control.setSecret(VAULT_NAME, name, value, { tags })),
        disable: async (name) => void (await control.updateSecret(VAULT_NAME, name, { enabled: false })),
        tag: async (name, tags) => void (await control.updateSecret(VAULT_NAME, name, { tags })),
        delete: (name) => control.deleteSecret(VAULT_NAME, name),
        beginDelete: async (name) => {
          await control.changeSettings({ transitions: { deleting: 60_000 } });
          await control.deleteSecret(VAULT_NAME, name);
          await control.changeSettings({ transitions: { deleting: 0 } });
        },
      },
    };
  });
});
