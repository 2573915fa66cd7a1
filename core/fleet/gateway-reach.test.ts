import { z } from "zod";
import { Unavailable } from "../errors.ts";
import { GatewayReach } from "./gateway-reach.ts";
import { GatewayAway, type TaskKind } from "./tasks.ts";

const kind: TaskKind<string, string> = { kind: "Echo", body: z.string(), result: z.string() };
const options = { signal: new AbortController().signal, environments: ["NPR"] };
const away = () => new GatewayAway("one", "nobody took it");

let now: number;
let asked: string[];
let answer: () => Promise<string>;
let reach: GatewayReach;

beforeEach(() => {
  now = 0;
  asked = [];
  answer = async () => "done";
  const perform = (async (gateway: string) => {
    asked.push(gateway);
    return answer();
  }) as never;
  reach = new GatewayReach({ perform }, () => now);
});

const ask = (gateway = "one"): Promise<string> => reach.perform(gateway, kind, "", options);

test("one that is away is asked again after 10 seconds, and until then all fail at once; others are none the worse", async () => {
  answer = () => Promise.reject(away());
  await expect(ask()).rejects.toThrow("nobody took it");
  answer = async () => "done";
  now = 9_999;
  await expect(ask()).rejects.toThrow("nobody took it");
  expect(await ask("two")).toBe("done");
  now = 10_000;
  expect(await ask()).toBe("done");
  expect(await ask()).toBe("done");
  expect(asked).toEqual(["one", "two", "one", "one"]);
});

test("of many that come while it is not known whether it is back one asks", async () => {
  answer = () => Promise.reject(away());
  await expect(ask()).rejects.toThrow("nobody took it");
  now = 10_000;
  const { promise, resolve } = Promise.withResolvers<string>();
  answer = () => promise;
  const first = ask();
  await expect(ask()).rejects.toThrow("nobody took it");
  resolve("back");
  expect(await first).toBe("back");
  expect(asked).toHaveLength(2);
});

test("what fails otherwise says that it is there", async () => {
  answer = () => Promise.reject(away());
  await expect(ask()).rejects.toThrow("nobody took it");
  now = 10_000;
  answer = () => Promise.reject(new Unavailable("GatewayTaskUnknown", "too old"));
  await expect(ask()).rejects.toThrow("too old");
  await expect(ask()).rejects.toThrow("too old");
  expect(asked).toHaveLength(3);
});

test.each([["one"], [undefined]])(
  "one that was heard of, by its name or by none, is asked at once: %s",
  async (heard) => {
    answer = () => Promise.reject(away());
    await expect(ask()).rejects.toThrow("nobody took it");
    reach.heard(heard);
    answer = async () => "done";
    expect(await ask()).toBe("done");
  },
);

test("one whose own database is away is there", async () => {
  answer = () => Promise.reject(new Unavailable("GatewayUnavailable", "PostgreSQL is down"));
  await expect(ask()).rejects.toThrow("PostgreSQL is down");
  await expect(ask()).rejects.toThrow("PostgreSQL is down");
  expect(asked).toHaveLength(2);
});

test("when who was to find out does not wait any more the next one does", async () => {
  answer = () => Promise.reject(away());
  await expect(ask()).rejects.toThrow("nobody took it");
  now = 10_000;
  answer = () => Promise.reject(new Error("enough"));
  const aborted = { ...options, signal: AbortSignal.abort() };
  await expect(reach.perform("one", kind, "", aborted)).rejects.toThrow("enough");
  answer = () => Promise.reject(away());
  await expect(ask()).rejects.toThrow("nobody took it");
  await expect(ask()).rejects.toThrow("nobody took it");
  expect(asked).toHaveLength(3);
});
