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
export async function startRedis({ dir, pki, ports, spawn }: RedisOptions): Promise<RedisServer> {
  const wanted = testPackages["redis-server"];
  const found = findPackage(wanted);
  if (found === undefined) throw new Error(`install the Debian package ${wanted.name}`);
  mkdirSync(dir, { recursive: true, mode: 0o700 });
  const passwordFile = path.join(dir, "password");
  if (!existsSync(passwordFile)) writeFileSync(passwordFile, randomBytes(24).toString("hex"), { mode: 0o600 });
  const { certFile, keyFile } = await pki.issue("redis", { commonName: "redis", usage: "server" });
  const port = await ports.get("redis");
  const configFile = path.join(dir, "redis.conf");
  const settings = [
    "bind 127.0.0.1",
    "port 0",
    `tls-port ${port}`,
    `tls-cert-file ${certFile}`,
    `tls-key-file ${keyFile}`,
    "tls-auth-clients no",
    `tls-ca-cert-file ${pki.caFile}`,
    `requirepass ${readFileSync(passwordFile, "utf8")}`,
    'save ""',
    "appendonly no",
    "daemonize no",
    `dir ${dir}`,
  ];
  writeFileSync(configFile, settings.join("\n"), { mode: 0o600 });
  const process = await spawn({
    name: "redis",
    command: path.join(found.root, wanted.program),
    args: [configFile],
    env: libraryPath(found.root, found.libraries),
    isReady: () => acceptsTls(port, pki.caFile),
  });
  return { process, url: `rediss://127.0.0.1:${port}`, caFile: pki.caFile, passwordFile };
}
