import { Unavailable } from "../errors.ts";
import { type Certificate, parseCertificate, verifySignedBy } from "./certificate.ts";
import { DerError } from "./der/reader.ts";

/**
 * The certificate of a CA of the primary, of a chain in which each is signed by the one that follows, and the last one by itself.
 *
 * @param chain DER
 * @throws Unavailable PrimaryAnswerInvalid
 */
export function judgePrimaryChain(chain: readonly Buffer[]): Certificate {
  const invalid = (what: string) =>
    new Unavailable("PrimaryAnswerInvalid", `what the primary tells of its CA ${what}; look at its ClusterIssuer`);
  let path: readonly Certificate[];
  try {
    path = chain.map(parseCertificate);
  } catch (error) {
    if (!(error instanceof DerError)) throw error;
    throw invalid("is no certificate");
  }
  const [ca] = path;
  const isChain = path.every((each, at) => {
    const above = path[at + 1] ?? each;
    return each.issuerDer.equals(above.subjectDer) && verifySignedBy(each, above.spki);
  });
  if (ca?.basicConstraints?.ca !== true || !isChain) throw invalid("is not a CA's certificate with those above it");
  return ca;
}
