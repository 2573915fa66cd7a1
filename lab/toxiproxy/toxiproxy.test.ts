import { mkdtempSync, rmSync } from "node:fs";
import { type AddressInfo, connect, createServer, type Server, type Socket } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { until } from "../poll.ts";
import { Ports } from "../ports.ts";
import { Supervisor } from "../processes.ts";
import { startToxiproxy, type ToxicProxy, type Toxiproxy } from "./toxiproxy.ts";

let dir: string;
let supervisor: Supervisor;
let server: Server;
let toxiproxy: Toxiproxy;
let proxy: ToxicProxy;
let heardThere = "";
const open: Socket[] = [];
const BOUND = { timeoutMs: 20_000 };

beforeAll(async () => {
  dir = mkdtempSync(path.join(tmpdir(), "lab-toxiproxy-"));
  supervisor = await Supervisor.open(dir);
  // Says back what it hears.
  server = createServer((socket) => {
    socket
      .on("error", () => {})
      .on("data", (bytes) => {
        heardThere += bytes.toString();
      });
    socket.pipe(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const lab = {
    ports: new Ports(path.join(dir, "ports.json")),
    spawn: supervisor.run.bind(supervisor),
  };
  toxiproxy = await startToxiproxy(lab);
  proxy = await toxiproxy.proxy("echo", (server.address() as AddressInfo).port);
});

afterEach(async () => {
  for (const socket of open.splice(0)) socket.destroy();
  await proxy.enable(true);
  await proxy.clear();
});

afterAll(async () => {
  await supervisor.stop();
  server.close();
  rmSync(dir, { recursive: true });
});

class Line {
  readonly #socket: Socket;
  heard = "";
  /** `closed`, or the code of an error. */
  ended: string | undefined;

  constructor() {
    this.#socket = connect(proxy.port, "127.0.0.1");
    open.push(this.#socket);
    this.#socket.setEncoding("utf8").on("data", (text) => {
      this.heard += text;
    });
    this.#socket.on("error", (error: NodeJS.ErrnoException) => {
      this.ended = error.code ?? error.message;
    });
    this.#socket.once("close", () => {
      this.ended ??= "closed";
    });
  }

  say(text: string): void {
    this.#socket.write(text);
  }

  async hears(text: string): Promise<void> {
    await until(`hears ${text}`, () => this.heard === text, BOUND);
  }

  async ends(): Promise<string> {
    return String(await until("ends", () => this.ended, BOUND));
  }
}

async function said(text: string): Promise<Line> {
  const line = new Line();
  line.say(text);
  await line.hears(text);
  return line;
}

test("what is said arrives while nothing is wrong, and each connection is counted", async () => {
  const before = proxy.accepted();
  await said("one");
  await said("two");
  await until("both are counted", () => proxy.accepted() === before + 2, BOUND);
});

test("latency delays", async () => {
  const line = await said("a");
  await proxy.add({ type: "latency", attributes: { latency: 500 } }, "downstream");
  const began = performance.now();
  line.say("b");
  await line.hears("ab");
  expect(performance.now() - began).toBeGreaterThanOrEqual(490);
});

test("bandwidth is bounded, and all arrives", async () => {
  const line = await said("a");
  await proxy.add({ type: "bandwidth", attributes: { rate: 20 } }, "upstream");
  const text = "x".repeat(10_000);
  const began = performance.now();
  line.say(text);
  await line.hears(`a${text}`);
  expect(performance.now() - began).toBeGreaterThanOrEqual(300);
});

test("a half-open connection says nothing and does not end before the toxic goes", async () => {
  const line = await said("a");
  await proxy.add({ type: "timeout", attributes: { timeout: 0 } }, "downstream");
  line.say("b");
  await until("it was heard over there", () => heardThere.endsWith("b"), BOUND);
  expect([line.heard, line.ended]).toEqual(["a", undefined]);
  await proxy.clear();
  expect(await line.ends()).toBe("closed");
  expect(line.heard).toBe("a");
});

test("a reset is one", async () => {
  await proxy.add({ type: "reset_peer", attributes: { timeout: 0 } }, "upstream");
  const line = new Line();
  line.say("a");
  expect(await line.ends()).toBe("ECONNRESET");
  expect(line.heard).toBe("");
});

test("other ends are resets too where that is wanted", async () => {
  await proxy.endByReset();
  await proxy.add({ type: "limit_data", attributes: { bytes: 3 } }, "downstream");
  const line = new Line();
  line.say("abcdef");
  expect(await line.ends()).toBe("ECONNRESET");
});

test("a connection ends after so many bytes", async () => {
  await proxy.add({ type: "limit_data", attributes: { bytes: 3 } }, "downstream");
  const line = new Line();
  line.say("abcdef");
  await line.ends();
  expect(line.heard).toBe("abc");
});

test("nobody listens while it is off", async () => {
  const before = await said("a");
  await proxy.enable(false);
  await before.ends();
  expect(await new Line().ends()).toBe("ECONNREFUSED");
  await proxy.enable(true);
  await said("b");
});

test("its death ends all connections, and it is back with what it was asked for", async () => {
  const line = await said("a");
  await toxiproxy.process.kill();
  await proxy.add({ type: "latency", attributes: { latency: 500 } }, "downstream");
  expect(await line.ends()).toMatch(/^(closed|ECONNRESET)$/);
  const began = performance.now();
  await said("b");
  expect(performance.now() - began).toBeGreaterThanOrEqual(490);
  expect(toxiproxy.process.restarts).toBe(1);
});
