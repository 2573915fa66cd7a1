/** Where programs listen. */
import type { AddressInfo, Server } from "node:net";
import { z } from "zod";

/** @param what is there, for a person: the end of "Address of ..." */
export const listeningHost = (what: string) =>
  z.string().min(1).optional().describe(`Address of ${what}. None: all of the machine, IPv4 and IPv6.`);

export interface ListeningOptions {
  /** Without it on all addresses of the machine, in a cluster of IPv4, of IPv6 or of both. */
  readonly host?: string | undefined;
  readonly port: number;
  /** Connections that may wait to be taken. */
  readonly backlog?: number;
}

/** Resolves with the port that is listened on. */
export async function listen(server: Server, { host, port, backlog = 511 }: ListeningOptions): Promise<number> {
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    // Without a host Node takes `::`, which takes IPv4 as well, and 0.0.0.0 on a machine without IPv6.
    server.listen({ port, backlog, ...(host !== undefined && { host }) }, resolve);
  });
  return (server.address() as AddressInfo).port;
}
