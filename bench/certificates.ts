/** Certificates as people write them, of one CA that may sign for the tenant. */
import { resourceType } from "../controllers/runtime/resource-type.ts";
import { certificateKind } from "../crds/certificate.ts";
import { API_VERSION } from "../crds/common.ts";
import { inFlight, range } from "./in-flight.ts";
import { IN_FLIGHT, type Stage, TENANT } from "./stage.ts";

export const certificates = resourceType(certificateKind);
export const leafName = (purpose: string, index: number): string => `${purpose}-${index}`;

/** An operator must be at work. */
export async function makeIssuer({ world }: Stage): Promise<void> {
  await world.apply({
    apiVersion: API_VERSION,
    kind: "ClusterIssuer",
    metadata: { name: TENANT },
    spec: {
      ca: { subject: { commonName: TENANT } },
      policy: { profiles: ["Server"], dnsNames: ["*.{namespace}.svc"] },
      namespaces: { names: [TENANT] },
    },
  });
  await world.waitReady("clusterissuer.mazevault.io", TENANT);
}

/** As fast as the API server takes them. */
export async function applyCertificates({ api }: Stage, purpose: string, count: number): Promise<void> {
  await inFlight(IN_FLIGHT, range(count), (index) =>
    api.create(certificates, leaf(leafName(purpose, index)), { metadataOnly: true }),
  );
}

const leaf = (name: string) => ({
  apiVersion: API_VERSION,
  kind: "Certificate",
  metadata: { namespace: TENANT, name },
  spec: {
    secretName: `${name}-tls`,
    issuerRef: { kind: "ClusterIssuer" as const, name: TENANT },
    dnsNames: [`${name}.${TENANT}.svc`],
    privateKey: { algorithm: "ECDSA" as const, size: 256 },
  },
});
