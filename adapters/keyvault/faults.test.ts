import { inspect } from "node:util";
import { FakeCallLedger } from "../../core/ports/fake-call-ledger.ts";
import { Ambiguous, type TargetVault, Throttled } from "../../core/ports/target-vault.ts";
import type { FaultEffect } from "../../lab/keyvault/control.ts";
import { READER, SECOND_VAULT } from "../../lab/keyvault/testing/identities.ts";
import {
  access,
  clientSecret,
  OTHER_VAULT_NAME,
  OTHER_VAULT_URL,
  StandIn,
  sensitive,
  VAULT_NAME,
} from "./testing/stand-in.ts";
import type { KeyVaultOptions, KeyVaults } from "./vaults.ts";

const standIn = new StandIn();
const signal = new AbortController().signal;
const CANARY = "canary-value";
/** With purge protection. */
const GUARDED_URL = `https://${SECOND_VAULT}.vault.azure.net/`;
let vaults: KeyVaults;
let names = 0;

beforeAll(() => standIn.start());
afterAll(() => standIn.stop());
beforeEach(async () => {
  await standIn.lab.control.setFaults([]);
  await begin({});
  names += 1;
});

/** The first call asks for the challenge and a token; what follows is about the call itself. */
async function begin(options: KeyVaultOptions): Promise<void> {
  vaults = standIn.vaults({ breaker: { failures: 3, probeAfterMs: 60_000 }, ...options });
  await vault().get("warm-up", signal);
  await standIn.lab.control.resetCounters();
}

/** Short only where no answer is expected: on a busy machine one may take its time. */
const impatient = (effect: FaultEffect) => (effect.kind === "hang" ? begin({ requestTimeoutMs: 1_000 }) : undefined);

const vault = () => vaults.open(access(), "Change");
const other = () => vaults.open(access({ uid: "uid-2", url: OTHER_VAULT_URL }), "Change");
const name = () => `name-${names}`;
const set = () => vault().set({ name: name(), value: sensitive(CANARY), tags: {} }, signal);
const failureOf = async (call: Promise<unknown>): Promise<unknown> =>
  call.then(
    () => undefined,
    (error) => error,
  );
const fault = (effect: FaultEffect, count?: number) =>
  standIn.lab.control.setFaults([{ vault: VAULT_NAME, effect, ...(count !== undefined && { count }) }]);
const callsOf = async (vaultName: string) => (await standIn.lab.control.counters()).vaults[vaultName]?.calls ?? 0;
const versions = async () =>
  (await standIn.lab.control.secrets(VAULT_NAME)).find((each) => each.name === name())?.versions.length ?? 0;

describe("a deletion", () => {
  it.each<[string, FaultEffect]>([
    ["carried out and answered 503", { kind: "process-then-status", status: 503 }],
    ["carried out and cut off", { kind: "process-then-drop" }],
    ["cut off", { kind: "drop" }],
    ["refused with 500", { kind: "status", status: 500 }],
  ])("%s may be tried again, and says so", async (_, effect) => {
    await set();
    await fault(effect);
    await expect(vault().delete(name(), signal)).rejects.toMatchObject({ code: "VaultUnreachable" });
    await standIn.lab.control.setFaults([]);
    await begin({});
    await expect(vault().delete(name(), signal)).resolves.toMatchObject({
      kind: expect.stringMatching(/Deleted|Absent/),
    });
    expect((await vault().get(name(), signal)).kind).toBe("Absent");
  });

  it("that the identity may not do is refused with the role that it needs, and nothing else is", async () => {
    await set();
    const reading = vaults.open(access({ uid: "uid-reader", auth: clientSecret(READER) }), "Change");
    expect(await reading.get(name(), signal)).toMatchObject({ kind: "Present" });
    await expect(reading.delete(name(), signal)).rejects.toMatchObject({
      code: "AccessDenied",
      message: expect.stringMatching(
        /^delete at https:.*: 403 Forbidden, ForbiddenByRbac; grant the identity the role Key Vault Secrets Officer, which includes Microsoft.KeyVault\/vaults\/secrets\/delete$/,
      ),
    });
    expect(await vault().get(name(), signal)).toMatchObject({ kind: "Present" });
  });

  it("is soft where nothing can be purged, and the name comes back", async () => {
    const guarded = vaults.open(access({ uid: "uid-guarded", url: GUARDED_URL }), "Change");
    await guarded.set({ name: name(), value: sensitive(CANARY), tags: {} }, signal);
    expect(await guarded.delete(name(), signal)).toEqual({ kind: "Deleted" });
    expect(await guarded.set({ name: name(), value: sensitive("other"), tags: {} }, signal)).toEqual({
      kind: "SoftDeleted",
    });
    await guarded.recover(name(), signal);
    expect(await guarded.get(name(), signal)).toMatchObject({ kind: "Present" });
  });
});

