/** What GnuTLS says, in few words. */
import { type Answer, ask, type Program } from "./programs.ts";

/** A chain with the CRLs beside it, all in one PEM file, leaf first: `trusted`, `revoked`, or what else is wrong. */
export async function verifyChain(certtool: Program, file: string): Promise<string> {
  return verdict(await ask(certtool, ["--verify-chain", "--verify-profile", "medium", "--infile", file]));
}

/** A chain under a trusted certificate, for a purpose (and a name): `trusted`, or what is wrong. */
export async function verifyFor(
  certtool: Program,
  trusted: string,
  options: readonly string[],
  file: string,
): Promise<string> {
  const common = ["--verify", "--verify-profile", "medium", "--load-ca-certificate", trusted, "--infile", file];
  return verdict(await ask(certtool, [...common, ...options]));
}

/** A CRL in PEM. */
export async function verifyCrl(certtool: Program, issuer: string, file: string): Promise<string> {
  return verdict(await ask(certtool, ["--verify-crl", "--load-ca-certificate", issuer, "--infile", file]));
}

const VERDICTS: readonly (readonly [RegExp, string])[] = [
  [/^ Verified\. The certificate is trusted\. $/, "trusted"],
  [/^ Not verified\. The certificate is NOT trusted\. The certificate chain is revoked\. $/, "revoked"],
  [/The signature in the certificate is invalid\./, "signature invalid"],
  [/The certificate chain does not match the intended purpose\./, "wrong purpose"],
];

function verdict(answer: Answer): string {
  const last = [...answer.output.matchAll(/^\s*(?:Chain v|V)erification output:(.*)$/gm)].at(-1)?.[1] ?? "";
  const known = VERDICTS.find(([pattern]) => pattern.test(last))?.[1];
  if (known === undefined || answer.ok !== (known === "trusted")) return unclear(answer);
  return known;
}

/** Serial numbers (hex) that a certificate or a CRL in DER shows. */
export async function serialNumbers(certtool: Program, what: "certificate" | "crl", file: string): Promise<string[]> {
  const answer = await ask(certtool, [`--${what}-info`, "--inder", "--infile", file]);
  if (!answer.ok || /error/i.test(answer.output)) throw new Error(unclear(answer));
  return [...answer.output.matchAll(/Serial Number \(hex\): ([0-9a-f]+)$/gm)].map(([, serial]) => serial ?? "");
}

/** `good`, `revoked`: the status in an answer that holds; or why it does not. @param who `--load-trust` or `--load-signer` FILE */
export async function ocspStatus(ocsptool: Program, who: readonly string[], response: string): Promise<string> {
  const answer = await ask(ocsptool, ["--verify-response", ...who, "--load-response", response]);
  const verified = /^Verifying OCSP Response: (.+)\.$/m.exec(answer.output)?.[1];
  const status = /^\t\tCertificate Status: (.+)$/m.exec(answer.output)?.[1];
  if (verified === undefined || status === undefined || answer.ok !== (verified === "Success")) return unclear(answer);
  return answer.ok ? status : verified;
}

const unclear = ({ output }: Answer): string => `unclear: ${output}`;
