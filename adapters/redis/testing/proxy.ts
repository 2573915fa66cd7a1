import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";

/** Passes connections on to a port of this host, and can let them go dead as a network does: nothing passes, nothing closes. */
export class SilentProxy {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #pairs: (readonly [Socket, Socket])[] = [];

  private constructor(port: number) {
    this.#server = createServer({ allowHalfOpen: true }, (near) => {
      const far = connect({ port, host: "127.0.0.1", allowHalfOpen: true });
      this.#pairs.push([near, far]);
      for (const socket of [near, far]) {
        this.#sockets.add(socket);
        socket.on("error", () => {});
        socket.once("close", () => this.#sockets.delete(socket));
      }
      near.pipe(far).pipe(near);
    });
  }

  static async start(port: number): Promise<SilentProxy> {
    const proxy = new SilentProxy(port);
    await new Promise<void>((resolve) => {
      proxy.#server.listen(0, "127.0.0.1", resolve);
    });
    return proxy;
  }

  through(url: string): string {
    const changed = new URL(url);
    changed.port = String((this.#server.address() as AddressInfo).port);
    return changed.href;
  }

  /** Connections that are open; those that are made later work. */
  silence(): void {
    for (const [near, far] of this.#pairs.splice(0)) {
      near.unpipe(far).pause();
      far.unpipe(near).pause();
    }
  }

  async stop(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    await new Promise((resolve) => {
      this.#server.close(resolve);
    });
  }
}
