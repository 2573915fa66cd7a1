/**
 * Stopping and starting single parts of a lab that runs, from another shell: a socket in the lab's folder, which only its owner may use.
 * What is stopped here stays down until it is started here; what dies otherwise comes back by itself.
 */
import { chmodSync, rmSync } from "node:fs";
import { createConnection, createServer, type Socket } from "node:net";
import path from "node:path";
import { errorCode, errorMessage } from "./errors.ts";
import type { Part } from "./supervised.ts";

export const ACTIONS = ["stop", "start", "kill"] as const;
export type Action = (typeof ACTIONS)[number];

/** Parts by the names that a person calls them. */
export type Parts = Readonly<Record<string, Part>>;

interface Answer {
  readonly ok: boolean;
  readonly said: string;
}

/** The longest that Linux and macOS have in common, in bytes. */
const LONGEST_SOCKET_PATH = 103;

const socketOf = (dir: string): string => path.join(dir, "control.sock");

/** Listens until closed. @throws where the folder's path is too long for a socket */
export async function serveControl(dir: string, parts: Parts): Promise<{ close(): void }> {
  const file = socketOf(dir);
  if (Buffer.byteLength(file) > LONGEST_SOCKET_PATH)
    throw new Error(`${file} is too long for a socket; choose a shorter folder with --dir`);
  rmSync(file, { force: true });
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    serve(socket, parts).catch(() => socket.destroy());
  });
  await new Promise<void>((resolve, reject) => {
    server.once("error", reject);
    server.listen(file, resolve);
  });
  chmodSync(file, 0o600);
  return {
    close() {
      server.close();
      rmSync(file, { force: true });
    },
  };
}

async function serve(socket: Socket, parts: Parts): Promise<void> {
  const [action = "", name = ""] = (await textOf(socket)).split(" ");
  // Whoever does not wait for the answer misses it.
  socket.on("error", () => {});
  const answer = await act(parts, action, name).catch((error: unknown) => ({ ok: false, said: errorMessage(error) }));
  socket.end(JSON.stringify(answer));
}

async function act(parts: Parts, action: string, name: string): Promise<Answer> {
  if (action === "list") {
    const lines = Object.entries(parts).map(([each, part]) => `${each}: ${part.isReady ? "running" : "stopped"}`);
    return { ok: true, said: lines.join("\n") };
  }
  const part = parts[name];
  if (part === undefined) return { ok: false, said: `there is no ${name}; there are ${Object.keys(parts).join(", ")}` };
  switch (action) {
    case "stop":
      await part.stop();
      return { ok: true, said: `${name} is stopped` };
    case "start":
      await part.start();
      return { ok: true, said: `${name} is running` };
    case "kill":
      await part.kill();
      await part.ready();
      return { ok: true, said: `${name} was killed and is running again` };
    default:
      return { ok: false, said: `${action} is none of list, ${ACTIONS.join(", ")}` };
  }
}

/** Asks the lab in that folder. @throws with what it says when it does not do it */
export async function askControl(dir: string, action: string, name = ""): Promise<string> {
  const socket = createConnection({ path: socketOf(dir), allowHalfOpen: true });
  let text: string;
  try {
    socket.end(`${action} ${name}`);
    text = await textOf(socket);
  } catch (error) {
    if (errorCode(error) !== "ENOENT" && errorCode(error) !== "ECONNREFUSED") throw error;
    throw new Error(`no lab with gateways runs in ${dir}; start one with: npm start -- --with-gateway`);
  }
  const { ok, said } = JSON.parse(text) as Answer;
  if (!ok) throw new Error(said);
  return said;
}

/** All that comes until the other side has said it. */
function textOf(socket: Socket): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    socket.setEncoding("utf8");
    socket.on("data", (chunk: string) => {
      text += chunk;
    });
    socket.once("end", () => resolve(text));
    socket.once("error", reject);
    socket.once("close", () => reject(new Error("the connection ended before its answer")));
  });
}
