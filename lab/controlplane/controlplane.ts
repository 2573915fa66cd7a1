import { mkdirSync, readFileSync } from "node:fs";
import path from "node:path";
import { type HttpsIdentity, httpsRequest } from "../https.ts";
import type { LabPki } from "../pki.ts";
import { until } from "../poll.ts";
import type { Ports } from "../ports.ts";
import type { Supervisor } from "../processes.ts";
import type { SupervisedProcess } from "../supervised.ts";
import { writeKubeconfig } from "./kubeconfig.ts";
import { type KubectlResult, runKubectl } from "./kubectl.ts";
import { apiServer, type ControlPlaneFiles, controllerManager, etcd } from "./servers.ts";
import { type FreshToken, keepTokenFresh, type Token } from "./tokens.ts";
import type { Component } from "./versions.ts";

export interface ControlPlaneOptions {
  /** For etcd's data and the kubeconfigs. */
  readonly dir: string;
  readonly supervisor: Supervisor;
  readonly ports: Ports;
  readonly pki: LabPki;
  /** Paths of the programs. */
  readonly binaries: Readonly<Record<Component, string>>;
  /** false lets etcd skip fsync and all three use more memory: faster, and data may be lost when etcd is killed. */
  readonly durable: boolean;
  /** Added to the arguments of kube-apiserver. */
  readonly apiServerArgs?: readonly string[];
  /** Receives what an observer should know, one line each. */
  readonly report: (line: string) => void;
}

/** A running Kubernetes control plane: etcd, kube-apiserver, kube-controller-manager. It has no nodes. */
export interface ControlPlane {
  /** Of the API server. */
  readonly url: string;
  readonly caFile: string;
  /** Of a user in system:masters. */
  readonly kubeconfigPath: string;
  readonly kubectlPath: string;
  /** `iss` of the service account tokens; OIDC discovery answers there. */
  readonly serviceAccountIssuer: string;
  /** PEM, verifies the service account tokens (RS256). */
  readonly serviceAccountPublicKeyFile: string;
  readonly etcd: SupervisedProcess;
  readonly apiServer: SupervisedProcess;
  readonly controllerManager: SupervisedProcess;
  /** Runs kubectl, as admin unless another kubeconfig is given. A failing command is a result, not an exception. */
  kubectl(args: readonly string[], options?: { input?: string; kubeconfig?: string }): Promise<KubectlResult>;
  /**
   * Writes a kubeconfig whose user is a service account that must exist; its token is kept fresh while the lab runs.
   * @returns its path
   */
  serviceAccountKubeconfig(account: { namespace: string; name: string; dir: string }): Promise<string>;
  /** Stops keeping tokens fresh; the supervisor stops the processes. */
  stop(): void;
}

const tokenSeconds = 3_600;

