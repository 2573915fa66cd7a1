import type { Socket } from "node:net";

/** An IPv4 address that stands in one of IPv6 (RFC 4291 2.5.5.2), as it comes where both are listened on: people and rules know it without. */
export const plainAddress = (address: string): string => /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address)?.[1] ?? address;

/** Of the client at the other end; empty when it is gone. */
export const clientAddress = ({ remoteAddress = "" }: Pick<Socket, "remoteAddress">): string =>
  plainAddress(remoteAddress);
