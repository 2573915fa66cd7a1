import { jest } from "@jest/globals";
import type { Resource } from "../../crds/common.ts";
import { EventRecorder } from "./events.ts";

const object = (name: string): Resource => ({
  apiVersion: "mazevault.io/v1",
  kind: "Secret",
  metadata: { name, namespace: "team", uid: `uid-${name}`, resourceVersion: "1" },
  spec: {},
});
const failure = { type: "Warning", reason: "DatabaseUnavailable", action: "Reconcile", note: "refused" } as const;

const setUp = () => {
  const created: Record<string, unknown>[] = [];
  const patched: unknown[] = [];
  let failing = false;
  const recorder = new EventRecorder(
    {
      create: async <T>(_type: unknown, event: Record<string, unknown>) => {
        if (failing) throw new Error("down");
        created.push(event);
        return {} as T;
      },
      mergePatch: async <T>(_type: unknown, _key: unknown, patch: unknown) => {
        patched.push(patch);
        return {} as T;
      },
    },
    { component: "mazevault.io/operator", instance: "pod-1" },
  );
  const fail = (value: boolean): void => {
    failing = value;
  };
  return { recorder, created, patched, fail };
};

beforeEach(() => {
  jest.useFakeTimers({ now: new Date("2026-01-01T00:00:00Z") });
});
afterEach(() => {
  jest.useRealTimers();
});

test("repetitions become a series of one Event, told ever more rarely", async () => {
  const { recorder, created, patched } = setUp();
  for (let i = 0; i < 100; i++) recorder.record(object("db"), failure);
  await recorder.close();
  expect(created).toHaveLength(1);
  expect(created[0]).toMatchObject({
    regarding: { kind: "Secret", namespace: "team", name: "db", uid: "uid-db" },
    reportingController: "mazevault.io/operator",
    eventTime: "2026-01-01T00:00:00.000000Z",
    type: "Warning",
    reason: "DatabaseUnavailable",
  });
  expect(patched).toHaveLength(6);
  expect(patched.at(-1)).toMatchObject({ series: { count: 64 } });
});

test("an object that says something new all the time is cut off after a burst; others are not", async () => {
  const { recorder, created } = setUp();
  for (let i = 0; i < 50; i++) recorder.record(object("noisy"), { ...failure, note: `attempt ${i}` });
  recorder.record(object("other"), failure);
  await recorder.flush();
  expect(created).toHaveLength(11);
  jest.setSystemTime(new Date("2026-01-01T00:05:00Z"));
  recorder.record(object("noisy"), { ...failure, note: "later" });
  await recorder.close();
  expect(created).toHaveLength(12);
});

test("what cannot be sent is dropped, and recording neither waits nor throws", async () => {
  const { recorder, created, fail } = setUp();
  fail(true);
  recorder.record(object("a"), failure);
  await recorder.flush();
  fail(false);
  recorder.record(object("b"), failure);
  await recorder.close();
  expect(created).toHaveLength(1);
});
