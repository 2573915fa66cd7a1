/** A Redis of its own for tests and the lab: loopback, TLS only, with a password. */
import { randomBytes } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import path from "node:path";
import { connect } from "node:tls";
import type { LabPki } from "../pki.ts";
import type { Ports } from "../ports.ts";
import { findPackage, libraryPath, testPackages } from "../setup/packages.ts";
import type { ProcessSpec, SupervisedProcess } from "../supervised.ts";

export interface RedisOptions {
  readonly dir: string;
  readonly pki: LabPki;
  readonly ports: Ports;
  readonly spawn: (spec: ProcessSpec) => Promise<SupervisedProcess>;
}

export interface RedisServer {
  readonly process: SupervisedProcess;
  readonly url: string;
  readonly caFile: string;
  readonly passwordFile: string;
}

export interface RedisRole {
  /** Distinguishes servers that run side by side; `redis` when absent. */
  readonly name?: string;
  readonly replicaOf?: RedisServer;
}

export interface Sentinel {
  readonly process: SupervisedProcess;
  /** `host:port`. */
  readonly address: string;
  readonly passwordFile: string;
  /** Its name for the primary. */
  readonly primary: string;
}

function acceptsTls(port: number, caFile: string): Promise<true> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: "127.0.0.1", port, ca: readFileSync(caFile) }, () => {
      socket.destroy();
      resolve(true);
    });
    socket.once("error", reject);
  });
}

/** Whether this machine has it. */
export const hasRedis = (): boolean => findPackage(testPackages["redis-server"]) !== undefined;

/** Nothing of it is written to disk, so a restart begins empty. */
export async function startRedis(
  options: RedisOptions,
  { name = "redis", replicaOf }: RedisRole = {},
): Promise<RedisServer> {
  const passwordFile = secretFile(options.dir, "password");
  const password = readFileSync(passwordFile, "utf8");
  const started = await startServer(options, name, [
    `requirepass ${password}`,
    // As which it may find itself after a failover.
    `masterauth ${password}`,
    ...(replicaOf === undefined ? [] : [`replicaof 127.0.0.1 ${new URL(replicaOf.url).port}`]),
    'save ""',
    "appendonly no",
  ]);
  return { ...started, passwordFile };
}

/** One Sentinel that decides alone, in half a second, that the primary is away. */
export async function startSentinel(options: RedisOptions, primary: RedisServer): Promise<Sentinel> {
  const passwordFile = secretFile(options.dir, "sentinel-password");
  const { process, url } = await startServer(
    options,
    "sentinel",
    [
      `requirepass ${readFileSync(passwordFile, "utf8")}`,
      `sentinel monitor ${PRIMARY} 127.0.0.1 ${new URL(primary.url).port} 1`,
      `sentinel auth-pass ${PRIMARY} ${readFileSync(primary.passwordFile, "utf8")}`,
      `sentinel down-after-milliseconds ${PRIMARY} 500`,
      `sentinel failover-timeout ${PRIMARY} 2000`,
    ],
    ["--sentinel"],
  );
  return { process, address: new URL(url).host, passwordFile, primary: PRIMARY };
}

const PRIMARY = "mymaster";

function secretFile(dir: string, name: string): string {
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const file = path.join(dir, name);
  if (!existsSync(file)) writeFileSync(file, randomBytes(24).toString("hex"), { mode: 0o600 });
  return file;
}

async function startServer(
  { dir, pki, ports, spawn }: RedisOptions,
  name: string,
  own: readonly string[],
  args: readonly string[] = [],
): Promise<Omit<RedisServer, "passwordFile">> {
  const wanted = testPackages["redis-server"];
  const found = findPackage(wanted);
  if (found === undefined) throw new Error(`install the Debian package ${wanted.name}`);
  const { certFile, keyFile } = await pki.issue("redis", { commonName: "redis", usage: "server" });
  const port = await ports.get(name);
  const configFile = path.join(dir, `${name}.conf`);
  const settings = [
    "bind 127.0.0.1",
    "port 0",
    `tls-port ${port}`,
    `tls-cert-file ${certFile}`,
    `tls-key-file ${keyFile}`,
    "tls-auth-clients no",
    `tls-ca-cert-file ${pki.caFile}`,
    "tls-replication yes",
    "daemonize no",
    `dir ${dir}`,
    ...own,
  ];
  writeFileSync(configFile, settings.join("\n"), { mode: 0o600 });
  const process = await spawn({
    name,
    command: path.join(found.root, wanted.program),
    args: [configFile, ...args],
    env: libraryPath(found.root, found.libraries),
    isReady: () => acceptsTls(port, pki.caFile),
  });
  return { process, url: `rediss://127.0.0.1:${port}`, caFile: pki.caFile };
}
