/** What OpenSSL says, in few words. */
import { type Answer, ask, openssl } from "./programs.ts";

/** `OK`, or why not and where: `certificate revoked at 0`. Depth 0 is the certificate itself. */
export async function verify(options: readonly string[], certificate: string): Promise<string> {
  const answer = await ask(openssl, ["verify", ...options, certificate]);
  const errors = [...answer.output.matchAll(/^error \d+ at (\d+) depth lookup: (.+)$/gm)];
  if (answer.ok && answer.output === `${certificate}: OK\n`) return "OK";
  return errors.length > 0 ? errors.map(([, depth, what]) => `${what} at ${depth}`).join(", ") : unclear(answer);
}

/** `good`, `revoked (keyCompromise)`: the status of a certificate in an answer whose signature holds; or why it does not. */
export async function ocspStatus(options: readonly string[], certificate: string, response: string): Promise<string> {
  const args = ["ocsp", ...options, "-cert", certificate, "-respin", response, "-no_nonce"];
  const answer = await ask(openssl, args);
  const { output } = answer;
  if (/^Response Verify Failure$/m.test(output)) return "Response Verify Failure";
  const status = output.split("\n").find((line) => line.startsWith(`${certificate}: `));
  const reason = /^\tReason: (.+)$/m.exec(output)?.[1];
  if (!answer.ok || !/^Response verify OK$/m.test(output) || /WARNING|rror/.test(output)) return unclear(answer);
  return `${status?.slice(certificate.length + 2)}${reason === undefined ? "" : ` (${reason})`}`;
}

/** A CRL: whether its signature holds, its number, and what is in it as `SERIAL reason`, serial numbers in hex. */
export async function crl(
  issuers: string,
  file: string,
): Promise<{ signature: string; number: string; entries: string[] }> {
  const answer = await ask(openssl, ["crl", "-in", file, "-inform", "DER", "-CAfile", issuers, "-noout", "-text"]);
  const { output } = answer;
  const entries = output.split("    Serial Number: ").slice(1);
  return {
    signature: /^verify OK$/m.test(output) ? "verify OK" : unclear(answer),
    number: /X509v3 CRL Number: *\n +(\d+)/.exec(output)?.[1] ?? "none",
    entries: entries.map((entry) => {
      const reason = /X509v3 CRL Reason Code: *\n +(.+)/.exec(entry)?.[1] ?? "Unspecified";
      return `${entry.slice(0, entry.indexOf("\n")).toLowerCase()} ${reason}`;
    }),
  };
}

const unclear = ({ output }: Answer): string => `unclear: ${output}`;
