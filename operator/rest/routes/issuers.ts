/** Issuers, and the CRLs of their CAs. */
import { z } from "zod";
import type { Target } from "../../../core/access/policy.ts";
import type { AnyIssuer } from "../../../crds/issuer.ts";
import { pageOf, pageQuery, visiblePage } from "../page.ts";
import { Problem } from "../problem.ts";
import { route } from "../route.ts";
import { readiness, readinessOf } from "./names.ts";

const CRL_TYPE = "application/pkix-crl";

const summary = z.strictObject({
  kind: z.enum(["Issuer", "ClusterIssuer"]),
  namespace: z.string().optional(),
  name: z.string(),
  serialNumber: z.string().optional().meta({ description: "Of the CA's certificate." }),
  notAfter: z.string().optional(),
  ...readiness,
});

const kindOf = ({ metadata }: AnyIssuer) => (metadata.namespace === undefined ? "ClusterIssuer" : "Issuer");

const shown = (issuer: AnyIssuer): z.infer<typeof summary> => {
  const { metadata, status = {} } = issuer;
  const { serialNumber, notAfter } = status as { serialNumber?: string; notAfter?: string };
  return {
    kind: kindOf(issuer),
    ...(metadata.namespace !== undefined && { namespace: metadata.namespace }),
    name: metadata.name,
    ...(serialNumber !== undefined && { serialNumber }),
    ...(notAfter !== undefined && { notAfter }),
    ...readinessOf(issuer),
  };
};

const targetOf = ({ metadata: { namespace, name } }: AnyIssuer): Target => ({
  kind: "Issuer",
  ...(namespace !== undefined && { namespace }),
  name,
});

export const issuerRoutes = [
  route({
    id: "listIssuers",
    method: "get",
    path: "/api/v1/issuers",
    tag: "Issuers",
    summary: "Issuers and ClusterIssuers.",
    query: z.object(pageQuery),
    access: { kind: "Filtered", verb: "list" },
    answers: { 200: { description: "A page of them.", schema: pageOf(summary) } },
    handle: async ({ input, services, may, hasNoGrant }) => {
      const all: AnyIssuer[] = hasNoGrant ? [] : [...services.view.issuers(), ...services.view.clusterIssuers()];
      const mayShow = (issuer: AnyIssuer) => may("list", targetOf(issuer)).allowed;
      const keyOf = (issuer: AnyIssuer) => `${issuer.metadata.namespace ?? ""}/${issuer.metadata.name}`;
      return { status: 200, body: await visiblePage(all, keyOf, input.query, mayShow, shown) };
    },
  }),
  route({
    id: "getCrl",
    method: "get",
    path: "/api/v1/authorities/{authority}/crls/{generation}/{partition}",
    tag: "Issuers",
    summary: "A CRL in DER, as the OCSP responder publishes it.",
    description: "What revokes is public (RFC 5280), so whoever is logged in may have it.",
    params: z.object({
      authority: z.uuid().meta({ description: "Id of the CA, as its CRL's URL has it." }),
      generation: z.coerce.number().int().min(1).max(1_000_000).meta({ description: "Number of the CA's key." }),
      partition: z.coerce.number().int().min(0).max(1_000_000).meta({ description: "Number of the part." }),
    }),
    access: { kind: "Authenticated" },
    answers: { 200: { description: "The CRL.", type: CRL_TYPE } },
    problems: [404],
    handle: async ({ input, services }) => {
      const { authority, generation, partition } = input.params;
      const found = await services.pki.crl({ authorityId: authority, generation, partition });
      if (found === undefined) throw new Problem(404, "NotFound", "there is no such CRL");
      return { status: 200, stream: { type: CRL_TYPE, pieces: once(found.der) } };
    },
  }),
];

async function* once(der: Buffer): AsyncGenerator<Buffer> {
  yield der;
}
