import { Unavailable } from "../../core/errors.ts";
import type { ChannelAnswer } from "../../core/ports/primary-channel.ts";
import { until } from "../../lab/poll.ts";
import { GuardedLink } from "./guarded-link.ts";

const ANSWER: ChannelAnswer = { status: 200, body: {} };
const away = () => Promise.reject(new Unavailable("PrimaryUnreachable", "no answer"));

let ask: () => Promise<ChannelAnswer>;
let asked: number;
let lines: string[];
let link: GuardedLink;
const options = { signal: new AbortController().signal };

beforeEach(() => {
  asked = 0;
  lines = [];
  ask = async () => ANSWER;
  link = new GuardedLink({
    link: {
      ask: () => {
        asked += 1;
        return ask();
      },
    },
    failures: 3,
    probeAfterMs: 50,
    log: {
      info: (line: string) => lines.push(line),
      warn: (_fields: object, line: string) => lines.push(line),
    } as unknown as ConstructorParameters<typeof GuardedLink>[0]["log"],
  });
});

const question = (signal = options.signal) => link.ask("/fleet/v1/replica", {}, { signal });

test("opens when the primary did not answer three times in a row, and asks it no more", async () => {
  ask = away;
  for (let at = 0; at < 3; at += 1) await expect(question()).rejects.toMatchObject({ code: "PrimaryUnreachable" });
  expect(link.state).toBe("Open");
  await expect(question()).rejects.toMatchObject({ code: "CircuitOpen" });
  expect(asked).toBe(3);
  expect(lines).toEqual(["The circuit breaker to the primary opened: 3 questions in a row had no answer"]);
});

test("lets one question through after its pause, and what becomes of it decides", async () => {
  ask = away;
  for (let at = 0; at < 3; at += 1) await question().catch(() => {});
  const halfOpen = new Promise<void>((resolve) => {
    ask = () => {
      expect(link.state).toBe("HalfOpen");
      resolve();
      return away();
    };
  });
  await until("it is tried", () => question().catch((error) => error.code === "PrimaryUnreachable"), {
    timeoutMs: 5_000,
    intervalMs: 5,
  });
  await halfOpen;
  expect(link.state).toBe("Open");
  ask = async () => ANSWER;
  await until("it answers", () => question().catch(() => false), { timeoutMs: 5_000, intervalMs: 5 });
  expect(link.state).toBe("Closed");
  expect(lines).toHaveLength(2);
  expect(lines[1]).toBe("The circuit breaker to the primary closed: it answers again");
});

test("counts answers of 500 and above, and hands them on; others are none of its business", async () => {
  ask = async () => ({ status: 404, body: { code: "RouteNotFound" } });
  for (let at = 0; at < 5; at += 1) expect((await question()).status).toBe(404);
  expect(link.state).toBe("Closed");
  ask = async () => ({ status: 503, body: { code: "DatabaseUnavailable" } });
  for (let at = 0; at < 3; at += 1) expect((await question()).body).toEqual({ code: "DatabaseUnavailable" });
  expect(link.state).toBe("Open");
});

test("one good answer in between begins anew; who gives up says nothing of the primary", async () => {
  const goods: (() => Promise<ChannelAnswer>)[] = [away, away, async () => ANSWER, away, away];
  for (const each of goods) {
    ask = each;
    await question().catch(() => {});
  }
  expect(link.state).toBe("Closed");
  const given = new AbortController();
  given.abort(new Error("stopped"));
  ask = () => Promise.reject(given.signal.reason);
  for (let at = 0; at < 5; at += 1) await expect(question(given.signal)).rejects.toThrow("stopped");
  expect(link.state).toBe("Closed");
});

test("who gives up while the primary is tried does not close the circuit; it is tried again", async () => {
  ask = away;
  for (let at = 0; at < 3; at += 1) await question().catch(() => {});
  const given = new AbortController();
  given.abort(new Error("stopped"));
  ask = () => Promise.reject(given.signal.reason);
  const stopped = () => question(given.signal).catch((error) => error.message === "stopped");
  await until("it is tried", stopped, { timeoutMs: 5_000, intervalMs: 5 });
  expect(link.state).toBe("Open");
  expect(lines).toHaveLength(1);
  ask = async () => ANSWER;
  await until("it answers", () => question().catch(() => false), { timeoutMs: 5_000, intervalMs: 5 });
  expect(link.state).toBe("Closed");
});

test("tells once that the primary is back, whether or not the circuit had opened, until nobody listens", async () => {
  let back = 0;
  const stop = link.onBack(() => {
    back += 1;
  });
  await question();
  expect(back).toBe(0);
  ask = away;
  await question().catch(() => {});
  ask = async () => ANSWER;
  await question();
  await question();
  expect(back).toBe(1);
  ask = async () => ({ status: 503, body: {} });
  for (let at = 0; at < 3; at += 1) await question();
  expect(link.state).toBe("Open");
  ask = async () => ANSWER;
  await until("it answers", () => question().catch(() => false), { timeoutMs: 5_000, intervalMs: 5 });
  expect(back).toBe(2);
  const given = new AbortController();
  given.abort(new Error("stopped"));
  ask = () => Promise.reject(given.signal.reason);
  await expect(question(given.signal)).rejects.toThrow("stopped");
  ask = async () => ANSWER;
  await question();
  expect(back).toBe(2);
  stop();
  ask = away;
  await question().catch(() => {});
  ask = async () => ANSWER;
  await question();
  expect(back).toBe(2);
});

test("a channel that is opened closes the circuit, and what waits is tried; the next failure opens it again", async () => {
  let back = 0;
  link.onBack(() => {
    back += 1;
  });
  link.channelOpened();
  expect(back).toBe(0);
  ask = away;
  for (let at = 0; at < 3; at += 1) await question().catch(() => {});
  expect(link.state).toBe("Open");
  link.channelOpened();
  expect({ state: link.state, back }).toEqual({ state: "Closed", back: 1 });
  await expect(question()).rejects.toMatchObject({ code: "PrimaryUnreachable" });
  expect(link.state).toBe("Open");
  link.channelOpened();
  ask = async () => ANSWER;
  await question();
  expect({ state: link.state, back }).toEqual({ state: "Closed", back: 2 });
});
