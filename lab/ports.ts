import { randomInt } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import path from "node:path";
import { until } from "./poll.ts";

// Below the range that Linux (32768), macOS and Windows (49152) hand out for outgoing connections: a port kept for
// weeks must not be taken by some client's connection while its server restarts.
const lowestPort = 20_000;
const highestPort = 32_000;
const attempts = 200;

/** A server that was just killed may hold its port for a moment longer. */
const freedWithinMs = 5_000;

const testWorkers = 8;

/** What is chosen is served only moments later; tests that run side by side must not choose the same port in between. */
function range(worker = process.env.JEST_WORKER_ID): readonly [lowest: number, highest: number] {
  if (worker === undefined) return [lowestPort, highestPort];
  const share = (highestPort - lowestPort) / testWorkers;
  const lowest = lowestPort + share * (Number(worker) % testWorkers);
  return [lowest, lowest + share];
}

/** Of all labs of this process: several are started side by side, and each serves what it has chosen only moments later. */
const chosen = new Set<number>();

/** Loopback ports by name, chosen free once and then kept in a file. */
export class Ports {
  readonly #file: string;
  readonly #ports: Record<string, number>;

  constructor(file: string) {
    this.#file = file;
    this.#ports = readPorts(file);
  }

  /**
   * The port of that name.
   * @throws when a kept port stays in use. Call it while the process that serves it is down.
   */
  async get(name: string): Promise<number> {
    const kept = this.#ports[name];
    if (kept !== undefined) {
      chosen.add(kept);
      try {
        await until(`port ${kept} free`, () => isFree(kept), { timeoutMs: freedWithinMs });
      } catch {
        throw new Error(
          `port ${kept}, kept for ${name}, is in use by another program: end that program, ` +
            "or choose new ports (and lose the lab's data) with: npm start -- --reset",
        );
      }
      return kept;
    }
    for (let attempt = 0; attempt < attempts; attempt++) {
      const port = randomInt(...range());
      if (chosen.has(port) || Object.values(this.#ports).includes(port)) continue;
      // Taken before it is tried: callers ask side by side.
      chosen.add(port);
      this.#ports[name] = port;
      if (await isFree(port)) {
        this.#write();
        return port;
      }
      chosen.delete(port);
      delete this.#ports[name];
    }
    throw new Error(`no free port found between ${range().join(" and ")} on 127.0.0.1`);
  }

  #write(): void {
    mkdirSync(path.dirname(this.#file), { recursive: true });
    writeFileSync(`${this.#file}.new`, JSON.stringify(this.#ports, undefined, 2));
    renameSync(`${this.#file}.new`, this.#file);
  }
}

function readPorts(file: string): Record<string, number> {
  try {
    return JSON.parse(readFileSync(file, "utf8"));
  } catch {
    return {};
  }
}

function isFree(port: number): Promise<boolean> {
  return new Promise((resolve) => {
    const server = createServer();
    server.once("error", () => resolve(false));
    server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
  });
}
