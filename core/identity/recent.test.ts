import { FRESH_MS, Recent } from "./recent.ts";

test("an answer is shared until it is a second old, or forgotten, and a failure is not kept", async () => {
  let asked = 0;
  let failing = false;
  const recent = new Recent(async (id: string) => {
    asked += 1;
    if (failing) throw new Error("away");
    return `${id} ${asked}`;
  });
  expect(await Promise.all([recent.get("a"), recent.get("a"), recent.get("b")])).toEqual(["a 1", "a 1", "b 2"]);
  const started = performance.now();
  while ((await recent.get("a")) === "a 1") await new Promise(setImmediate);
  expect(performance.now() - started).toBeLessThan(2 * FRESH_MS);
  recent.forget("a");
  failing = true;
  await expect(recent.get("a")).rejects.toThrow("away");
  failing = false;
  expect(await recent.get("a")).toBe("a 5");
  recent.clear();
  expect(await recent.get("b")).toBe("b 6");
});

test("no more answers are kept than fit", async () => {
  let asked = 0;
  const recent = new Recent(async () => {
    asked += 1;
  });
  for (let id = 0; id <= 10_000; id += 1) await recent.get(`${id}`);
  await recent.get("10000");
  expect(asked).toBe(10_001);
  await recent.get("0");
  expect(asked).toBe(10_002);
});
