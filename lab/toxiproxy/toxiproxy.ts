/** What goes wrong between two programs: toxiproxy in between, told by its HTTP API. */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { type IncomingMessage, request } from "node:http";
import { text } from "node:stream/consumers";
import { errorMessage } from "../errors.ts";
import { until } from "../poll.ts";
import type { Ports } from "../ports.ts";
import { findGoProgram, obtainGoProgram } from "../setup/go-program.ts";
import type { ProcessSpec, SupervisedProcess } from "../supervised.ts";
import { toxiproxy } from "./program.ts";

/** Whether this machine has it. */
export const hasToxiproxy = (): boolean => findGoProgram(toxiproxy) !== undefined;

/** One way of going wrong. Times in milliseconds. */
export type Toxic =
  | { readonly type: "latency"; readonly attributes: { readonly latency: number; readonly jitter?: number } }
  /** Kilobytes a second. */
  | { readonly type: "bandwidth"; readonly attributes: { readonly rate: number } }
  /** What comes is dropped, and after that time the connection is reset; one that was there before is ended in order. */
  | { readonly type: "reset_peer"; readonly attributes: { readonly timeout: number } }
  /** Nothing gets through and nobody is told: half-open. With 0 until the toxic is removed, which ends the connection. */
  | { readonly type: "timeout"; readonly attributes: { readonly timeout: number } }
  /** An end is passed on late. */
  | { readonly type: "slow_close"; readonly attributes: { readonly delay: number } }
  /** The connection ends after so many bytes. */
  | { readonly type: "limit_data"; readonly attributes: { readonly bytes: number } }
  /** Cuts what is sent into pieces, sizes in bytes, delay in microseconds. */
  | {
      readonly type: "slicer";
      readonly attributes: {
        readonly average_size: number;
        readonly size_variation: number;
        readonly delay: number;
      };
    };

/** From the client to the server, or back. */
export type Direction = "upstream" | "downstream";

export interface ToxicProxy {
  readonly port: number;
  add(toxic: Toxic, direction: Direction): Promise<void>;
  /** Connections that are opened from now on until `clear` end by a reset, whatever ends them. */
  endByReset(): Promise<void>;
  /** All toxics go. What was held back is passed on, except what `timeout` and `reset_peer` had dropped. */
  clear(): Promise<void>;
  /** False: nobody listens, and all connections end. */
  enable(enabled: boolean): Promise<void>;
  /** Connections that clients have opened so far. */
  accepted(): number;
}

export interface Toxiproxy {
  readonly process: SupervisedProcess;
  /** A port in front of one on this machine. */
  proxy(name: string, upstreamPort: number): Promise<ToxicProxy>;
}

export interface ToxiproxyLab {
  readonly ports: Ports;
  spawn(spec: ProcessSpec): Promise<SupervisedProcess>;
}

const HOST = "127.0.0.1";
/** That it has died. */
const NOTICED_WITHIN_MS = 2_000;

/**
 * It may die over a toxic that comes while a connection begins ("index out of range" in its AddToxic): every connection ends, it is
 * started again with its proxies and without toxics, and what was asked of it is asked again.
 */
export async function startToxiproxy(lab: ToxiproxyLab): Promise<Toxiproxy> {
  const command = await obtainGoProgram(toxiproxy);
  const apiPort = await lab.ports.get("toxiproxy");
  const api = apiOf(`http://${HOST}:${apiPort}`);
  const proxies: object[] = [];
  const process = await lab.spawn({
    name: "toxiproxy",
    command,
    args: ["-host", HOST, "-port", String(apiPort)],
    isReady: async () => {
      await api("POST", "/populate", proxies);
      return true;
    },
  });
  const lasting = async <T>(ask: () => Promise<T>): Promise<T> => {
    const { restarts } = process;
    try {
      return await ask();
    } catch (error) {
      const died = () => process.restarts > restarts || process.pid === undefined;
      if (!(await until("its death", died, { timeoutMs: NOTICED_WITHIN_MS }).catch(() => false))) throw error;
      await process.ready();
      return ask();
    }
  };
  return {
    process,
    async proxy(name, upstreamPort) {
      const port = await lab.ports.get(`toxiproxy-${name}`);
      proxies.push({ name, listen: `${HOST}:${port}`, upstream: `${HOST}:${upstreamPort}`, enabled: true });
      await api("POST", "/populate", proxies.slice(-1));
      const path = `/proxies/${name}`;
      const add = async (toxic: Toxic, stream: Direction, toxicity = 1): Promise<void> => {
        const body = { ...toxic, name: `${toxic.type}-${stream}-${toxicity}`, stream, toxicity };
        await lasting(() => api("POST", `${path}/toxics`, body));
      };
      return {
        port,
        add,
        // Of one that is there and does nothing, each connection is still made ready to be reset.
        endByReset: () => add({ type: "reset_peer", attributes: { timeout: 0 } }, "upstream", 0),
        clear: () =>
          lasting(async () => {
            for (const toxic of (await api("GET", `${path}/toxics`)) as readonly { readonly name: string }[])
              await api("DELETE", `${path}/toxics/${toxic.name}`);
          }),
        async enable(enabled) {
          await lasting(() => api("POST", path, { enabled }));
        },
        accepted: () => acceptedBy(process.logFile, name),
      };
    },
  };
}

/** On a connection for each: the program ends those that are idle, which a request may just be on its way over. */
const apiOf =
  (url: string) =>
  async (method: string, path: string, body?: unknown): Promise<unknown> => {
    try {
      const sent = request(`${url}${path}`, { method, agent: false, signal: AbortSignal.timeout(10_000) });
      sent.end(body === undefined ? undefined : JSON.stringify(body));
      const [answer] = (await once(sent, "response")) as [IncomingMessage];
      const told = await text(answer);
      const { statusCode: status = 0, headers } = answer;
      if (status >= 300) throw new Error(`${status} ${told}`);
      return headers["content-type"]?.includes("json") ? JSON.parse(told) : undefined;
    } catch (error) {
      throw new Error(`toxiproxy: ${method} ${path}: ${errorMessage(error)}`, { cause: error });
    }
  };

/** It says so of each, as JSON, and its API has no figure for it. */
function acceptedBy(logFile: string, proxy: string): number {
  const lines = readFileSync(logFile, "utf8").split("\n");
  return lines.filter((line) => line.includes('"Accepted client"') && line.includes(`"name":"${proxy}"`)).length;
}
