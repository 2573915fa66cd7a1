/** What a core Secret of a type must hold, as far as the API server does not look itself. */
import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import { Stalled } from "../../core/errors.ts";
import type { Sensitive } from "../../core/sensitive.ts";
import type { DesiredDelivery } from "../delivery/desired.ts";

/**
 * The API server takes anything under the keys of a kubernetes.io/tls Secret, and whoever serves with it fails later.
 *
 * @param values by entry key
 * @throws Stalled ValueInvalid, naming the entry
 */
export function assertFitsType({ type, keys, field }: DesiredDelivery, values: ReadonlyMap<string, Sensitive>): void {
  if (type !== "kubernetes.io/tls") return;
  const delivered = (to: string): { entry: string; pem: Buffer } => {
    const entry = keys.find((key) => key.to === to)?.from ?? to;
    return { entry, pem: values.get(entry)?.reveal() ?? Buffer.alloc(0) };
  };
  const chain = delivered("tls.crt");
  const privateKey = delivered("tls.key");
  const certificate = parse(field, chain.entry, "tls.crt a PEM certificate", () => new X509Certificate(chain.pem));
  const key = parse(field, privateKey.entry, "tls.key an unencrypted PEM private key", () =>
    createPrivateKey(privateKey.pem),
  );
  if (!certificate.checkPrivateKey(key)) {
    throw invalid(field, `tls.key the private key of the certificate in tls.crt`, privateKey.entry);
  }
}

function parse<T extends X509Certificate | KeyObject>(field: string, entry: string, needs: string, read: () => T): T {
  try {
    return read();
  } catch {
    // The cause may quote what it could not read.
    throw invalid(field, needs, entry);
  }
}

const invalid = (field: string, needs: string, entry: string): Stalled =>
  new Stalled("ValueInvalid", `${field}.type: kubernetes.io/tls needs in ${needs}; correct the entry ${entry}`);
