/** The dashboards: for whoever is on call, from "is it well" to "which part is not". */
import { certificates } from "./boards/certificates.ts";
import { fleet } from "./boards/fleet.ts";
import { keyVault } from "./boards/keyvault.ts";
import { overview } from "./boards/overview.ts";
import type { Board } from "./panels.ts";

export const boards: readonly Board[] = [overview, keyVault, certificates, fleet];
