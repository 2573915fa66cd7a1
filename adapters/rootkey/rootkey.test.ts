import { chmodSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { createRootKeyFile, openRootKeyFile, othersMayRead } from "./file.ts";
import {
  createScryptParametersFile,
  newScryptParameters,
  openPassphrase,
  readScryptParametersFile,
} from "./passphrase.ts";

const context = Buffer.from("context");
const material = Buffer.alloc(32, 1);
const unavailable = { code: "KeyUnavailable" };
let dir: string;

beforeEach(() => {
  dir = mkdtempSync(path.join(tmpdir(), "mazevault-rootkey-"));
});
afterEach(() => rmSync(dir, { recursive: true }));

describe("file", () => {
  test("a new key is readable by its owner only and wraps over restarts", async () => {
    const file = path.join(dir, "root.key");
    createRootKeyFile(file);
    expect(statSync(file).mode & 0o777).toBe(0o600);
    const wrapped = await openRootKeyFile(file).wrap(material, context);
    const again = openRootKeyFile(file);
    expect(await again.unwrap(wrapped, context)).toEqual(material);
    expect(again.id).toMatch(/^file:[0-9a-f]{16}$/);
    expect(again.id).toBe(openRootKeyFile(file).id);
    await expect(again.unwrap(wrapped, Buffer.from("other"))).rejects.toMatchObject(unavailable);
  });

  test("an existing key is never overwritten", () => {
    const file = path.join(dir, "root.key");
    createRootKeyFile(file);
    const before = readFileSync(file, "utf8");
    expect(() => createRootKeyFile(file)).toThrow(expect.objectContaining({ code: "EEXIST" }));
    expect(readFileSync(file, "utf8")).toBe(before);
  });

  test("another key has another id and does not unwrap", async () => {
    const keys = ["one", "two"].map((name) => {
      createRootKeyFile(path.join(dir, name));
      return openRootKeyFile(path.join(dir, name));
    });
    const [one, two] = keys;
    if (one === undefined || two === undefined) throw new Error("expected two keys");
    expect(one.id).not.toBe(two.id);
    await expect(two.unwrap(await one.wrap(material, context), context)).rejects.toMatchObject(unavailable);
  });

  test.each([
    ["is missing", undefined, 0o600, "does not exist"],
    ["is readable by others", Buffer.alloc(32).toString("base64"), 0o640, "mode to 0600"],
    ["is too short", Buffer.alloc(31).toString("base64"), 0o600, "31 bytes instead of 32"],
    ["is too long", Buffer.alloc(33).toString("base64"), 0o600, "33 bytes instead of 32"],
    ["is not base64", `${"k".repeat(42)}!=`, 0o600, "not base64"],
    ["is empty", "", 0o600, "0 bytes"],
  ])("a file that %s is refused with the reason", (_, text, mode, reason) => {
    const file = path.join(dir, "root.key");
    if (text !== undefined) {
      writeFileSync(file, text);
      chmodSync(file, mode);
    }
    expect(() => openRootKeyFile(file)).toThrow(expect.objectContaining(unavailable));
    expect(() => openRootKeyFile(file)).toThrow(reason);
  });

  const pod = { uid: 65532, groups: [65532] };
  test.each([
    ["its own", { mode: 0o100600, uid: 65532, gid: 65532 }, pod, false],
    ["its own, and its group may read it", { mode: 0o100640, uid: 65532, gid: 65532 }, pod, true],
    ["a Secret's in a volume of its pod", { mode: 0o100440, uid: 0, gid: 65532 }, pod, false],
    ["the same, of another group", { mode: 0o100440, uid: 0, gid: 1000 }, pod, true],
    ["the same, which all may read", { mode: 0o100444, uid: 0, gid: 65532 }, pod, true],
    ["the same, which the group may write", { mode: 0o100460, uid: 0, gid: 65532 }, pod, true],
    ["somebody else's, who gave it to the group", { mode: 0o100440, uid: 1000, gid: 65532 }, pod, true],
    ["root's, and the group of root may read it", { mode: 0o100640, uid: 0, gid: 0 }, { uid: 0, groups: [0] }, true],
  ])("a file is the program's alone or not: %s", (_, file, by, may) => {
    expect(othersMayRead(file, by)).toBe(may);
  });
});

describe("passphrase", () => {
  const passphrase = "correct horse battery staple";

  test("the same passphrase and parameters give the same key", async () => {
    const file = path.join(dir, "scrypt.json");
    createScryptParametersFile(file);
    expect(() => createScryptParametersFile(file)).toThrow(expect.objectContaining({ code: "EEXIST" }));
    const one = await openPassphrase(passphrase, readScryptParametersFile(file));
    const two = await openPassphrase(passphrase, readScryptParametersFile(file));
    expect(one.id).toMatch(/^passphrase:[0-9a-f]{16}$/);
    expect(two.id).toBe(one.id);
    expect(await two.unwrap(await one.wrap(material, context), context)).toEqual(material);
  });

  test("parameters that are half written are refused with the file's name", () => {
    const file = path.join(dir, "scrypt.json");
    writeFileSync(file, '{"salt":');
    expect(() => readScryptParametersFile(file)).toThrow(expect.objectContaining(unavailable));
    expect(() => readScryptParametersFile(file)).toThrow(`scrypt parameters in ${file}: it cannot be read`);
  });

  test("another passphrase, another salt or another cost give another key", async () => {
    const parameters = newScryptParameters();
    const keys = await Promise.all([
      openPassphrase(passphrase, parameters),
      openPassphrase(`${passphrase}!`, parameters),
      openPassphrase(passphrase, newScryptParameters()),
      openPassphrase(passphrase, { ...parameters, N: 2 ** 18 }),
    ]);
    expect(new Set(keys.map(({ id }) => id)).size).toBe(4);
  });

  test("composed and decomposed characters are the same passphrase", async () => {
    const parameters = newScryptParameters();
    const [composed, decomposed] = await Promise.all([
      openPassphrase("Schl\u00fcsselbund der Bank", parameters),
      openPassphrase("Schlu\u0308sselbund der Bank", parameters),
    ]);
    expect(composed.id).toBe(decomposed.id);
  });

  test.each([
    ["a short passphrase", "too short", {}],
    ["a low cost", passphrase, { N: 2 ** 16 }],
    ["a cost that is no power of two", passphrase, { N: 2 ** 17 + 1 }],
    ["a cost that would exhaust the memory", passphrase, { N: 2 ** 30 }],
    ["a short salt", passphrase, { salt: "AAAA" }],
    ["other block sizes", passphrase, { r: 1 }],
  ])("%s is refused", async (_, text, change) => {
    await expect(openPassphrase(text, { ...newScryptParameters(), ...change })).rejects.toMatchObject(unavailable);
  });
});
