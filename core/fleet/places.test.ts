import { setImmediate as handedOn } from "node:timers/promises";
import { Places } from "./places.ts";

const { signal } = new AbortController();

let places: Places;
let begun: string[];
let ends: Map<string, () => void>;

beforeEach(() => {
  places = new Places(2);
  [begun, ends] = [[], new Map()];
});

const take = (name: string, key = "key", by: AbortSignal = signal): Promise<string> =>
  places.take(key, by, async () => {
    begun.push(name);
    await new Promise<void>((resolve) => void ends.set(name, resolve));
    return name;
  });

test("so many at once by key, the others in their order", async () => {
  const [first] = ["a", "b", "c", "d"].map((name) => take(name));
  void take("other", "another key");
  expect(begun).toEqual(["a", "b", "other"]);
  ends.get("a")?.();
  expect(await first).toBe("a");
  await handedOn();
  expect(begun).toEqual(["a", "b", "other", "c"]);
});

test("who does not wait any more gives up its turn, and has begun nothing", async () => {
  const abort = new AbortController();
  const [first] = ["a", "b"].map((name) => take(name));
  const gone = take("gone", "key", abort.signal);
  void take("c");
  abort.abort(new Error("enough"));
  await expect(gone).rejects.toThrow("enough");
  ends.get("a")?.();
  await first;
  await handedOn();
  expect(begun).toEqual(["a", "b", "c"]);
});

test("what failed leaves its place too", async () => {
  const failing = () => places.take("key", signal, () => Promise.reject(new Error("failed")));
  for (let at = 0; at < 3; at += 1) await expect(failing()).rejects.toThrow("failed");
  void take("a");
  expect(begun).toEqual(["a"]);
});
