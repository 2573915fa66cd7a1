/** Certificates that are kept valid, and requests that are signed once. A private key leaves in a keystore only, and is on record before. */
import { setTimeout as delay } from "node:timers/promises";
import { z } from "zod";
import { keystoreOf, passwordFault } from "../../../controllers/certificate/keystores.ts";
import { resourceType } from "../../../controllers/runtime/resource-type.ts";
import type { Target } from "../../../core/access/policy.ts";
import { parseCertificate } from "../../../core/pki/certificate.ts";
import { pem } from "../../../core/pki/pem.ts";
import { type CertificateRecord, PkiConflict } from "../../../core/ports/pki-store.ts";
import { UNLED } from "../../../core/ports/vault-store.ts";
import { Sensitive } from "../../../core/sensitive.ts";
import { type Certificate, certificateKind, issuerRef, REVOCATION_REASONS } from "../../../crds/certificate.ts";
import {
  type CertificateRequest,
  certificateRequestKind,
  certificateRequestSpec,
} from "../../../crds/certificaterequest.ts";
import { API_VERSION, labelName } from "../../../crds/common.ts";
import { pageOf, pageQuery, visiblePage } from "../page.ts";
import { Problem } from "../problem.ts";
import { type Call, type Input, route } from "../route.ts";
import type { Services } from "../services.ts";
import { inNamespace, readiness, readinessOf } from "./names.ts";

const TAG = "Certificates";
const PATH = "/api/v1/namespaces/{namespace}/certificates/{name}";
const FIELD_MANAGER = "mazevault-rest";
const KEYSTORE_TYPES = { pkcs12: "application/x-pkcs12", jks: "application/x-java-keystore" } as const;
const PEM_CHAIN = "application/pem-certificate-chain";
const requests = resourceType(certificateRequestKind);

const summary = z.strictObject({
  namespace: z.string(),
  name: z.string(),
  issuer: z.string().meta({ description: "Kind and name of the issuer." }),
  serialNumber: z.string().optional(),
  notBefore: z.string().optional(),
  notAfter: z.string().optional(),
  renewalTime: z.string().optional(),
  revision: z.int().optional(),
  ...readiness,
});

const shown = (certificate: Certificate): z.infer<typeof summary> => {
  const { metadata, spec, status = {} } = certificate;
  const { serialNumber, notBefore, notAfter, renewalTime, revision } = status;
  return {
    namespace: metadata.namespace ?? "",
    name: metadata.name,
    issuer: `${spec.issuerRef.kind ?? "Issuer"} ${spec.issuerRef.name}`,
    ...(serialNumber !== undefined && { serialNumber }),
    ...(notBefore !== undefined && { notBefore }),
    ...(notAfter !== undefined && { notAfter }),
    ...(renewalTime !== undefined && { renewalTime }),
    ...(revision !== undefined && { revision }),
    ...readinessOf(certificate),
  };
};

interface Place {
  readonly namespace: string;
  readonly name: string;
}

const target = ({ params }: { params: Place }): Target => ({ kind: "Certificate", ...params });

function theCertificate({ namespace, name }: Place, { view }: Services): Certificate {
  const found = view.certificate(namespace, name);
  if (found === undefined) throw new Problem(404, "NotFound", `there is no Certificate ${namespace}/${name}`);
  return found;
}

