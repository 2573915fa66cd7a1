/**
 * Who writes the manifests of teams: somebody with the rights that docs/operations/rights.md gives to authors, and no others. In every
 * namespace, and of every Project, as tests make both.
 */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseAllDocuments } from "yaml";
import type { PolicyRule } from "../crds/generate/rbac.ts";
import type { Cluster } from "../lab/cluster.ts";

/** Their group. */
export const AUTHORS = "authors";

interface ClusterRole {
  readonly apiVersion: string;
  readonly kind: "ClusterRole";
  readonly metadata: { readonly name: string };
  readonly rules: readonly PolicyRule[];
}

/** As the page has them. @throws where it has none */
export function rolesOfAuthors(): readonly ClusterRole[] {
  const page = readFileSync(fileURLToPath(new URL("../docs/operations/rights.md", import.meta.url)), "utf8");
  const yaml = /^## Rights of authors\n[\s\S]*?^```yaml\n([\s\S]*?)^```$/m.exec(page)?.[1];
  if (yaml === undefined) throw new Error("docs/operations/rights.md has no roles of authors");
  return parseAllDocuments(yaml).map((each) => each.toJS() as ClusterRole);
}

export async function admitAuthors({ kubectl }: Pick<Cluster, "kubectl">): Promise<void> {
  const roles = rolesOfAuthors().map((role) => ({
    ...role,
    rules: role.rules.map(({ resourceNames: _, ...rule }) => rule),
  }));
  const bindings = ["edit", ...roles.map(({ metadata }) => metadata.name)].map((name) => ({
    apiVersion: "rbac.authorization.k8s.io/v1",
    kind: "ClusterRoleBinding",
    metadata: { name: `${AUTHORS}-${name}` },
    roleRef: { apiGroup: "rbac.authorization.k8s.io", kind: "ClusterRole", name },
    subjects: [{ apiGroup: "rbac.authorization.k8s.io", kind: "Group", name: AUTHORS }],
  }));
  const input = JSON.stringify({ apiVersion: "v1", kind: "List", items: [...roles, ...bindings] });
  const { code, stderr } = await kubectl(["apply", "--server-side", "-f", "-"], { input });
  if (code !== 0) throw new Error(`rights of authors: ${stderr.trim()}`);
}
