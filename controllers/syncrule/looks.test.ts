import { jest } from "@jest/globals";
import type { TargetVault } from "../../core/ports/target-vault.ts";
import type { SyncRule } from "../../crds/syncrule.ts";
import { Looks } from "./looks.ts";

const VAULT = "https://crdprointmzvgwckv01.vault.azure.net/";
const START = new Date("2026-03-01T10:00:00Z");
const signal = new AbortController().signal;

const rule = {
  apiVersion: "mazevault.io/v1",
  kind: "SyncRule",
  metadata: { name: "rule", namespace: "a", uid: "u", resourceVersion: "1" },
  spec: { projectRef: { name: "p" }, environment: "pro", direction: "Push", target: {}, interval: "1h" },
} as SyncRule;

let looks: Looks;
let lists: number;

const look = () => {
  const vault = {
    async *list() {
      lists += 1;
      yield [];
    },
  } as unknown as TargetVault;
  return looks.look(rule, VAULT, async () => vault, signal);
};
const pass = (milliseconds: number) => jest.setSystemTime(Date.now() + milliseconds);
const inMs = ({ nextLook }: { nextLook: Date }) => nextLook.getTime() - Date.now();

beforeEach(async () => {
  jest.useFakeTimers({ now: START, doNotFake: ["nextTick", "setImmediate", "queueMicrotask"] });
  looks = new Looks();
  lists = 0;
  await look();
});
afterEach(() => jest.useRealTimers());

test("a rule looks in its interval", async () => {
  pass(3_599_999);
  expect(inMs(await look())).toBe(1);
  expect(lists).toBe(1);
  pass(1);
  await look();
  expect(lists).toBe(2);
});

test("an event brings the look forward, once, and then the interval counts again", async () => {
  pass(60_000);
  looks.evented("a/rule");
  expect(inMs(await look())).toBe(3_600_000);
  expect(inMs(await look())).toBe(3_600_000);
  expect(lists).toBe(2);
});

test("of any number of events in five seconds one look comes, and none of them is lost", async () => {
  for (let at = 0; at < 100; at += 1) {
    pass(40);
    looks.evented("a/rule");
    expect(inMs(await look())).toBe(5_000 - (at + 1) * 40);
  }
  expect(lists).toBe(1);
  pass(1_000);
  await look();
  expect(lists).toBe(2);
});

test("an event of another rule changes nothing", async () => {
  pass(60_000);
  looks.evented("a/other");
  await look();
  expect(lists).toBe(1);
});

test("what stands still is looked at although something was put off", async () => {
  looks.putOff(rule, 7);
  looks.now(rule);
  expect(await look()).toMatchObject({ target: [] });
  expect(lists).toBe(2);
  expect(await look()).not.toHaveProperty("unhealed");
});

test("what is put off is told in the next pass, which does not look; the one after it does", async () => {
  pass(3_600_000);
  looks.putOff(rule, 7);
  const urgent = await look();
  expect(urgent).toMatchObject({ unhealed: 7 });
  expect(urgent.target).toBeUndefined();
  expect(inMs(urgent)).toBe(0);
  expect((await look()).target).toEqual([]);
  expect(lists).toBe(2);
});
