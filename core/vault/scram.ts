/** What PostgreSQL stores of a password (RFC 5802, RFC 7677): made here, so that the password itself is in no statement. */
import { createHash, createHmac, pbkdf2, randomBytes } from "node:crypto";
import { promisify } from "node:util";
import type { Sensitive } from "../sensitive.ts";

const derive = promisify(pbkdf2);

/** PostgreSQL's own number. What is generated has more entropy than anybody can try. */
const ITERATIONS = 4_096;
const SALT_BYTES = 16;
const KEY_BYTES = 32;

/** In the form of `pg_authid.rolpassword`. */
export async function scramVerifier(password: Sensitive, salt: Buffer = randomBytes(SALT_BYTES)): Promise<string> {
  // SASLprep, as far as it concerns what can be generated.
  const prepared = Buffer.from(password.revealText().normalize("NFKC"), "utf8");
  const salted = await derive(prepared, salt, ITERATIONS, KEY_BYTES, "sha256");
  try {
    const clientKey = createHmac("sha256", salted).update("Client Key").digest();
    const storedKey = createHash("sha256").update(clientKey).digest("base64");
    const serverKey = createHmac("sha256", salted).update("Server Key").digest("base64");
    return `SCRAM-SHA-256$${ITERATIONS}:${salt.toString("base64")}$${storedKey}:${serverKey}`;
  } finally {
    prepared.fill(0);
    salted.fill(0);
  }
}
