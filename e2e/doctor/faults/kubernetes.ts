/** The API server: definitions, rights, Pods. */
import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { OPERATOR_ACCOUNT, SYSTEM_NAMESPACE } from "../../../crds/installation.ts";
import type { Fault, Given } from "../fault.ts";
import { type Installation, TEAM } from "../installation.ts";

const ELSEWHERE =
  /namespace that it runs in, which seems to be mazevault-system: --operator-namespace NAMESPACE or MAZEVAULT_OPERATOR_NAMESPACE$/;

export const inKubernetes = (on: Installation): void =>
  describe("in Kubernetes", () => {
    const patch = (resource: string, name: string, change: object, ...args: string[]): Promise<string> =>
      on.world.kubectl("patch", resource, name, "--type=json", "-p", JSON.stringify(change), ...args);
    /** As this version installs them. */
    const reinstall = (name: string): Promise<string> =>
      on.world.kubectl(
        "apply",
        "--server-side",
        "--force-conflicts",
        "--field-manager=mazevault-install",
        "-f",
        path.join(import.meta.dirname, "../../../crds/generated", name),
      );
    const fewerRules = (name: string) => patch("clusterrole", name, [{ op: "remove", path: "/rules/0" }]);
    const brokenPod = (namespace: string, given: () => Given): Fault => ({
      fault: `a Pod in ${namespace} ends again and again, since its root key is missing`,
      plant: async () => {
        const account = namespace === SYSTEM_NAMESPACE ? OPERATOR_ACCOUNT : "default";
        await on.world.apply({
          apiVersion: "v1",
          kind: "Pod",
          metadata: { name: "operator", namespace },
          spec: {
            serviceAccountName: account,
            containers: [{ name: "operator", image: "example/mazevault:1", ...restricted }],
          },
        });
        const message = `${await rootKeyMissing(on)}\n`;
        const lastState = { terminated: { exitCode: 1, reason: "Error", message } };
        const state = { waiting: { reason: "CrashLoopBackOff", message: "back-off 5m0s restarting" } };
        const containerStatuses = [
          { name: "operator", ready: false, restartCount: 7, image: "", imageID: "", state, lastState },
        ];
        const status = [{ op: "replace", path: "/status", value: { phase: "Running", containerStatuses } }];
        await patch("pod", "operator", status, "-n", namespace, "--subresource=status");
      },
      heal: () => on.world.kubectl("-n", namespace, "delete", "pod", "operator", "--grace-period=0", "--force"),
      given,
      check: "pods",
      subject: `Pod ${namespace}/operator`,
      problem: /CrashLoopBackOff, ended with 1: .*root key file .*: it does not exist/,
      fix: new RegExp(`kubectl -n ${namespace} logs operator -c operator --previous`),
    });

    test.each<Fault>([
      {
        fault: "the operator lost rights in the whole cluster",
        plant: () =>
          patch("clusterrole", "mazevault-operator", [{ op: "replace", path: "/rules/3/verbs", value: ["update"] }]),
        heal: () => reinstall("rbac.yaml"),
        check: "kubernetes.rights",
        problem: /^mazevault-operator lacks rights in the whole cluster: patch projects\.mazevault\.io\/status/,
        fix: /kubectl apply .*rbac\.yaml/,
      },
      {
        fault: "the same, told by the cluster alone",
        plant: () =>
          patch("clusterrole", "mazevault-operator", [{ op: "replace", path: "/rules/3/verbs", value: ["update"] }]),
        heal: () => reinstall("rbac.yaml"),
        given: () => on.onlyCluster(),
        check: "kubernetes.rights",
        problem: /^mazevault-operator lacks rights in the whole cluster: patch projects\.mazevault\.io\/status/,
        fix: /kubectl apply .*rbac\.yaml/,
      },
      {
        fault: "REST lost rights in the whole cluster",
        plant: () => fewerRules("mazevault-rest"),
        heal: () => reinstall("rbac.yaml"),
        check: "kubernetes.rights",
        problem: /^mazevault-rest lacks rights in the whole cluster: get, list, watch projects\.mazevault\.io/,
        fix: /kubectl apply .*rbac\.yaml/,
      },
      {
        fault: "the operator lost rights in a namespace",
        plant: () => fewerRules("mazevault-namespace"),
        heal: () => reinstall("rbac.yaml"),
        check: "kubernetes.rights",
        problem: /^mazevault-operator lacks rights in namespace shop: get, list, watch, create, patch, delete secrets/,
        fix: /rbac\.yaml/,
      },
      {
        fault: "a definition is older than the program",
        plant: () =>
          patch("crd", "auditsinks.mazevault.io", [
            {
              op: "remove",
              path: "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/otlp/properties/caBundle",
            },
          ]),
        heal: () => reinstall("mazevault.io_auditsinks.yaml"),
        check: "kubernetes.definitions",
        subject: "CustomResourceDefinition auditsinks.mazevault.io",
        problem: /older than the program: it lacks spec\.otlp\.caBundle/,
        fix: /kubectl apply .*mazevault\.io_auditsinks\.yaml/,
      },
      {
        fault: "a definition is missing",
        plant: () => on.world.kubectl("delete", "crd", "auditsinks.mazevault.io"),
        heal: async () => {
          await reinstall("mazevault.io_auditsinks.yaml");
          await on.world.kubectl("wait", "--for=condition=Established", "crd/auditsinks.mazevault.io");
        },
        given: () => on.onlyCluster(),
        check: "kubernetes.definitions",
        subject: "CustomResourceDefinition auditsinks.mazevault.io",
        problem: /its definition is missing/,
        fix: /kubectl apply .*mazevault\.io_auditsinks\.yaml/,
      },
      {
        fault: "the kubeconfig leads nowhere",
        given: () => {
          const kubeconfig = readFileSync(String(on.env.KUBECONFIG), "utf8");
          writeFileSync(
            on.file("nowhere"),
            kubeconfig.replaceAll(on.world.lab.controlPlane.url, "https://127.0.0.1:1"),
          );
          return on.onlyCluster(on.file("nowhere"));
        },
        check: "kubernetes",
        problem: /refused/,
        fix: /kubectl config get-contexts/,
      },
      {
        fault: "the operator runs in another namespace than is looked at",
        given: () => on.onlyCluster("--operator-namespace", "default"),
        check: "leadership",
        problem: /there is no Lease mazevault-operator in namespace default/,
        fix: ELSEWHERE,
      },
      {
        fault: "the same, said by the environment and told of its account",
        given: () => {
          const { env, ...rest } = on.onlyCluster();
          return { ...rest, env: { ...env, MAZEVAULT_OPERATOR_NAMESPACE: "default" } };
        },
        check: "kubernetes.rights",
        problem: /there is no ServiceAccount mazevault-operator in namespace default/,
        fix: ELSEWHERE,
      },
      brokenPod(SYSTEM_NAMESPACE, () => on.onlyCluster()),
      // Namespaces of other installations are looked at when they are named.
      brokenPod(TEAM, () => on.onlyCluster("--operator-namespace", TEAM)),
    ])("$fault", (fault) => on.plants(fault));
  });

/** What namespace mazevault-system demands of a container. */
const restricted = {
  securityContext: {
    allowPrivilegeEscalation: false,
    capabilities: { drop: ["ALL"] },
    runAsNonRoot: true,
    seccompProfile: { type: "RuntimeDefault" },
  },
};

/** What the program says that starts without it. */
async function rootKeyMissing(on: Installation): Promise<string> {
  const port = String(await on.world.lab.ports.get("keyless"));
  const args = [
    path.join(path.dirname(on.world.mazevault.cli), "operator.mjs"),
    "--config",
    on.operator.configFile,
    "--keys-file",
    on.file("no.key"),
    "--keys-create",
    "false",
  ];
  try {
    execFileSync(process.execPath, [...args, "--http-port", port], { stdio: "pipe", encoding: "utf8" });
  } catch (error) {
    return (
      String((error as { stdout?: string }).stdout)
        .trim()
        .split("\n")
        .at(-1) ?? ""
    );
  }
  throw new Error("it started");
}
