/**
 * Where the API server is and who we are, as client-node's KubeConfig resolves it (kubeconfig file, in-cluster files,
 * exec plug-ins). KubeConfig builds everything anew for each request; here it is kept and renewed when a file behind
 * it changes, when a minute has passed (exec plug-ins answer from their own cache), or when the API server said 401.
 */
import { readFileSync, statSync } from "node:fs";
import type { RequestOptions } from "node:https";
import type { KubeConfig } from "@kubernetes/client-node";

/** What is used of client-node's KubeConfig. */
export type ConfigSource = Pick<KubeConfig, "getCurrentCluster" | "getCurrentUser" | "applyToHTTPSOptions">;

export interface TlsMaterial {
  readonly ca?: string | Buffer;
  readonly cert?: string | Buffer;
  readonly key?: string | Buffer;
  readonly passphrase?: string;
  readonly servername?: string;
  readonly rejectUnauthorized?: boolean;
}

export interface Credentials {
  /** Origin and path prefix, for example `https://10.0.0.1:6443`. */
  readonly server: URL;
  readonly proxy: string | undefined;
  readonly tls: TlsMaterial;
  /** Headers of every request, `authorization` among them. */
  readonly headers: Readonly<Record<string, string>>;
  /** Changes when connections must be made anew; headers alone do not need that. */
  readonly connectionVersion: number;
}

const CHECK_FILES_MS = 1_000;
const RENEW_MS = 60_000;

/** Identity of a file's content without reading it; kubelet swaps token files by symbolic link. */
const stamp = (file: string): string => {
  try {
    const { ino, mtimeMs, size } = statSync(file);
    return `${ino}:${mtimeMs}:${size}`;
  } catch {
    return "absent";
  }
};

const sameMaterial = (a: TlsMaterial, b: TlsMaterial): boolean => JSON.stringify(a) === JSON.stringify(b);

export class CredentialSource {
  readonly #config: ConfigSource;
  #current: Credentials | undefined;
  #renewing: Promise<Credentials> | undefined;
  #checkedAt = 0;
  #renewedAt = 0;
  #stamps = "";

  constructor(config: ConfigSource) {
    this.#config = config;
  }

  /** The credentials to use now; synchronous while nothing has changed. */
  current(): Credentials | Promise<Credentials> {
    const now = performance.now();
    if (this.#current !== undefined && now - this.#checkedAt < CHECK_FILES_MS) return this.#current;
    this.#checkedAt = now;
    if (this.#current !== undefined && now - this.#renewedAt < RENEW_MS && this.#stampFiles() === this.#stamps) {
      return this.#current;
    }
    return this.renew();
  }

  /** Reads everything again, at once: for example after 401. */
  renew(): Promise<Credentials> {
    this.#renewing ??= this.#load().finally(() => {
      this.#renewing = undefined;
    });
    return this.#renewing;
  }

  async #load(): Promise<Credentials> {
    const cluster = this.#config.getCurrentCluster();
    if (cluster === null) throw new TypeError("the kubeconfig has no current cluster");
    const stamps = this.#stampFiles();
    const options: RequestOptions & { rejectUnauthorized?: boolean; servername?: string; passphrase?: string } = {};
    await this.#config.applyToHTTPSOptions(options);
    const headers: Record<string, string> = {};
    for (const [name, value] of Object.entries(options.headers ?? {})) {
      headers[name.toLowerCase()] = String(value).trim();
    }
    if (typeof options.auth === "string") {
      headers.authorization = `Basic ${Buffer.from(options.auth).toString("base64")}`;
    }
    // client-node re-reads the token file once a minute only, and keeps its line break.
    const tokenFile = this.#tokenFile();
    if (tokenFile !== undefined) headers.authorization = `Bearer ${readFileSync(tokenFile, "utf8").trim()}`;

    const tls: TlsMaterial = Object.fromEntries(
      (["ca", "cert", "key", "passphrase", "servername", "rejectUnauthorized"] as const)
        .map((name) => [name, options[name]])
        .filter(([, value]) => value !== undefined && value !== null),
    );
    const before = this.#current;
    const connectionVersion =
      before === undefined
        ? 1
        : sameMaterial(before.tls, tls)
          ? before.connectionVersion
          : before.connectionVersion + 1;
    this.#current = { server: new URL(cluster.server), proxy: cluster.proxyUrl, tls, headers, connectionVersion };
    this.#stamps = stamps;
    this.#renewedAt = performance.now();
    this.#checkedAt = this.#renewedAt;
    return this.#current;
  }

  #tokenFile(): string | undefined {
    const file: unknown = this.#config.getCurrentUser()?.authProvider?.config?.tokenFile;
    return typeof file === "string" ? file : undefined;
  }

  #stampFiles(): string {
    const user = this.#config.getCurrentUser();
    return [this.#config.getCurrentCluster()?.caFile, user?.certFile, user?.keyFile, this.#tokenFile()]
      .map((file) => (typeof file === "string" && file !== "" ? stamp(file) : "-"))
      .join(" ");
  }
}
