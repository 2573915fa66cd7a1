/** Whether a Key Vault is named as its project says. */
import type { Project, ProjectSpec } from "../../crds/project.ts";
import { isNameOf, nameOf } from "./convention.ts";

interface NamedProject {
  readonly name: string;
  readonly spec: Pick<ProjectSpec, "naming" | "environments">;
}

export const namedProject = ({ metadata, spec }: Project): NamedProject => ({ name: metadata.name, spec });

/** What is wrong with the name of this vault; undefined when nothing is, or the project has no convention. */
export function vaultNameFault({ name, spec }: NamedProject, vaultUrl: string): string | undefined {
  const { naming } = spec;
  if (naming === undefined) return undefined;
  const vault = vaultNameOf(vaultUrl);
  const environments = spec.environments.map((each) => each.name);
  if (environments.some((environment) => isNameOf(naming, "KeyVault", environment, vault))) return undefined;
  const expected = environments.flatMap((environment) => nameOf(naming, "KeyVault", environment) ?? []);
  const such = expected.length === 0 ? "" : `, such as ${expected.slice(0, 3).join(" or ")}`;
  return `spec.vaultUrl: the vault is named ${vault}, and Project ${name} names its vaults otherwise${such}; create a KeyVault with the right vaultUrl, or correct spec.naming of the Project`;
}

/** Why what belongs to one environment may not go to this vault; undefined when it may, or nothing requires a name. */
export function vaultOfOtherEnvironment(
  { name, spec }: NamedProject,
  environment: string,
  vaultUrl: string,
): string | undefined {
  const { naming } = spec;
  const vault = vaultNameOf(vaultUrl);
  if (naming?.required !== true || isNameOf(naming, "KeyVault", environment, vault)) return undefined;
  const expected = nameOf(naming, "KeyVault", environment);
  return `spec.target.keyVault.ref: by the naming of Project ${name} the vault ${vault} is not one of environment ${environment}${expected === undefined ? "" : ` (${expected})`}; refer to the KeyVault of that environment`;
}

/** The first label of the host: Azure makes the host from the vault's name. */
const vaultNameOf = (vaultUrl: string): string => new URL(vaultUrl).host.split(".")[0] ?? "";
