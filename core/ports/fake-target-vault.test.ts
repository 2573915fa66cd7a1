import { FakeTargetVault } from "./fake-target-vault.ts";
import { targetVaultContract } from "./target-vault.contract.ts";

describe("FakeTargetVault", () => {
  let vault: FakeTargetVault;
  beforeEach(() => {
    vault = new FakeTargetVault();
  });
  targetVaultContract(() => ({
    vault,
    hands: {
      put: async (name, value, tags) => void vault.put(name, value, tags),
      tag: async (name, tags) => vault.edit(name, { tags }),
      disable: async (name) => vault.edit(name, { enabled: false }),
      delete: async (name) => vault.remove(name),
      beginDelete: async (name) => vault.suspend(name),
    },
  }));
});
