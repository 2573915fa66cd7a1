import { Unavailable } from "../errors.ts";
import { examine } from "./examination.ts";
import { type Check, failing } from "./finding.ts";

const check = (name: string, look: Check["examine"]): Check => ({ name, otherwise: `mend ${name}`, examine: look });
const found = failing("found", { problem: "p", fix: "f" });

test("what is frozen keeps nobody from being told, and is told itself", async () => {
  let aborted = false;
  const frozen = check("frozen", (signal) => {
    signal.addEventListener("abort", () => {
      aborted = true;
    });
    return new Promise(() => {});
  });
  const started = performance.now();
  const findings = await examine([frozen, check("well", async () => []), check("found", async () => [found])], 50);
  expect(performance.now() - started).toBeLessThan(5_000);
  expect(findings).toEqual([
    { check: "frozen", status: "failing", problem: "there was no answer within 0.05 s", fix: "mend frozen" },
    { check: "well", status: "ok" },
    found,
  ]);
  expect(aborted).toBe(true);
});

test("what fails is told by its message only where that is safe", async () => {
  const safe = check("safe", () => Promise.reject(new Unavailable("Failed", "PostgreSQL does not answer")));
  const foreign = check("foreign", () => Promise.reject(new TypeError("cannot parse hunter2")));
  expect(await examine([safe, foreign], 1_000)).toEqual([
    { check: "safe", status: "failing", problem: "PostgreSQL does not answer", fix: "mend safe" },
    { check: "foreign", status: "failing", problem: "the check itself failed (TypeError)", fix: "mend foreign" },
  ]);
});
