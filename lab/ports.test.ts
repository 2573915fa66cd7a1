import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { Ports } from "./ports.ts";

let dir: string;
let file: string;

beforeEach(() => {
  dir = mkdtempSync(path.join(tmpdir(), "lab-ports-"));
  file = path.join(dir, "ports.json");
});
afterEach(() => rmSync(dir, { recursive: true }));

test("a port is kept by name, over restarts too", async () => {
  const ports = new Ports(file);
  const [etcd, postgres] = await Promise.all([ports.get("etcd"), ports.get("postgres")]);
  expect(etcd).not.toBe(postgres);
  expect(await new Ports(file).get("etcd")).toBe(etcd);
});

test("a kept port that another program has taken is named, with the fix", async () => {
  const port = await new Ports(file).get("etcd");
  const server = createServer().listen(port, "127.0.0.1");
  await once(server, "listening");
  await expect(new Ports(file).get("etcd")).rejects.toThrow(
    new RegExp(`port ${port}, kept for etcd, is in use .* npm start -- --reset`),
  );
  server.close();
  await once(server, "close");
});

test("a kept port whose last server is still going away is waited for", async () => {
  const port = await new Ports(file).get("etcd");
  const server = createServer().listen(port, "127.0.0.1");
  await once(server, "listening");
  const later = setTimeout(() => server.close(), 300);
  expect(await new Ports(file).get("etcd")).toBe(port);
  clearTimeout(later);
});

test("labs that are started side by side choose no port twice", async () => {
  const labs = [new Ports(file), new Ports(path.join(dir, "other.json"))];
  const chosen = await Promise.all(
    labs.flatMap((ports) => Array.from({ length: 200 }, (_, index) => ports.get(`part-${index}`))),
  );
  expect(new Set(chosen).size).toBe(400);
});
