/** The command line as a person has it: on the PATH, with the installation's address and a login of its own. */
import path from "node:path";
import { writeLaunchers } from "../lab/launcher.ts";
import type { Rest } from "../lab/mazevault.ts";
import type { World } from "./harness.ts";

/** For a shell; launchers and login stand in `folder`. */
export function cliEnvironment(world: World, { restUrl }: Pick<Rest, "restUrl">, folder: string): NodeJS.ProcessEnv {
  writeLaunchers(folder, world.mazevault.cli);
  const { kubectlPath, kubeconfigPath } = world.lab.controlPlane;
  const { MAZEVAULT_TOKEN: _, ...inherited } = process.env;
  return {
    ...inherited,
    KUBECONFIG: kubeconfigPath,
    PATH: [folder, path.dirname(kubectlPath), process.env.PATH].join(path.delimiter),
    MAZEVAULT_SERVER: restUrl,
    MAZEVAULT_CA_FILE: world.lab.pki.caFile,
    MAZEVAULT_CLI_CONFIG: path.join(folder, "login.json"),
  };
}
