import { X509Certificate } from "node:crypto";
import { CHANNEL_HOST } from "../../core/fleet/protocol.ts";
import { parseCsr } from "../../core/pki/csr.ts";
import { TestPki } from "../../core/pki/testing/installation.ts";
import type { AuthorityRecord } from "../../core/ports/pki-store.ts";
import { ReplicaCredentials } from "./replica-credentials.ts";

const DAY_MS = 86_400_000;

let pki: TestPki;
let fleet: AuthorityRecord;
let told: unknown[];
let pauses: number[];
/** Resolves at the next pause, with what ends it. */
let paused: PromiseWithResolvers<() => void>;
let names: readonly string[];
let issued: number;

const certify = async (csr: Buffer): Promise<readonly Buffer[]> => {
  issued += 1;
  const { spki } = parseCsr(csr);
  const record = await pki.issue(fleet, `replica-${issued}`, 1, {
    subjectAltNames: names.map((value) => ({ kind: "dns", value })),
    durationMs: 7 * DAY_MS,
    key: { spki },
  });
  const root = fleet.generations.at(-1)?.certificate;
  return record.certificate === undefined || root === undefined ? [] : [record.certificate, root];
};

const start = (ask = certify): ReplicaCredentials => {
  const log = { info: () => {}, warn: (fields: unknown) => void told.push(fields) };
  const sleep = (ms: number, signal: AbortSignal) =>
    new Promise<void>((resolve, reject) => {
      signal.addEventListener("abort", () => reject(signal.reason));
      pauses.push(ms);
      paused.resolve(resolve);
    });
  const credentials = new ReplicaCredentials({ certify: ask, log, clock: { now: () => pki.now.getTime(), sleep } });
  credentials.start();
  return credentials;
};
const proceed = async (): Promise<void> => {
  const end = await paused.promise;
  paused = Promise.withResolvers();
  end();
  await paused.promise;
};

beforeEach(async () => {
  pki = await TestPki.start();
  fleet = await pki.root("fleet");
  [told, pauses, paused, names, issued] = [[], [], Promise.withResolvers(), [CHANNEL_HOST], 0];
});

test("a key of its own is certified, and another one half-way through", async () => {
  const credentials = start();
  await paused.promise;
  const first = credentials.current;
  if (first === undefined) throw new Error("expected credentials");
  const leaf = new X509Certificate(first.certificates);
  expect(leaf.checkHost(CHANNEL_HOST)).toBe(CHANNEL_HOST);
  expect(first.certificates.endsWith(first.root)).toBe(true);
  pki.passes(3 * DAY_MS);
  await proceed();
  expect(credentials.current).toBe(first);
  pki.passes(DAY_MS);
  await proceed();
  const second = credentials.current;
  expect(second?.key).not.toBe(first.key);
  pki.passes(8 * DAY_MS);
  expect(credentials.current).toBeUndefined();
  await credentials.stop();
  expect(told).toEqual([]);
});

test("until the leader signs it asks again, with growing pauses", async () => {
  const asked = new Set<string>();
  const credentials = start((csr) => {
    asked.add(csr.toString("hex"));
    return Promise.reject(new Error("no leader"));
  });
  for (let n = 0; n < 8; n++) await proceed();
  expect(credentials.current).toBeUndefined();
  expect(pauses).toEqual([1, 2, 4, 8, 16, 32, 60, 60, 60].map((seconds) => seconds * 1_000));
  // Not of the first time, when an operator was just installed.
  expect(told).toHaveLength(8);
  // A leader that comes later finds one request, and not nine.
  expect(asked.size).toBe(1);
  await credentials.stop();
});

test("a certificate that gateways would refuse is not used", async () => {
  names = ["other.internal"];
  const credentials = start();
  await proceed();
  expect(credentials.current).toBeUndefined();
  expect(told).toEqual([{ error: expect.objectContaining({ name: "CertificateUnusable" }) }]);
  names = [CHANNEL_HOST];
  await proceed();
  expect(credentials.current).toBeDefined();
  await credentials.stop();
});

test("nor one for another key", async () => {
  let first: readonly Buffer[] | undefined;
  const credentials = start(async (csr) => {
    first ??= await certify(csr);
    return first;
  });
  await paused.promise;
  const held = credentials.current;
  expect(held).toBeDefined();
  pki.passes(4 * DAY_MS);
  await proceed();
  await proceed();
  expect(credentials.current).toEqual(held);
  expect(told).toHaveLength(1);
  await credentials.stop();
});
