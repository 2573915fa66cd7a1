/** How a KeyVault that a gateway calls gets in, and what keeps it out. */
import { Stalled } from "../../core/errors.ts";
import type { KeyVault } from "../../crds/keyvault.ts";
import type { Project } from "../../crds/project.ts";
import type { Tenancy } from "../cluster.ts";
import type { KubernetesApi } from "../runtime/transport.ts";
import { vaultAccess } from "./access.ts";

const VAULT = "https://v.vault.azure.net/";
const { signal } = new AbortController();
/** Nothing has to be read for it. */
const api = {} as KubernetesApi;

const keyVault = {
  metadata: { name: "kv", namespace: "shop", uid: "uid" },
  spec: {
    projectRef: { name: "shop" },
    vaultUrl: VAULT,
    auth: { gateway: { ref: { name: "gw-npr-primary" }, clientId: "client" } },
    budget: { callsPer10Seconds: 50 },
  },
} as KeyVault;

const tenancy = (spec: Partial<Project["spec"]> = {}): Tenancy =>
  ({
    project: {
      metadata: { name: "shop" },
      spec: {
        environments: [
          { name: "dev", gatewayEnvironment: "NPR" },
          { name: "pro", gatewayEnvironment: "PRO" },
          { name: "lab" },
        ],
        keyVaults: [VAULT],
        ...spec,
      },
    },
    namespace: { name: "shop", uid: "uid", labels: {} },
  }) as unknown as Tenancy;

test.each([
  ["values of one environment", "dev", ["NPR"]],
  ["values of another", "pro", ["PRO"]],
  ["no value, as when it is tried", undefined, ["NPR", "PRO"]],
])("the gateway has to be of the environment that is concerned: %s", async (_title, environment, environments) => {
  expect(await vaultAccess(api, keyVault, tenancy(), environment, signal)).toEqual({
    uid: "uid",
    url: VAULT,
    auth: { kind: "Gateway", gateway: "gw-npr-primary", clientId: "client", environments },
    callsPer10Seconds: 50,
  });
});

test.each<[string, Partial<Project["spec"]>, string | undefined, string, RegExp]>([
  [
    "an environment without gateways",
    {},
    "lab",
    "GatewayEnvironmentDiffers",
    /^spec\.auth\.gateway: .* for environment lab/,
  ],
  [
    "a project without gateways",
    { environments: [{ name: "lab" }] },
    undefined,
    "GatewayEnvironmentDiffers",
    /for any of its environments/,
  ],
  [
    "a vault that the project does not list",
    { keyVaults: [] },
    "dev",
    "VaultNotAllowed",
    /^spec\.auth\.gateway: .*the gateway's own/,
  ],
])("it is refused for %s", async (_title, spec, environment, code, says) => {
  const refused = await vaultAccess(api, keyVault, tenancy(spec), environment, signal).catch((error: unknown) => error);
  expect(refused).toBeInstanceOf(Stalled);
  expect(refused).toMatchObject({ code, message: expect.stringMatching(says) });
});
