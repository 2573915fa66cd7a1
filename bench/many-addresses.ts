/** A relay whose connections come from as many addresses, as those of gateways in as many places do: the primary counts by address. */
import { connect, createServer, type Socket } from "node:net";

export interface ManyAddresses {
  readonly port: number;
  close(): void;
}

/** To a port of this machine. All of 127.0.0.0/8 is at hand on Linux. */
export async function manyAddresses(to: number): Promise<ManyAddresses> {
  const sockets = new Set<Socket>();
  let connections = 0;
  const server = createServer((near) => {
    connections += 1;
    const localAddress = `127.1.${connections >> 8}.${connections & 0xff}`;
    const far = connect({ host: "127.0.0.1", port: to, localAddress, noDelay: true });
    near.setNoDelay(true);
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      sockets.add(one);
      one.on("error", () => other.destroy());
      one.once("close", () => {
        sockets.delete(one);
        other.destroy();
      });
      one.pipe(other);
    }
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(0, "127.0.0.1", resolve);
  });
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("the relay has no port");
  return {
    port: address.port,
    close: () => {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}