describe("a write without a clear answer", () => {
  it.each<[string, FaultEffect, number, RegExp]>([
    ["carried out and answered 503", { kind: "process-then-status", status: 503 }, 1, /503/],
    ["carried out and cut off", { kind: "process-then-drop" }, 1, /ECONNRESET/],
    ["cut off", { kind: "drop" }, 0, /ECONNRESET/],
    ["never answered", { kind: "hang" }, 0, /timeout/],
    ["refused with 500", { kind: "status", status: 500 }, 0, /500/],
  ])("%s is Ambiguous, and is not repeated", async (_, effect, made, message) => {
    await impatient(effect);
    await fault(effect);
    const error = await failureOf(set());
    expect(error).toBeInstanceOf(Ambiguous);
    expect(error).toMatchObject({ message: expect.stringMatching(message) });
    expect(await callsOf(VAULT_NAME)).toBe(1);
    expect(await versions()).toBe(made);
    expect(inspect(error, { depth: 10, showHidden: true })).not.toMatch(/canary-value|Bearer|eyJ/);
  });

  it("is not what a refused connection is: nothing was sent", async () => {
    const closed = standIn.vaults({ connectTo: [{ host: "*.vault.azure.net", address: "127.0.0.1:1" }] });
    const request = { name: name(), value: sensitive(CANARY), tags: {} };
    const error = await failureOf(closed.open(access(), "Change").set(request, signal));
    expect(error).toMatchObject({ code: "VaultUnreachable", message: expect.stringMatching(/ECONNREFUSED/) });
  });
});

describe("a read without an answer", () => {
  it.each<[string, FaultEffect, RegExp]>([
    ["503", { kind: "status", status: 503 }, /503 ServiceUnavailable$/],
    ["a cut connection", { kind: "drop" }, /ECONNRESET/],
    ["nothing", { kind: "hang" }, /timeout/],
  ])("%s is VaultUnreachable", async (_, effect, message) => {
    await impatient(effect);
    await fault(effect);
    const error = await failureOf(vault().get(name(), signal));
    expect(error).toMatchObject({ code: "VaultUnreachable", message: expect.stringMatching(message) });
  });

  it("ends at once when the caller gives up", async () => {
    await fault({ kind: "hang" });
    const controller = new AbortController();
    const reason = new Error("shutting down");
    const call = vault().get(name(), controller.signal);
    controller.abort(reason);
    await expect(call).rejects.toBe(reason);
  });

  it("has a time-out on every page of a list, also on those that the SDK sends without one", async () => {
    const { control } = standIn.lab;
    await Promise.all(
      Array.from({ length: 26 }, (_, at) => control.setSecret(OTHER_VAULT_NAME, `page-${at}`, "value")),
    );
    await begin({ requestTimeoutMs: 1_000 });
    const pages = other().list(signal)[Symbol.asyncIterator]();
    expect((await pages.next()).value).toHaveLength(25);
    await control.setFaults([{ vault: OTHER_VAULT_NAME, effect: { kind: "hang" } }]);
    expect(await failureOf(pages.next())).toMatchObject({ message: expect.stringMatching(/list at .*timeout/) });
  });
});

describe("a vault that throttles", () => {
  it("is left alone for as long as it asks, whoever calls", async () => {
    await fault({ kind: "status", status: 429, retryAfterSeconds: 30 });
    const error = await failureOf(set());
    expect(error).toBeInstanceOf(Throttled);
    expect((error as Throttled).retryAfterMs).toBeGreaterThan(20_000);
    for (let at = 0; at < 20; at += 1) expect(await failureOf(vault().get(name(), signal))).toBeInstanceOf(Throttled);
    expect(await callsOf(VAULT_NAME)).toBe(1);
    expect(vaults.states()).toMatchObject([{ breaker: "Closed", pausedMs: expect.any(Number) }]);
  });

  it("is called again when its time is over", async () => {
    await fault({ kind: "status", status: 429, retryAfterSeconds: 1 }, 1);
    await failureOf(set());
    await untilPauseEnds();
    expect(await set()).toMatchObject({ kind: "Written" });
  });

  it("is given growing pauses when it names none", async () => {
    await fault({ kind: "status", status: 429 });
    const first = (await failureOf(set())) as Throttled;
    await untilPauseEnds();
    const second = (await failureOf(set())) as Throttled;
    expect(first.retryAfterMs).toBeLessThanOrEqual(1_000);
    expect(second.retryAfterMs).toBeGreaterThan(1_000);
  });

  it("does not hold up another vault", async () => {
    await fault({ kind: "status", status: 429, retryAfterSeconds: 60 });
    await failureOf(set());
    expect(await other().get(name(), signal)).toMatchObject({ kind: "Absent" });
  });
});