/** The newest certificate, with the CAs above it. */
async function issued(
  place: Place,
  services: Services,
): Promise<{ record: CertificateRecord; chain: readonly Buffer[] }> {
  const { metadata, status } = theCertificate(place, services);
  const [record] = await services.pki.certificatesOf(metadata.uid, 1);
  const authority = record && (await services.pki.authority(record.authorityId));
  const generation = authority?.generations.find(({ number }) => number === record?.generation);
  if (record?.certificate === undefined || generation?.certificate === undefined || status === undefined) {
    throw new Problem(404, "NotIssued", `nothing is issued for Certificate ${place.namespace}/${place.name} yet`);
  }
  return { record, chain: [record.certificate, generation.certificate, ...generation.chain] };
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

export const certificateRoutes = [
  route({
    id: "listCertificates",
    method: "get",
    path: "/api/v1/certificates",
    tag: TAG,
    summary: "Certificates.",
    query: z.object({ namespace: labelName.optional().meta({ description: "Only in this namespace." }), ...pageQuery }),
    access: { kind: "Filtered", verb: "list" },
    answers: { 200: { description: "A page of them, by namespace and name.", schema: pageOf(summary) } },
    handle: async ({ input, services, may, hasNoGrant }) => {
      const { namespace } = input.query;
      const mayShow = ({ metadata: { namespace: where = "", name } }: Certificate) =>
        (namespace === undefined || where === namespace) &&
        may("list", { kind: "Certificate", namespace: where, name }).allowed;
      const keyOf = ({ metadata }: Certificate) => `${metadata.namespace}/${metadata.name}`;
      const certificates = hasNoGrant ? [] : services.view.certificates();
      return { status: 200, body: await visiblePage(certificates, keyOf, input.query, mayShow, shown) };
    },
  }),
  route({
    id: "getCertificate",
    method: "get",
    path: PATH,
    tag: TAG,
    summary: "One certificate.",
    params: inNamespace,
    access: { kind: "Allowed", verb: "list", target },
    answers: { 200: { description: "What is known of it.", schema: summary } },
    problems: [404],
    handle: async ({ input, services }) => ({ status: 200, body: shown(theCertificate(input.params, services)) }),
  }),
  route({
    id: "getCertificateChain",
    method: "get",
    path: `${PATH}/chain`,
    tag: TAG,
    summary: "The certificate and the CAs above it, in PEM (RFC 8555, section 9.1).",
    params: inNamespace,
    access: { kind: "Allowed", verb: "list", target },
    answers: { 200: { description: "The certificate first, the root last.", type: PEM_CHAIN } },
    problems: [404],
    handle: async ({ input, services }) => {
      const { chain } = await issued(input.params, services);
      const text = chain.map((der) => pem("CERTIFICATE", der)).join("");
      return { status: 200, stream: { type: PEM_CHAIN, pieces: once(text) } };
    },
  }),
  route({
    id: "getCertificateKeystore",
    method: "post",
    path: `${PATH}/keystore`,
    tag: TAG,
    summary: "The certificate with its private key and its chain, in a keystore under the caller's password.",
    description: "That the key was read is on record before it leaves. Only keys that were made here can be had.",
    safe: true,
    params: inNamespace,
    body: z.strictObject({
      format: z.enum(["pkcs12", "jks"]).meta({ description: "PKCS#12 (RFC 7292), or Java's own." }),
      password: z
        .string()
        .min(1)
        .max(1024)
        .meta({ description: "Of the keystore and the key in it.", format: "password" }),
    }),
    access: { kind: "Allowed", verb: "read", target },
    answers: {
      200: { description: "The keystore.", type: KEYSTORE_TYPES.pkcs12, otherTypes: [KEYSTORE_TYPES.jks] },
    },
    problems: [404, 409],
    handle: async ({ input, services, actor, grant }) => {
      const { format, password: given } = input.body;
      const password = new Sensitive(given);
      const fault = passwordFault(format, password);
      if (fault !== undefined) {
        const errors = [{ field: "body.password", message: fault }];
        throw new Problem(400, "InvalidRequest", `body.password: ${fault}`, { errors });
      }
      const { record, chain } = await issued(input.params, services);
      const [own = Buffer.alloc(0)] = chain;
      const purpose = `REST, ${format}: ${grant}`;
      const privateKey = await services.authorities
        .openKey(UNLED, record, { actor, purpose })
        .catch((error: unknown) => {
          if (!(error instanceof PkiConflict)) throw error;
          throw new Problem(409, "KeyNotKept", "the private key is not kept here any more, or never was");
        });
      // Servers send the chain without the root, which clients must know anyway (RFC 8446, section 4.4.2).
      const sent = chain.length > 2 ? chain.slice(0, -1) : [own];
      const contents = { privateKey, chain: sent, createdAt: parseCertificate(own).notBefore };
      const store = await keystoreOf(format, contents, password);
      return { status: 200, stream: { type: KEYSTORE_TYPES[format], pieces: once(store.reveal()) } };
    },
  }),
  route({
    id: "revokeCertificate",
    method: "post",
    path: `${PATH}/revoke`,
    tag: TAG,
    summary: "Revokes a certificate; unless it is only on hold, another one takes its place at once.",
    params: inNamespace,
    body: z.strictObject({
      serialNumber: z
        .string()
        .min(2)
        .max(59)
        .regex(/^[0-9A-Fa-f]{2}(:?[0-9A-Fa-f]{2})*$/, "must be the bytes in hexadecimal, such as 3f:0a:77")
        .optional()
        .meta({ description: "The current one when absent." }),
      reason: z.enum(REVOCATION_REASONS).meta({ description: "As RFC 5280, section 5.3.1, has them." }),
    }),
    access: { kind: "Allowed", verb: "revoke", target },
    answers: {
      200: { description: "It is asked for; the certificate's status tells when it is done.", schema: summary },
    },
    problems: [404, 409, 422],
    handle: async ({ input, services, signal, announce }) => {
      const certificate = theCertificate(input.params, services);
      const serialNumber = input.body.serialNumber ?? certificate.status?.serialNumber;
      if (serialNumber === undefined) throw new Problem(409, "NotIssued", "there is no certificate yet to revoke");
      const { namespace = "", name, resourceVersion } = certificate.metadata;
      const others = (certificate.spec.revocations ?? []).filter((each) => each.serialNumber !== serialNumber);
      const revocations = [...others, { serialNumber, reason: input.body.reason }];
      await announce("Change", target(input));
      const changed = await services.api.mergePatch<Certificate>(
        resourceType(certificateKind),
        { namespace, name },
        { metadata: { resourceVersion }, spec: { revocations } },
        { fieldManager: FIELD_MANAGER, signal },
      );
      return { status: 200, body: shown(changed) };
    },
  }),
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
    access: { kind: "Allowed", verb: "list", target },
    answers: { 200: { description: "The request, and the certificate once it is signed.", schema: signed } },
    problems: [404],
    handle: async ({ input, services, signal }) => ({
      status: 200,
      body: shownRequest(await services.api.get<CertificateRequest>(requests, input.params, { signal })),
    }),
  }),
];

async function* once<T>(piece: T): AsyncGenerator<T> {
  yield piece;
}
