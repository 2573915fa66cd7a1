import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createServer, type Server } from "node:https";
import type { AddressInfo, Socket } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { CHANNEL_HOST } from "../../../core/fleet/protocol.ts";
import { type CertificateFiles, type CertificateRequest, LabPki } from "../../../lab/pki.ts";
import type { ChannelServer } from "../server.ts";
import type { ChannelCredentials } from "../server-session.ts";

export interface Identity {
  readonly key: string;
  /** PEM: its own first, the root last. */
  readonly certificates: string;
}

/** A fleet's CA with a directory of its own; `dispose` removes it. */
export class TestFleet {
  readonly #pki: LabPki;
  readonly #dir: string;
  readonly root: string;

  private constructor(pki: LabPki, dir: string) {
    this.#pki = pki;
    this.#dir = dir;
    this.root = readFileSync(pki.caFile, "utf8");
  }

  static async make(): Promise<TestFleet> {
    const dir = mkdtempSync(path.join(tmpdir(), "mazevault-channel-"));
    return new TestFleet(await LabPki.open(dir), dir);
  }

  async identity(commonName: string, change: Partial<CertificateRequest> = {}): Promise<Identity> {
    const { certFile, keyFile } = await this.#issue(commonName, { usage: "client", ...change });
    return { key: readFileSync(keyFile, "utf8"), certificates: readFileSync(certFile, "utf8") + this.root };
  }

  async replica(commonName = "replica", change: Partial<CertificateRequest> = {}): Promise<ChannelCredentials> {
    const usage = { usage: "server", elsewhere: true, dnsNames: [CHANNEL_HOST] } as const;
    return { ...(await this.identity(commonName, { ...usage, ...change })), root: this.root };
  }

  /** For the outer TLS. */
  async outer(): Promise<{ readonly cert: string; readonly key: string }> {
    const { key, certificates } = await this.identity("outer", { usage: "server" });
    return { key, cert: certificates };
  }

  dispose(): void {
    rmSync(this.#dir, { recursive: true });
  }

  #issue(commonName: string, change: Omit<CertificateRequest, "commonName">): Promise<CertificateFiles> {
    // The file's name is what it is kept by.
    return this.#pki.issue(`${commonName}-${JSON.stringify(change).replaceAll(/\W+/g, "-")}`, {
      commonName,
      ...change,
    });
  }
}

/** A primary with nothing but the channel. */
export class TestPrimary {
  readonly channel: ChannelServer;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  constructor(outer: { readonly cert: string; readonly key: string }, channel: ChannelServer) {
    this.channel = channel;
    this.#server = createServer(outer, (_request, response) => response.writeHead(404).end());
    this.#server.on("upgrade", (request, socket, head) => this.channel.handleUpgrade(request, socket, head));
    this.#server.on("connection", (socket: Socket) => {
      this.#sockets.add(socket);
      socket.once("close", () => this.#sockets.delete(socket));
    });
  }

  /** Resolves with the URL. */
  async listen(): Promise<string> {
    await new Promise<void>((resolve) => this.#server.listen(0, "127.0.0.1", resolve));
    return `https://127.0.0.1:${this.port}`;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** As when its process is killed: nothing is said. */
  async kill(): Promise<void> {
    const gone = new Promise((resolve) => this.#server.close(resolve));
    for (const socket of this.#sockets) socket.destroy();
    await gone;
  }
}
