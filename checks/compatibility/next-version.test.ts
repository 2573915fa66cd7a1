import { whyNotNext } from "./next-version.ts";

test.each([
  ["0.1.1", "0.1.0", false],
  ["0.2.0", "0.1.9", true],
  ["1.0.0", "0.10.3", true],
  ["0.10.0", "0.9.0", false],
  ["0.1.0", "0.1.0", false],
])("%s may follow %s", (version, last, takesAway) => expect(whyNotNext(version, last, takesAway)).toBeUndefined());

test.each([
  ["0.1.1", "0.1.0", true, /no patch of 0\.1\.0/],
  ["0.1.0", "0.1.0", true, /needs another version/],
  ["0.9.9", "0.10.0", false, /does not come after/],
  ["v1.0.0", "0.1.0", false, /is no version/],
])("%s may not follow %s", (version, last, takesAway, why) =>
  expect(whyNotNext(version, last, takesAway)).toMatch(why),
);
