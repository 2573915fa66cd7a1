/**
 * What HTTP alone costs here: Node's own server in a process of its own, which reads a request and gives the same answer
 * every time. All that answers over HTTP is compared with it, in the same run.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { fileURLToPath } from "node:url";

export interface BareServer {
  readonly port: number;
  /** That it has had so far. */
  cpuSeconds(): Promise<number>;
  stop(): Promise<void>;
}

/** @param octets of each answer */
export async function startBareServer(octets: number): Promise<BareServer> {
  const child = fork(fileURLToPath(import.meta.url), [String(octets)]);
  const next = async () => (await once(child, "message"))[0] as number;
  const port = await next();
  return {
    port,
    cpuSeconds: async () => {
      const answer = next();
      child.send("cpu");
      return answer;
    },
    stop: async () => {
      const ended = once(child, "exit");
      child.disconnect();
      await ended;
    },
  };
}

function serve(octets: number): void {
  const body = Buffer.alloc(octets);
  const server = createServer((request, response) => {
    request.resume().on("end", () => {
      response.writeHead(200, ["Content-Type", "application/octet-stream", "Content-Length", String(octets)]).end(body);
    });
  });
  server.listen(0, "127.0.0.1", () => process.send?.((server.address() as AddressInfo).port));
  process.on("message", () => {
    const { user, system } = process.cpuUsage();
    process.send?.((user + system) / 1e6);
  });
  process.on("disconnect", () => process.exit(0));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) serve(Number(process.argv[2]));
