/** Requests that are signed once, for whoever has the key. */
import { setTimeout as delay } from "node:timers/promises";
import { z } from "zod";
import { resourceType } from "../../../controllers/runtime/resource-type.ts";
import { issuerRef } from "../../../crds/certificate.ts";
import {
  type CertificateRequest,
  certificateRequestKind,
  certificateRequestSpec,
} from "../../../crds/certificaterequest.ts";
import { API_VERSION } from "../../../crds/common.ts";
import { type Call, type Input, route } from "../route.ts";
import { FIELD_MANAGER, TAG } from "./certificates.ts";
import { inNamespace, readinessOf } from "./names.ts";

const requests = resourceType(certificateRequestKind);

interface Place {
  readonly namespace: string;
  readonly name: string;
}

const signed = z.strictObject({
  namespace: z.string(),
  name: z.string().meta({ description: "Name of the CertificateRequest; ask for it again by this." }),
  state: z.enum(["Pending", "Signed", "Refused"]).meta({
    description: "Pending: the issuer waits for an approval, or for something that its message names.",
  }),
  certificate: z
    .string()
    .optional()
    .meta({ description: "The certificate and the CAs above it without the root, in PEM." }),
  ca: z.string().optional().meta({ description: "The root, in PEM." }),
  serialNumber: z.string().optional(),
  notAfter: z.string().optional(),
  reason: z.string(),
  message: z.string(),
});

const shownRequest = (request: CertificateRequest): z.infer<typeof signed> => {
  const { metadata, status = {} } = request;
  const { certificate, ca, serialNumber, notAfter, conditions } = status;
  const { reason, message } = readinessOf(request);
  const stalled = conditions?.some(({ type, status: holds }) => type === "Stalled" && holds === "True") === true;
  return {
    namespace: metadata.namespace ?? "",
    name: metadata.name,
    state: certificate !== undefined ? "Signed" : stalled ? "Refused" : "Pending",
    ...(certificate !== undefined && { certificate }),
    ...(ca !== undefined && { ca }),
    ...(serialNumber !== undefined && { serialNumber }),
    ...(notAfter !== undefined && { notAfter }),
    reason,
    message,
  };
};

/** How long an answer waits for the signature before it says Pending. */
const PATIENCE_MS = 5_000;
const LOOK_EVERY_MS = 50;

async function settled(place: Place, { services, signal }: Call<Input>): Promise<CertificateRequest> {
  const until = performance.now() + PATIENCE_MS;
  for (;;) {
    const request = await services.api.get<CertificateRequest>(requests, place, { signal });
    if (shownRequest(request).state !== "Pending" || performance.now() > until) return request;
    await delay(LOOK_EVERY_MS, undefined, { signal });
  }
}

export const certificateRequestRoutes = [
  route({
    id: "issueCertificate",
    method: "post",
    path: "/api/v1/namespaces/{namespace}/certificate-requests",
    tag: TAG,
    summary: "Has a PKCS #10 request signed.",
    params: inNamespace.pick({ namespace: true }),
    body: z.strictObject({
      name: inNamespace.shape.name.meta({ description: "Name of the CertificateRequest to make." }),
      request: certificateRequestSpec.shape.request,
      issuerRef: z.strictObject(issuerRef.shape).meta({ description: "Who signs it." }),
      duration: certificateRequestSpec.shape.duration,
      usages: certificateRequestSpec.shape.usages,
      profile: certificateRequestSpec.shape.profile,
    }),
    access: {
      kind: "Allowed",
      verb: "issue",
      target: ({ params, body }) => ({ kind: "Certificate", namespace: params.namespace, name: body.name }),
    },
    answers: {
      201: { description: "It is signed, or refused, or waits for an approval.", schema: signed },
    },
    problems: [404, 409, 422],
    handle: async (call) => {
      const { input, services, signal, assertMay, announce } = call;
      const { name, ...given } = input.body;
      const place = { namespace: input.params.namespace, name };
      // The object is made in the operator's name, so nobody after us asks whether the author may use this issuer.
      await assertMay("issue", { kind: "Issuer", namespace: place.namespace, name: given.issuerRef.name });
      await announce("Create", { kind: "Certificate", ...place });
      const spec = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined));
      await services.api.create(
        requests,
        { apiVersion: API_VERSION, kind: "CertificateRequest", metadata: place, spec },
        { fieldManager: FIELD_MANAGER, signal },
      );
      return { status: 201, body: shownRequest(await settled(place, call as Call<Input>)) };
    },
  }),
  route({
    id: "getCertificateRequest",
    method: "get",
    path: "/api/v1/namespaces/{namespace}/certificate-requests/{name}",
    tag: TAG,
    summary: "What became of a request.",
    params: inNamespace,
    access: { kind: "Allowed", verb: "list", target: ({ params }) => ({ kind: "Certificate", ...params }) },
    answers: { 200: { description: "The request, and the certificate once it is signed.", schema: signed } },
    problems: [404],
    handle: async ({ input, services, signal }) => ({
      status: 200,
      body: shownRequest(await services.api.get<CertificateRequest>(requests, input.params, { signal })),
    }),
  }),
];
