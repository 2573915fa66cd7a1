import { createHash, randomBytes } from "node:crypto";
import { TestPki } from "../pki/testing/installation.ts";
import { makeBootstrapToken, parseBootstrapToken, spkiFingerprint } from "./bootstrap-token.ts";
import { FleetRefused } from "./errors.ts";

const root = randomBytes(32);

test("a token is read as it was made, and kept as the hash of its secret alone", () => {
  const { token, hash } = makeBootstrapToken(root);
  const [prefix, secret = "", fingerprint = ""] = token.split(".");
  expect(prefix).toBe("mvg1");
  expect(Buffer.from(secret, "base64url")).toHaveLength(32);
  expect(createHash("sha256").update(Buffer.from(secret, "base64url")).digest()).toEqual(hash);
  expect(Buffer.from(fingerprint, "base64url")).toEqual(root);
  expect(parseBootstrapToken(token)).toEqual({ hash, rootFingerprint: root });
  expect(makeBootstrapToken(root).token).not.toBe(token);
});

test("a character that differs anywhere makes another token, or none", () => {
  const { token, hash } = makeBootstrapToken(root);
  for (let at = 0; at < token.length; at += 1) {
    const changed = `${token.slice(0, at)}${token[at] === "A" ? "B" : "A"}${token.slice(at + 1)}`;
    let read: ReturnType<typeof parseBootstrapToken> | undefined;
    try {
      read = parseBootstrapToken(changed);
    } catch (error) {
      expect(error).toBeInstanceOf(FleetRefused);
    }
    expect(read).not.toEqual({ hash, rootFingerprint: root });
  }
});

const { token: good } = makeBootstrapToken(root);
test.each([
  ["nothing", ""],
  ["another version", good.replace("mvg1", "mvg2")],
  ["a part too few", good.slice(0, good.lastIndexOf("."))],
  ["a part too many", `${good}.AA`],
  ["a character too few", good.slice(0, -1)],
  ["padding", `${good}=`],
  ["a line break at its end", `${good}\n`],
  ["bits after its end", `mvg1.${"A".repeat(42)}B.${"A".repeat(43)}`],
  ["characters of plain base64", good.replace(/^mvg1\.../, "mvg1.+/")],
])("%s is refused with its form, and without what was given", (_, text) => {
  let message = "";
  try {
    parseBootstrapToken(text);
  } catch (error) {
    expect(error).toBeInstanceOf(FleetRefused);
    expect(error).toMatchObject({ code: "TokenMalformed" });
    ({ message } = error as Error);
  }
  expect(message).toContain("mvg1.<secret>.<fingerprint>");
  for (const part of text.split(".").filter(({ length }) => length > 10)) expect(message).not.toContain(part);
});

test("the fingerprint is that of the key, whatever else the certificate says", async () => {
  const pki = await TestPki.start();
  const [{ spki, certificate = Buffer.alloc(0) } = { spki: Buffer.alloc(0) }] = (await pki.root()).generations;
  expect(spkiFingerprint(certificate)).toEqual(createHash("sha256").update(spki).digest());
});
