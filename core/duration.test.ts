import { durationMs } from "./duration.ts";

test.each([
  ["2160h", 7_776_000_000],
  ["1h30m", 5_400_000],
  ["90s", 90_000],
  ["1h0m1s", 3_601_000],
])("%s", (text, milliseconds) => {
  expect(durationMs(text)).toBe(milliseconds);
});
