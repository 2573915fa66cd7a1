import { pauseAfter } from "./pause.ts";

test.each([
  [1, 250],
  [3, 1_000],
  [5, 4_000],
  [6, 5_000],
  [2_000, 5_000],
])("after %d failures it is drawn from nothing to %d ms", (failures, most) => {
  const drawn = Array.from({ length: 500 }, () => pauseAfter(failures, 250, 5_000));
  expect(Math.max(...drawn)).toBeLessThanOrEqual(most);
  // By chance once in 10^22.
  expect(Math.max(...drawn)).toBeGreaterThan(most * 0.9);
  expect(Math.min(...drawn)).toBeLessThan(most * 0.1);
});
