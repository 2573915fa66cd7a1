import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { until } from "../poll.ts";
import { type FreshToken, keepTokenFresh } from "./tokens.ts";

let dir: string;
let fresh: FreshToken | undefined;

beforeEach(() => {
  dir = mkdtempSync(path.join(tmpdir(), "lab-tokens-"));
});
afterEach(() => {
  fresh?.stop();
  rmSync(dir, { recursive: true });
});

test("the file holds a token that is replaced before it expires, also after failures", async () => {
  const file = path.join(dir, "token");
  const reported: string[] = [];
  let requests = 0;
  const request = async () => {
    requests++;
    if (requests === 2) throw new Error("API server away");
    return { token: `token ${requests}`, expiresAt: new Date(Date.now() + 400) };
  };
  fresh = await keepTokenFresh(file, request, (line) => reported.push(line));
  expect(readFileSync(fresh.tokenFile, "utf8")).toBe("token 1");
  await until("token 3", () => readFileSync(file, "utf8") === "token 3", { timeoutMs: 10_000 });
  expect(reported).toEqual([`token in ${file} not renewed: API server away`]);
});

test("a first request that fails is an error", async () => {
  const request = () => Promise.reject(new Error("no such account"));
  await expect(keepTokenFresh(path.join(dir, "token"), request, () => {})).rejects.toThrow("no such account");
});
