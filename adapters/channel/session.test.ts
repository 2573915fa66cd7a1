import { EventEmitter } from "node:events";
import type { Http2Session } from "node:http2";
import { jest } from "@jest/globals";
import type { WebSocket } from "ws";
import { watchPeer } from "./session.ts";

/** The clock is turned by the tests; what is asked of the session is counted. */
class FakeSession extends EventEmitter {
  destroyed = false;
  pings = 0;
  ping(_answered: () => void): boolean {
    this.pings += 1;
    return true;
  }
}

let session: FakeSession;
let socket: EventEmitter;
let dead: number;

beforeEach(() => {
  jest.useFakeTimers();
  [session, socket, dead] = [new FakeSession(), new EventEmitter(), 0];
  const pings = { everyMs: 20_000, deadAfterMs: 60_000 };
  watchPeer(session as unknown as Http2Session, socket as unknown as WebSocket, pings, () => {
    dead += 1;
  });
});
afterEach(() => jest.useRealTimers());

test("a peer of which anything comes is alive, and asked each 20 seconds", () => {
  for (let n = 0; n < 10; n++) {
    jest.advanceTimersByTime(59_999);
    socket.emit("message");
  }
  expect([dead, session.pings]).toEqual([0, 29]);
});

test("one that is silent for 60 seconds is dead", () => {
  jest.advanceTimersByTime(59_999);
  expect(dead).toBe(0);
  jest.advanceTimersByTime(1);
  expect(dead).toBe(1);
});

test("after the end of the session nothing is asked or told", () => {
  session.emit("close");
  jest.advanceTimersByTime(600_000);
  expect([dead, session.pings, jest.getTimerCount(), socket.listenerCount("message")]).toEqual([0, 0, 0, 0]);
});
