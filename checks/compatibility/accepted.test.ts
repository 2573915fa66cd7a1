import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { type Accepted, notAccepted, readAccepted } from "./accepted.ts";

const removed = { path: "Secret.spec.size", change: "was removed", fix: "keep it" };
const nothing: Accepted = {
  kinds: [],
  rights: [],
  policies: [],
  values: [],
  settings: [],
  rest: [],
  fleet: [],
  migrations: [],
  database: [],
};
const reason = "nobody could ever set it";

test("what is not accepted is named, with what to do", () => {
  expect(notAccepted("kinds", [removed], nothing)).toEqual([
    "Secret.spec.size: was removed. It was otherwise in the last release: keep it. If it has to be, list it in released/accepted.yaml under kinds, with the reason",
  ]);
});

test("what is accepted, for this surface, is not", () => {
  const accepted = { ...nothing, kinds: [{ change: "Secret.spec.size: was removed", reason }] };
  expect(notAccepted("kinds", [removed], accepted)).toEqual([]);
  expect(notAccepted("values", [removed], accepted)).toHaveLength(1);
});

test("what is accepted and has not changed is named", () => {
  const accepted = { ...nothing, kinds: [{ change: "Secret.spec.size: was removed", reason }] };
  expect(notAccepted("kinds", [], accepted)).toEqual([
    "released/accepted.yaml accepts what has not changed: Secret.spec.size: was removed",
  ]);
});

test("the list that is kept can be read, and one without a reason cannot", () => {
  expect(Object.keys(readAccepted()).toSorted()).toEqual(Object.keys(nothing).toSorted());
  const dir = mkdtempSync(path.join(tmpdir(), "mazevault-accepted-"));
  try {
    const file = path.join(dir, "accepted.yaml");
    writeFileSync(file, "kinds: [{change: 'Secret: was removed', reason: because}]");
    expect(() => readAccepted(file)).toThrow(/^accepted\.yaml: .*kinds\[0\]\.reason/s);
  } finally {
    rmSync(dir, { recursive: true });
  }
});
