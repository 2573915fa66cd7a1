import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { findKeytool, obtainNeeds } from "./needs.ts";

test("what cannot be obtained is told, with what to do and why, and the others are obtained", async () => {
  const reported: string[] = [];
  const missing = await obtainNeeds(
    (line) => reported.push(line),
    [
      { purpose: "greetings", fix: "install hello", obtain: () => Promise.reject(new Error("there is no apt-get")) },
      { purpose: "farewells", fix: "install bye", obtain: async (report) => report("unpacking bye") },
    ],
  );
  expect(missing).toEqual(["NOT TESTED: greetings; install hello (there is no apt-get)"]);
  expect(reported).toEqual(["unpacking bye"]);
});

test("keytool is looked for in the folders of the PATH", () => {
  const dir = mkdtempSync(path.join(tmpdir(), "lab-needs-"));
  try {
    expect(findKeytool(`/nowhere::${dir}`)).toBeUndefined();
    writeFileSync(path.join(dir, "keytool"), "");
    expect(findKeytool(`/nowhere::${dir}`)).toBe(path.join(dir, "keytool"));
  } finally {
    rmSync(dir, { recursive: true });
  }
});
