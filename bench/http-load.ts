/** Load on an HTTP server with as little work of its own as possible, since both share the machine. */
import { connect, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";

export interface HttpLoad {
  readonly port: number;
  /** Of the server's certificate, for TLS; plain when absent. */
  readonly ca?: Buffer;
  readonly connections: number;
  readonly milliseconds: number;
  /** The next request as it goes over the wire; asked for each. */
  readonly next: () => Buffer;
  /** Whether the body of an answer with status 200 is right; told for each. */
  readonly isRight: (body: Buffer) => boolean;
}

export interface HttpLoadResult {
  readonly perSecond: number;
  readonly p50Ms: number;
  readonly p99Ms: number;
  readonly wrong: number;
}

const END_OF_HEAD = Buffer.from("\r\n\r\n");
const LENGTH = Buffer.from("Content-Length: ");

/** One request after the other on each of several connections that are kept. Rejects when one breaks. */
export async function httpLoad(load: HttpLoad): Promise<HttpLoadResult> {
  const took: number[] = [];
  let wrong = 0;
  const began = performance.now();
  const ends = began + load.milliseconds;
  await Promise.all(
    Array.from({ length: load.connections }, () =>
      onConnection(load, ends, (ms, right) => {
        took.push(ms);
        if (!right) wrong += 1;
      }),
    ),
  );
  const perSecond = took.length / ((performance.now() - began) / 1_000);
  const sorted = Float64Array.from(took).sort();
  const at = (share: number) => sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? Number.NaN;
  return { perSecond, p50Ms: at(0.5), p99Ms: at(0.99), wrong };
}

function onConnection(
  { port, ca, next, isRight }: HttpLoad,
  ends: number,
  answered: (ms: number, right: boolean) => void,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const at = { port, host: "127.0.0.1", noDelay: true };
    const socket: Socket = ca === undefined ? connect(at) : connectTls({ ...at, ca });
    let sentAt = 0;
    let received: Buffer = Buffer.alloc(0);
    const send = () => {
      sentAt = performance.now();
      socket.write(next());
    };
    socket.once(ca === undefined ? "connect" : "secureConnect", send);
    socket.once("error", reject);
    socket.once("close", () => reject(new Error("the server ended the connection")));
    socket.on("data", (chunk: Buffer) => {
      received = received.length === 0 ? chunk : Buffer.concat([received, chunk]);
      const body = bodyOf(received);
      if (body === undefined) return;
      const now = performance.now();
      answered(now - sentAt, received.toString("latin1", 9, 12) === "200" && isRight(body));
      received = Buffer.alloc(0);
      if (now < ends) send();
      else {
        socket.removeAllListeners("close");
        socket.destroy();
        resolve();
      }
    });
  });
}

/** The body once it is complete; only answers with Content-Length are understood. */
function bodyOf(received: Buffer): Buffer | undefined {
  const head = received.indexOf(END_OF_HEAD);
  if (head < 0) return undefined;
  const at = received.indexOf(LENGTH);
  const length = Number.parseInt(received.toString("latin1", at + LENGTH.length, at + LENGTH.length + 10), 10);
  const begins = head + END_OF_HEAD.length;
  return received.length < begins + length ? undefined : received.subarray(begins, begins + length);
}
