import { readFileSync, renameSync, writeFileSync } from "node:fs";
import type { CertificateFiles } from "../pki.ts";

/** Who a kubeconfig speaks for: a client certificate, or a token read from a file that is kept fresh. */
export type Credentials = CertificateFiles | { readonly tokenFile: string };

/** Writes a kubeconfig with one context, readable by its owner only. JSON is YAML. */
export function writeKubeconfig(
  file: string,
  cluster: { readonly url: string; readonly caFile: string },
  user: { readonly name: string; readonly credentials: Credentials; readonly namespace?: string },
): void {
  const { credentials } = user;
  const authentication =
    "tokenFile" in credentials
      ? { tokenFile: credentials.tokenFile }
      : {
          "client-certificate-data": base64(credentials.certFile),
          "client-key-data": base64(credentials.keyFile),
        };
  const config = {
    apiVersion: "v1",
    kind: "Config",
    clusters: [{ name: "lab", cluster: { server: cluster.url, "certificate-authority-data": base64(cluster.caFile) } }],
    users: [{ name: user.name, user: authentication }],
    contexts: [
      {
        name: "lab",
        context: {
          cluster: "lab",
          user: user.name,
          ...(user.namespace === undefined ? {} : { namespace: user.namespace }),
        },
      },
    ],
    "current-context": "lab",
  };
  writeFileSync(`${file}.new`, `${JSON.stringify(config, undefined, 2)}\n`, { mode: 0o600 });
  renameSync(`${file}.new`, file);
}

function base64(file: string): string {
  return readFileSync(file).toString("base64");
}