/** Starts the three servers, or resumes them on the data of their last run. */
export async function startControlPlane(options: ControlPlaneOptions): Promise<ControlPlane> {
  const { dir, supervisor, ports, pki, binaries, durable } = options;
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const etcdPort = await ports.get("etcd");
  const port = await ports.get("kube-apiserver");
  const controllerManagerPort = await ports.get("kube-controller-manager");
  const url = `https://127.0.0.1:${port}`;
  const files = await issueFiles(pki);
  const cluster = { url, caFile: pki.caFile };

  const kubeconfigPath = path.join(dir, "admin.kubeconfig");
  writeKubeconfig(kubeconfigPath, cluster, { name: "admin", credentials: files.admin });
  const managerKubeconfig = path.join(dir, "controller-manager.kubeconfig");
  const manager = { name: "controller-manager", credentials: files.controllerManager };
  writeKubeconfig(managerKubeconfig, cluster, manager);

  const store = await supervisor.run(
    etcd({
      command: binaries.etcd,
      dataDir: path.join(dir, "etcd"),
      port: etcdPort,
      durable,
      files,
    }),
  );
  const server = await supervisor.run(
    apiServer({
      command: binaries["kube-apiserver"],
      port,
      etcdPort,
      durable,
      files,
      extraArgs: options.apiServerArgs ?? [],
    }),
  );
  const controllers = await supervisor.run(
    controllerManager({
      command: binaries["kube-controller-manager"],
      port: controllerManagerPort,
      kubeconfig: managerKubeconfig,
      durable,
      files,
    }),
  );
  const admin = {
    ca: readFileSync(pki.caFile, "utf8"),
    cert: readFileSync(files.admin.certFile, "utf8"),
    key: readFileSync(files.admin.keyFile, "utf8"),
  };
  await defaultServiceAccountExists(url, admin);

  const tokens: FreshToken[] = [];
  return {
    url,
    caFile: pki.caFile,
    kubeconfigPath,
    kubectlPath: binaries.kubectl,
    serviceAccountIssuer: url,
    serviceAccountPublicKeyFile: files.serviceAccountPublicKey,
    etcd: store,
    apiServer: server,
    controllerManager: controllers,
    kubectl: (args, call = {}) => runKubectl(binaries.kubectl, args, { kubeconfig: kubeconfigPath, ...call }),
    async serviceAccountKubeconfig(account) {
      mkdirSync(account.dir, { recursive: true, mode: 0o700 });
      const stem = path.join(account.dir, `${account.namespace}-${account.name}`);
      const token = await keepTokenFresh(`${stem}.token`, () => requestToken(url, admin, account), options.report);
      tokens.push(token);
      const { name, namespace } = account;
      writeKubeconfig(`${stem}.kubeconfig`, cluster, { name, namespace, credentials: token });
      return `${stem}.kubeconfig`;
    },
    stop() {
      for (const token of tokens) token.stop();
    },
  };
}

async function issueFiles(pki: LabPki): Promise<ControlPlaneFiles> {
  const signing = pki.signingKeys("service-account");
  const serviceName = "kubernetes.default.svc";
  return {
    ca: { certFile: pki.caFile, keyFile: pki.caKeyFile },
    etcd: await pki.issue("etcd", { commonName: "etcd", usage: "both" }),
    apiServer: await pki.issue("kube-apiserver", {
      commonName: "kube-apiserver",
      usage: "server",
      dnsNames: ["kubernetes", "kubernetes.default", serviceName, `${serviceName}.cluster.local`],
    }),
    controllerManager: await pki.issue("kube-controller-manager", {
      commonName: "system:kube-controller-manager",
      usage: "both",
    }),
    admin: await pki.issue("admin", {
      commonName: "admin",
      organizations: ["system:masters"],
      usage: "client",
    }),
    serviceAccountKey: signing.privateKeyFile,
    serviceAccountPublicKey: signing.publicKeyFile,
  };
}

/** On a new cluster a Pod is refused until its namespace has this account, so a caller should not meet that moment. */
async function defaultServiceAccountExists(url: string, admin: HttpsIdentity): Promise<void> {
  const account = `${url}/api/v1/namespaces/default/serviceaccounts/default`;
  await until("service account default/default", async () => (await httpsRequest(account, admin)).status === 200, {
    timeoutMs: 30_000,
  });
}

async function requestToken(
  url: string,
  admin: HttpsIdentity,
  account: { namespace: string; name: string },
): Promise<Token> {
  const { status, body } = await httpsRequest(
    `${url}/api/v1/namespaces/${account.namespace}/serviceaccounts/${account.name}/token`,
    admin,
    {
      method: "POST",
      body: {
        apiVersion: "authentication.k8s.io/v1",
        kind: "TokenRequest",
        spec: { expirationSeconds: tokenSeconds },
      },
    },
  );
  if (status !== 201) throw new Error(`TokenRequest for ${account.namespace}/${account.name}: ${status} ${body}`);
  const answer: { status: { token: string; expirationTimestamp: string } } = JSON.parse(body);
  return { token: answer.status.token, expiresAt: new Date(answer.status.expirationTimestamp) };
}
