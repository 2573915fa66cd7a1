/** Certificates that are kept valid. That a private key was read is on record before it leaves. */
import type { KeyObject } from "node:crypto";
import { z } from "zod";
import { keystoreOf, passwordFault } from "../../../controllers/certificate/keystores.ts";
import { resourceType } from "../../../controllers/runtime/resource-type.ts";
import type { Target } from "../../../core/access/policy.ts";
import type { HeldCertificate } from "../../../core/fleet/replica-directory.ts";
import { parseCertificate } from "../../../core/pki/certificate.ts";
import { pem } from "../../../core/pki/pem.ts";
import { serialToText } from "../../../core/pki/serial.ts";
import { type CertificateRecord, PkiConflict } from "../../../core/ports/pki-store.ts";
import { UNLED } from "../../../core/ports/vault-store.ts";
import { Sensitive } from "../../../core/sensitive.ts";
import { type Certificate, certificateKind, REVOCATION_REASONS } from "../../../crds/certificate.ts";
import { labelName } from "../../../crds/common.ts";
import { pageOf, pageQuery, visiblePage } from "../page.ts";
import { Problem } from "../problem.ts";
import { type Call, type Input, route } from "../route.ts";
import type { Services } from "../services.ts";
import { inNamespace, readiness, readinessOf } from "./names.ts";
import {
  readTarget,
  replicatedCertificateAt,
  replicatedChain,
  replicatedMaterial,
  serialOf,
  shownReplicated,
  targetOfReplicated,
} from "./replicated-certificates.ts";
import { heldNow, OF_GATEWAYS, OF_LISTS, syncedAtHeader } from "./secrets/replicated.ts";

export const TAG = "Certificates";
const PATH = "/api/v1/namespaces/{namespace}/certificates/{name}";
export const FIELD_MANAGER = "mazevault-rest";
const KEYSTORE_TYPES = { pkcs12: "application/x-pkcs12", jks: "application/x-java-keystore" } as const;
const PEM_CHAIN = "application/pem-certificate-chain";

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
  replicated: z
    .literal(true)
    .optional()
    .meta({ description: "It is the primary's, of which this gateway holds a copy." }),
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
  const [record] = await services.pki.certificatesOf(services.view.held.of("Certificate", metadata), 1);
  const authority = record && (await services.pki.authority(record.authorityId));
  const generation = authority?.generations.find(({ number }) => number === record?.generation);
  if (record?.certificate === undefined || generation?.certificate === undefined || status === undefined) {
    throw new Problem(404, "NotIssued", `nothing is issued for Certificate ${place.namespace}/${place.name} yet`);
  }
  return { record, chain: [record.certificate, generation.certificate, ...generation.chain] };
}

/** What a server needs, of a certificate that is here or at the primary. */
interface Material {
  /** Hex. */
  readonly serialNumber: string;
  /** DER, the root last. */
  readonly chain: readonly Buffer[];
  readonly privateKey: KeyObject;
}

/** That the key was read is on record before this resolves. */
async function opened(
  place: Place,
  format: string,
  { services, actor, grant }: Pick<Call<Input>, "services" | "actor" | "grant">,
): Promise<Material> {
  const purpose = `REST, ${format}: ${grant}`;
  const held = await replicatedCertificateAt(place, services);
  if (held !== undefined) return replicatedMaterial(held, purpose, { services, actor });
  const { record, chain } = await issued(place, services);
  const privateKey = await services.authorities.openKey(UNLED, record, { actor, purpose }).catch((error: unknown) => {
    if (!(error instanceof PkiConflict)) throw error;
    throw new Problem(409, "KeyNotKept", "the private key is not kept here any more, or never was");
  });
  return { serialNumber: record.serialNumber, chain, privateKey };
}

/** Servers send the chain without the root, which clients must know anyway (RFC 8446, section 4.4.2). */
const sent = (chain: readonly Buffer[]): readonly Buffer[] => (chain.length > 1 ? chain.slice(0, -1) : chain);

const inPem = (chain: readonly Buffer[]): string => chain.map((der) => pem("CERTIFICATE", der)).join("");

/** A certificate in a list, wherever it is. */
interface Listed {
  readonly place: Place;
  readonly target: Target;
  readonly show: () => z.infer<typeof summary>;
}

const ofOwn = (certificate: Certificate): Listed => {
  const place = { namespace: certificate.metadata.namespace ?? "", name: certificate.metadata.name };
  return { place, target: { kind: "Certificate", ...place }, show: () => shown(certificate) };
};

const ofPrimary = (held: HeldCertificate): Listed => ({
  place: held.certificate,
  target: targetOfReplicated(held),
  show: () => shownReplicated(held),
});

const bundle = z.strictObject({
  serialNumber: z.string().meta({ description: "Of the certificate, such as 3f:0a:77." }),
  certificate: z.string().meta({ description: "The certificate and the CAs above it without the root, in PEM." }),
  ca: z.string().meta({ description: "The root, in PEM." }),
  privateKey: z.string().meta({ description: "The private key, as PKCS #8 in PEM." }),
});

