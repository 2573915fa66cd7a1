import { copyFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { LabPki } from "../lab/pki.ts";
import { until } from "../lab/poll.ts";
import { configSchema } from "../ocsp/config.ts";
import { readInvocation, settings } from "./settings.ts";
import { followTls, readTls } from "./tls.ts";

const dir = mkdtempSync(path.join(tmpdir(), "mazevault-ocsp-"));
afterAll(() => rmSync(dir, { recursive: true }));
const file = (name: string): string => path.join(dir, name);
const httpOf = (...args: string[]) => readInvocation(configSchema, args, {}).config.http;

test("without files there is no TLS", () => {
  expect(readTls("http", httpOf())).toBeUndefined();
});

test("each setting explains itself", () => {
  expect(settings(configSchema).filter(({ description }) => description === "")).toEqual([]);
});

describe("with files", () => {
  let pki: LabPki;
  beforeAll(async () => {
    pki = await LabPki.open(file("pki"));
  });

  const take = async (name: string): Promise<void> => {
    const { certFile, keyFile } = await pki.issue(name, { commonName: name, usage: "server" });
    copyFileSync(certFile, file("tls.crt"));
    copyFileSync(keyFile, file("tls.key"));
  };
  const http = () => httpOf("--http-cert-file", file("tls.crt"), "--http-key-file", file("tls.key"));

  test("what belongs together has to be there, and to be usable", async () => {
    await take("first");
    expect(readTls("http", http())).toMatchObject({ requestCert: false });
    expect(readTls("http", { ...http(), clientCaFile: pki.caFile })).toMatchObject({ requestCert: true });
    expect(() => readTls("http", httpOf("--http-cert-file", file("tls.crt")))).toThrow(/belong together/);
    expect(() => readTls("http", httpOf("--http-client-ca-file", pki.caFile))).toThrow(/belong together/);
    expect(() => readTls("http", { ...http(), keyFile: file("nowhere") })).toThrow(/ENOENT/);
    expect(() => readTls("http", { ...http(), keyFile: file("tls.crt") })).toThrow(/cannot be used/);
  });

  test("a renewed certificate is taken up; a broken one is not, until it is mended", async () => {
    await take("first");
    const used: unknown[] = [];
    const warnings: unknown[] = [];
    const log = { info: () => {}, warn: (fields: unknown) => warnings.push(fields) };
    const stop = followTls("http", http(), log, (taken) => used.push(taken.cert?.toString()), 5);
    try {
      writeFileSync(file("tls.crt"), "broken");
      await until("it is told", () => warnings.length > 0, { timeoutMs: 10_000, intervalMs: 5 });
      expect(used).toEqual([]);
      await take("second");
      await until("it is taken up", () => used.length > 0, { timeoutMs: 10_000, intervalMs: 5 });
      expect(used).toHaveLength(1);
    } finally {
      stop();
    }
  });
});
