import { createHash, createHmac, pbkdf2Sync } from "node:crypto";
import { Sensitive } from "../sensitive.ts";
import { scramVerifier } from "./scram.ts";

test("is the verifier of RFC 7677's example, but for its password", async () => {
  // There: user "user", password "pencil", salt and 4096 iterations as here; the proof of its client must be accepted.
  const salt = Buffer.from("W22ZaJ0SNY7soEsUEjb6gQ==", "base64");
  const verifier = await scramVerifier(new Sensitive("pencil"), salt);
  const [, storedKey = ""] = /^SCRAM-SHA-256\$4096:W22ZaJ0SNY7soEsUEjb6gQ==\$([^:]+):/.exec(verifier) ?? [];
  const authMessage = [
    "n=user,r=rOprNGfwEbeRWgbNEkqO",
    "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096",
    "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0",
  ].join(",");
  const proof = Buffer.from("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=", "base64");
  const signature = createHmac("sha256", Buffer.from(storedKey, "base64")).update(authMessage).digest();
  const clientKey = proof.map((byte, index) => byte ^ (signature[index] ?? 0));
  expect(createHash("sha256").update(clientKey).digest("base64")).toBe(storedKey);

  const [, serverKey = ""] = /:([^:]+)$/.exec(verifier) ?? [];
  const answer = createHmac("sha256", Buffer.from(serverKey, "base64")).update(authMessage).digest("base64");
  expect(answer).toBe("6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
});

test("has another salt each time, and none of the password", async () => {
  const password = new Sensitive("correct horse battery staple");
  const [one, two] = [await scramVerifier(password), await scramVerifier(password)];
  expect(one).not.toBe(two);
  const [, salt = ""] = /:([^$]+)\$/.exec(one) ?? [];
  const salted = pbkdf2Sync(password.reveal(), Buffer.from(salt, "base64"), 4_096, 32, "sha256");
  expect(one).toContain(createHmac("sha256", salted).update("Server Key").digest("base64"));
  expect(one).not.toContain("horse");
});