export const certificateRoutes = [
  route({
    id: "listCertificates",
    method: "get",
    path: "/api/v1/certificates",
    tag: TAG,
    summary: "Certificates.",
    query: z.object({ namespace: labelName.optional().meta({ description: "Only in this namespace." }), ...pageQuery }),
    access: { kind: "Filtered", verb: "list" },
    answers: {
      200: {
        description: "A page of them, by namespace and name.",
        schema: pageOf(summary),
        headers: { ...OF_GATEWAYS, ...OF_LISTS },
      },
    },
    handle: async ({ input, services, may, hasNoGrant }) => {
      const { view } = services;
      const { held, leftOut } = await heldNow(services.replica, (replica) => replica.listCertificates());
      const replicated = held.filter(
        ({ certificate }) => view.certificate(certificate.namespace, certificate.name) === undefined,
      );
      const listed: Listed[] = hasNoGrant ? [] : [...[...view.certificates()].map(ofOwn), ...replicated.map(ofPrimary)];
      const { namespace } = input.query;
      const body = await visiblePage(
        listed,
        ({ place }) => `${place.namespace}/${place.name}`,
        input.query,
        ({ place, target: of }) =>
          (namespace === undefined || place.namespace === namespace) && may("list", of).allowed,
        ({ show }) => show(),
      );
      const told = body.items.some((item) => item.replicated === true) ? syncedAtHeader(services) : {};
      return { status: 200, body, headers: { ...told, ...leftOut } };
    },
  }),
  route({
    id: "getCertificate",
    method: "get",
    path: PATH,
    tag: TAG,
    summary: "One certificate.",
    params: inNamespace,
    access: { kind: "Allowed", verb: "list", target: readTarget },
    answers: { 200: { description: "What is known of it.", schema: summary, headers: OF_GATEWAYS } },
    problems: [404],
    handle: async ({ input, services }) => {
      const held = await replicatedCertificateAt(input.params, services);
      if (held !== undefined) return { status: 200, body: shownReplicated(held), headers: syncedAtHeader(services) };
      return { status: 200, body: shown(theCertificate(input.params, services)) };
    },
  }),
  route({
    id: "getCertificateChain",
    method: "get",
    path: `${PATH}/chain`,
    tag: TAG,
    summary: "The certificate and the CAs above it, in PEM (RFC 8555, section 9.1).",
    params: inNamespace,
    access: { kind: "Allowed", verb: "list", target: readTarget },
    answers: {
      200: { description: "The certificate first, the root last.", type: PEM_CHAIN, headers: OF_GATEWAYS },
    },
    problems: [404],
    handle: async ({ input, services }) => {
      const held = await replicatedCertificateAt(input.params, services);
      const text =
        held === undefined
          ? inPem((await issued(input.params, services)).chain)
          : await replicatedChain(held, services);
      const headers = held === undefined ? {} : syncedAtHeader(services);
      return { status: 200, stream: { type: PEM_CHAIN, pieces: once(text) }, headers };
    },
  }),
  route({
    id: "getCertificateBundle",
    method: "get",
    path: `${PATH}/bundle`,
    tag: TAG,
    summary: "The certificate with its private key and its chain, in PEM.",
    description: "That the key was read is on record before it leaves. Only keys that were made here can be had.",
    params: inNamespace,
    access: { kind: "Allowed", verb: "read", target: readTarget },
    answers: {
      200: {
        description: "What a server needs.",
        schema: bundle,
        headers: { etag: "The serial number; for If-None-Match.", ...OF_GATEWAYS },
      },
      304: { description: "It is still the certificate that If-None-Match says. Nothing was read." },
    },
    problems: [404, 409],
    handle: async (call) => {
      const { input, services, actor, grant, ifNoneMatch } = call;
      const held = await replicatedCertificateAt(input.params, services);
      const synced = held === undefined ? {} : syncedAtHeader(services);
      if (ifNoneMatch !== undefined) {
        const current =
          held === undefined ? (await issued(input.params, services)).record.serialNumber : serialOf(held);
        if (ifNoneMatch === current) return { status: 304, headers: { etag: `"${current}"`, ...synced } };
      }
      const { serialNumber, chain, privateKey } = await opened(input.params, "pem", { services, actor, grant });
      const body: z.infer<typeof bundle> = {
        serialNumber: serialToText(Buffer.from(serialNumber, "hex")),
        certificate: inPem(sent(chain)),
        ca: inPem(chain.slice(-1)),
        privateKey: privateKey.export({ type: "pkcs8", format: "pem" }).toString(),
      };
      return { status: 200, body, headers: { etag: `"${serialNumber}"`, ...synced } };
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
    access: { kind: "Allowed", verb: "read", target: readTarget },
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
      const { chain, privateKey } = await opened(input.params, format, { services, actor, grant });
      const [own = Buffer.alloc(0)] = chain;
      const contents = { privateKey, chain: sent(chain), createdAt: parseCertificate(own).notBefore };
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
];

async function* once<T>(piece: T): AsyncGenerator<T> {
  yield piece;
}
