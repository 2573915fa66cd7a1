import { breaksConnection, mapError } from "./errors.ts";

test("a broken pipe is no refusal of PostgreSQL's, though its code is as long as an SQLSTATE", () => {
  const broken = Object.assign(new Error("write EPIPE"), { code: "EPIPE", syscall: "write" });
  expect(mapError(broken)).toMatchObject({ code: "DatabaseUnavailable" });
  expect(breaksConnection(broken)).toBe(true);
});
