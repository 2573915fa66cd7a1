import { pino } from "pino";
import { Unavailable } from "../core/errors.ts";
import { CrlPublication } from "../core/pki/crl-publication.ts";
import { createCsr } from "../core/pki/csr.ts";
import { ExpiredCertificates } from "../core/pki/expired-certificates.ts";
import { generateKey } from "../core/pki/key.ts";
import { ResponderCertificates } from "../core/pki/responder-certificates.ts";
import { LocalSigner } from "../core/pki/signer.ts";
import { TestPki } from "../core/pki/testing/installation.ts";
import type { AuthorityRecord } from "../core/ports/pki-store.ts";
import { actor } from "../core/ports/samples.ts";
import { until } from "../lab/poll.ts";
import { PkiChores, type PkiChoresDependencies } from "./pki-chores.ts";

const soon = { timeoutMs: 5_000, intervalMs: 10 };
const NEVER_MS = 1_000_000;

let pki: TestPki;
let root: AuthorityRecord;
let chores: PkiChores;
let fenced: string[];
let retired: string[];

beforeEach(async () => {
  pki = await TestPki.start();
  pki.now = new Date();
  root = await pki.root();
  fenced = [];
  retired = [];
});
afterEach(() => chores.stop());

function start(change: Partial<PkiChoresDependencies> = {}, writer = pki.writer): void {
  const { store, authorities } = pki;
  const now = () => pki.now;
  chores = new PkiChores({
    crls: new CrlPublication({ store, authorities, now }),
    responders: new ResponderCertificates({ store, authorities, now }),
    expired: new ExpiredCertificates({ store, authorities, keepMs: 90 * 24 * 3_600_000, now }),
    authorities,
    store,
    log: pino({ level: "silent" }),
    retireVanished: ({ identity }) => void retired.push(identity.name),
    onFenced: ({ message }) => void fenced.push(message),
    lookEveryMs: NEVER_MS,
    ...change,
  });
  chores.start(writer);
}
const number = async () => (await pki.store.crl({ authorityId: root.id, generation: 1, partition: 0 }))?.number;
const crl = (wanted: bigint) => until(`CRL ${wanted}`, async () => (await number()) === wanted, soon);

test("a hint is followed at once, also one that comes while it works", async () => {
  start();
  await crl(1n);
  for (const [uid, wanted] of [
    ["one", 2n],
    ["two", 3n],
  ] as const) {
    await pki.authorities.revoke(pki.writer, await pki.issue(root, uid), { reason: "superseded" }, actor);
    chores.hint();
    await crl(wanted);
  }
});

test("without any hint it looks from time to time", async () => {
  start({ lookEveryMs: 20 });
  await crl(1n);
  pki.passes(24 * 3_600_000);
  await crl(2n);
});

test("what fails does not keep the rest from being done", async () => {
  const crls = {
    publishDue: async () => {
      throw new Error("no CRL today");
    },
    judge: async () => {},
  };
  const signer = new LocalSigner(await generateKey({ algorithm: "ECDSA", size: 256 }));
  const request = { id: "6f2b6b7e-5a53-4e0f-8a0e-1f1d0c9f3b55", authorityId: root.id, generation: 1 };
  start({ crls });
  await until("the first look", () => retired.length === 1, soon);
  await pki.store.requestResponder({ ...request, csr: await createCsr([], [], signer) });
  chores.hint();
  await until("an answer", async () => Buffer.isBuffer(await pki.store.responder(request.id)), soon);
});

test("a look for vanished CAs that failed is taken again with the next look", async () => {
  let failures = 2;
  const listAuthorities: PkiChoresDependencies["store"]["listAuthorities"] = async (...page) => {
    if (failures-- > 0) throw new Unavailable("DatabaseUnavailable", "no connection in time");
    return pki.store.listAuthorities(...page);
  };
  start({ store: { listAuthorities }, lookEveryMs: 20 });
  await until("the CA is looked at", () => retired.length === 1, soon);
});

test("what failed at the start of a term is done at the next look, not in the next term or an hour later", async () => {
  const failing = <T>(done: T) => {
    let failures = 2;
    return async (): Promise<T> => {
      if (failures-- > 0) throw new Unavailable("DatabaseUnavailable", "no connection in time");
      succeeded += 1;
      return done;
    };
  };
  let succeeded = 0;
  start({ authorities: { sealFormer: failing(0) }, expired: { purge: failing(0) }, lookEveryMs: 20 });
  await until("both were done", () => succeeded === 2, soon);
});

test("authorities that are retired already are left alone", async () => {
  await pki.authorities.change(pki.writer, await pki.root("gone"), { state: "Retired" }, actor);
  start();
  await until("the first look", () => retired.length > 0, soon);
  expect(retired).toEqual(["root"]);
});

test("what belongs to the installation has no object that could vanish, and is left alone", async () => {
  await pki.root("fleet", { identity: { kind: "Installation", namespace: "", namespaceUid: "", name: "fleet" } });
  start();
  await until("the first look", () => retired.length > 0, soon);
  expect(retired).toEqual(["root"]);
});

test("a leader whose term is over is told so", async () => {
  start({}, { epoch: 99n });
  await until("the fence", () => fenced.length > 0, soon);
  expect(await number()).toBeUndefined();
});
