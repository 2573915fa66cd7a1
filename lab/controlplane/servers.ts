import { readFileSync } from "node:fs";
import path from "node:path";
import { httpsRequest } from "../https.ts";
import type { CertificateFiles } from "../pki.ts";
import type { ProcessSpec } from "../supervised.ts";

/** PEM files of the control plane, all issued by the lab's authority. */
export interface ControlPlaneFiles {
  readonly ca: CertificateFiles;
  readonly etcd: CertificateFiles;
  readonly apiServer: CertificateFiles;
  readonly controllerManager: CertificateFiles;
  readonly admin: CertificateFiles;
  readonly serviceAccountKey: string;
  readonly serviceAccountPublicKey: string;
}

/** Less of the time goes into collecting garbage, for twice the memory: right for tests, which start many of these. */
const HASTY = { GOGC: "300" };

/** For what no lab has: nodes, volumes, devices, load balancers, certificates of kubelets. Each would ask for tokens and watch, also when idle. */
const WITHOUT_WORK = [
  "certificatesigningrequest-approving",
  "certificatesigningrequest-cleaner",
  "certificatesigningrequest-signing",
  "device-taint-eviction",
  "ephemeral-volume",
  "horizontal-pod-autoscaler",
  "legacy-serviceaccount-token-cleaner",
  "node-ipam",
  "node-lifecycle",
  "node-route",
  "persistentvolume-attach-detach",
  "persistentvolume-binder",
  "persistentvolume-expander",
  "persistentvolume-protection",
  "persistentvolumeclaim-protection",
  "podcertificaterequest-cleaner",
  "podgroup-protection",
  "resourceclaim",
  "service-cidr",
  "service-lb",
  "storage-version-migrator",
  "storageversion-garbage-collector",
  "taint-eviction",
  "ttl",
  "volumeattributesclass-protection",
].map((name) => `-${name}-controller`);

/** etcd for one API server, over TLS with client certificates, as other users of the machine reach loopback too. */
export function etcd(options: {
  readonly command: string;
  readonly dataDir: string;
  readonly port: number;
  readonly durable: boolean;
  readonly files: ControlPlaneFiles;
}): ProcessSpec {
  const { command, dataDir, port, files } = options;
  const url = `https://127.0.0.1:${port}`;
  return {
    name: "etcd",
    command,
    args: [
      `--data-dir=${dataDir}`,
      `--listen-client-urls=${url}`,
      `--advertise-client-urls=${url}`,
      // A single member has no peers, so the port need not be known.
      "--listen-peer-urls=http://127.0.0.1:0",
      `--cert-file=${files.etcd.certFile}`,
      `--key-file=${files.etcd.keyFile}`,
      "--client-cert-auth",
      `--trusted-ca-file=${files.ca.certFile}`,
      "--log-level=warn",
      ...(options.durable ? [] : ["--unsafe-no-fsync"]),
    ],
    env: options.durable ? {} : HASTY,
    isReady: isHealthy(`${url}/health`, files.ca, files.etcd),
  };
}

/** kube-apiserver with RBAC. */
export function apiServer(options: {
  readonly command: string;
  readonly port: number;
  readonly etcdPort: number;
  readonly durable: boolean;
  readonly files: ControlPlaneFiles;
  readonly extraArgs: readonly string[];
}): ProcessSpec {
  const { command, port, files } = options;
  const url = `https://127.0.0.1:${port}`;
  return {
    name: "kube-apiserver",
    command,
    args: [
      "--bind-address=127.0.0.1",
      `--secure-port=${port}`,
      "--advertise-address=127.0.0.1",
      // The endpoints of the `kubernetes` Service must not be loopback addresses, and nobody would use them here.
      "--endpoint-reconciler-type=none",
      `--tls-cert-file=${files.apiServer.certFile}`,
      `--tls-private-key-file=${files.apiServer.keyFile}`,
      `--client-ca-file=${files.ca.certFile}`,
      `--etcd-servers=https://127.0.0.1:${options.etcdPort}`,
      `--etcd-cafile=${files.ca.certFile}`,
      `--etcd-certfile=${files.etcd.certFile}`,
      `--etcd-keyfile=${files.etcd.keyFile}`,
      "--authorization-mode=Node,RBAC",
      "--enable-admission-plugins=NodeRestriction",
      "--allow-privileged=true",
      `--service-account-issuer=${url}`,
      `--service-account-key-file=${files.serviceAccountPublicKey}`,
      `--service-account-signing-key-file=${files.serviceAccountKey}`,
      "--service-cluster-ip-range=10.96.0.0/16",
      "--profiling=false",
      ...options.extraArgs,
    ],
    env: options.durable ? {} : HASTY,
    isReady: isHealthy(`${url}/readyz`, files.ca, files.admin),
    // Open watches hold a graceful end back for up to a minute.
    stopTimeoutMs: 5_000,
  };
}

/** kube-controller-manager with all default controllers, of which those for nodes find none and idle; without them when not `durable`. */
export function controllerManager(options: {
  readonly command: string;
  readonly port: number;
  readonly kubeconfig: string;
  readonly durable: boolean;
  readonly files: ControlPlaneFiles;
}): ProcessSpec {
  const { command, port, files } = options;
  return {
    name: "kube-controller-manager",
    command,
    args: [
      "--bind-address=127.0.0.1",
      `--secure-port=${port}`,
      `--tls-cert-file=${files.controllerManager.certFile}`,
      `--tls-private-key-file=${files.controllerManager.keyFile}`,
      `--kubeconfig=${options.kubeconfig}`,
      `--authentication-kubeconfig=${options.kubeconfig}`,
      `--authorization-kubeconfig=${options.kubeconfig}`,
      "--use-service-account-credentials",
      `--service-account-private-key-file=${files.serviceAccountKey}`,
      `--root-ca-file=${files.ca.certFile}`,
      `--cluster-signing-cert-file=${files.ca.certFile}`,
      `--cluster-signing-key-file=${files.ca.keyFile}`,
      "--leader-elect=false",
      // The default of 20 requests a second makes garbage collection of a test's thousands of objects take minutes.
      "--kube-api-qps=200",
      "--kube-api-burst=400",
      "--profiling=false",
      ...(options.durable ? [] : [`--controllers=${["*", ...WITHOUT_WORK].join(",")}`]),
    ],
    env: options.durable ? {} : HASTY,
    isReady: isHealthy(`https://127.0.0.1:${port}/healthz`, files.ca, files.controllerManager),
    stopTimeoutMs: 5_000,
  };
}

function isHealthy(url: string, ca: CertificateFiles, client: CertificateFiles): () => Promise<boolean> {
  const identity = {
    ca: readFileSync(ca.certFile, "utf8"),
    cert: readFileSync(client.certFile, "utf8"),
    key: readFileSync(client.keyFile, "utf8"),
  };
  return async () => {
    const { status, body } = await httpsRequest(url, identity, { timeoutMs: 2_000 });
    if (status !== 200) throw new Error(`${path.basename(url)} answers ${status}: ${body.trim()}`);
    return true;
  };
}