describe("a vault that is down", () => {
  const state = () => vaults.states().find(({ url }) => url.includes(VAULT_NAME))?.breaker;

  it("is not called until the next probe, and does not hold up others", async () => {
    await fault({ kind: "status", status: 503 });
    for (let at = 0; at < 30; at += 1) {
      expect(await failureOf(vault().get(name(), signal))).toMatchObject({ code: "VaultUnreachable" });
    }
    expect(state()).toBe("Open");
    expect(await callsOf(VAULT_NAME)).toBe(3);
    expect(await other().get(name(), signal)).toMatchObject({ kind: "Absent" });
  });

  it("is probed by one call at a time, and used again once it answers", async () => {
    await begin({ breaker: { failures: 3, probeAfterMs: 50 } });
    await fault({ kind: "status", status: 503 }, 3);
    for (let at = 0; at < 3; at += 1) await failureOf(vault().get(name(), signal));
    expect(state()).toBe("Open");
    while ((await failureOf(vault().get(name(), signal))) !== undefined) await new Promise(setImmediate);
    expect(state()).toBe("Closed");
    expect(await callsOf(VAULT_NAME)).toBe(4);
  });

  it("is not what an entry that is disabled is, nor is that one denied", async () => {
    await set();
    await standIn.lab.control.updateSecret(VAULT_NAME, name(), { enabled: false });
    expect(await vault().get(name(), signal)).toEqual({ kind: "Disabled" });
    expect(vaults.states()).toMatchObject([{ breaker: "Closed", denied: 0 }]);
  });

  it("is not what a vault that refuses is", async () => {
    await fault({ kind: "status", status: 403 });
    for (let at = 0; at < 10; at += 1) await failureOf(vault().get(name(), signal));
    expect(vaults.states()).toMatchObject([{ breaker: "Closed", denied: 10 }]);
    expect(await callsOf(VAULT_NAME)).toBe(10);
  });
});

describe("the budget", () => {
  it("bounds each resource by its own wish and the vault by the largest, challenges included", async () => {
    const shared = standIn.vaults({ budgetWaitMs: 50 });
    const open = (uid: string, calls: number) => shared.open(access({ uid, callsPer10Seconds: calls }), "Change");
    const refusals = async (count: number, from: TargetVault) => {
      const ended = await Promise.allSettled(Array.from({ length: count }, () => from.get(name(), signal)));
      return ended.flatMap((each) => (each.status === "rejected" ? [each.reason.code] : []));
    };
    const large = open("large", 30);
    const small = open("small", 5);
    // One call of each is spent on asking for the challenge.
    expect(await refusals(10, small)).toEqual(Array.from({ length: 6 }, () => "BudgetExhausted"));
    expect(await refusals(40, large)).toEqual(Array.from({ length: 16 }, () => "BudgetExhausted"));
    expect((await standIn.lab.control.counters()).vaults[VAULT_NAME]?.peakCallsIn10Seconds).toBe(30);
    shared.forget("large");
    expect(shared.states()).toMatchObject([{ limit: 5 }]);
  });

  it("is not given a second time to a vault that was forgotten and opened again", async () => {
    const shared = standIn.vaults();
    await shared.open(access(), "Change").get(name(), signal);
    shared.forget(access().uid);
    shared.open(access(), "Change");
    expect(shared.states()).toMatchObject([{ callsInWindow: 2 }]);
  });
});

async function untilPauseEnds(): Promise<void> {
  while (vaults.states().some(({ pausedMs }) => pausedMs > 0)) await new Promise(setImmediate);
}

test("processes that share a ledger call a vault no more than one may", async () => {
  await standIn.lab.control.resetCounters();
  const ledger = new FakeCallLedger();
  const open = () => standIn.vaults({ ledger }).open(access({ callsPer10Seconds: 30 }), "Change");
  const [one, other] = [open(), open()];
  const gets = (vault: TargetVault, count: number) =>
    Promise.all(Array.from({ length: count }, () => vault.get("absent", signal)));
  await gets(one, 20);
  // The first ends here, with a window that is mostly spent.
  await gets(other, 20);
  expect((await standIn.lab.control.counters()).vaults[VAULT_NAME]?.peakCallsIn10Seconds).toBeLessThanOrEqual(30);
});
