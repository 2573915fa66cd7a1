import { judgeValidity } from "./validity.ts";

const DAY_MS = 86_400_000;
const now = new Date("2027-01-01T00:00:00Z");
const days = (n: number): Date => new Date(now.getTime() + n * DAY_MS);

test.each([
  { from: -300, to: 65, status: undefined },
  { from: -340, to: 25, status: "warning" },
  // What lives for a week is renewed in its last days.
  { from: -5, to: 2, status: undefined },
  { from: -6.9, to: 0.1, status: "warning" },
  { from: -365, to: 0, status: "failing" },
  { from: 1, to: 365, status: "failing" },
])("from $from to $to days: $status", ({ from, to, status }) => {
  const [finding] = judgeValidity("c", "it", { notBefore: days(from), notAfter: days(to) }, now, "renew it");
  expect(finding?.status).toBe(status);
  if (finding !== undefined) expect(finding.fix).toContain("renew it");
});
