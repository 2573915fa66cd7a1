import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Server } from "node:net";
import { configSchema as ocsp } from "../ocsp/config.ts";
import { configSchema as operator } from "../operator/config.ts";
import { listen } from "./listening.ts";

let server: Server;
beforeEach(() => {
  server = createServer((socket) => socket.end());
});
afterEach(() => new Promise((resolve) => server.close(resolve)));

async function reaches(host: string, port: number): Promise<boolean> {
  const socket = connect({ host, port });
  const [connected] = await Promise.race([
    once(socket, "connect").then(() => [true]),
    once(socket, "error").then(() => [false]),
  ]).catch(() => [false]);
  socket.destroy();
  return connected === true;
}

test("without a host, IPv4 and IPv6 lead here", async () => {
  const port = await listen(server, { port: 0 });
  expect([await reaches("127.0.0.1", port), await reaches("::1", port)]).toEqual([true, true]);
});

test("no program has one unless told: pods of an IPv6-only cluster are reached", () => {
  const { http, rest } = operator.parse({});
  const responder = ocsp.parse({});
  expect([http, rest, responder.http, responder.health].map(({ host }) => host)).toEqual(Array(4).fill(undefined));
});

test("with one, nothing else does", async () => {
  const port = await listen(server, { host: "127.0.0.1", port: 0 });
  expect([await reaches("127.0.0.1", port), await reaches("::1", port)]).toEqual([true, false]);
});

test("an address that is taken is an error", async () => {
  const port = await listen(server, { port: 0 });
  const other = createServer();
  await expect(listen(other, { port })).rejects.toMatchObject({ code: "EADDRINUSE" });
  expect((server.address() as AddressInfo).port).toBe(port);
});
