/** From an AuditSink resource to what its receiver needs: credentials are read in the installation's namespace. */
import { Stalled, Waiting } from "../../core/errors.ts";
import type { SinkTarget, SinkTls } from "../../core/ports/audit-sink.ts";
import { Sensitive } from "../../core/sensitive.ts";
import type { AuditSink } from "../../crds/auditsink.ts";
import { readCoreSecret } from "../delivery/core-secret.ts";
import type { KubernetesApi } from "../runtime/transport.ts";

const CREDENTIAL_RECHECK_MS = 60_000;

export interface CredentialSource {
  readonly api: KubernetesApi;
  readonly systemNamespace: string;
}

/** Throws `Waiting("CredentialNotFound")` while a credential is not there. */
export async function sinkTarget(
  from: CredentialSource,
  { spec: { file, otlp, webhook } }: AuditSink,
  signal: AbortSignal,
): Promise<SinkTarget> {
  if (file !== undefined) return { kind: "File", name: file.name };
  if (otlp !== undefined) {
    const { authorizationSecretRef: ref } = otlp;
    const authorization = ref && (await valueAt(from, "spec.otlp.authorizationSecretRef", ref, signal));
    const tls = await sinkTls(from, "spec.otlp", otlp, signal);
    return { kind: "Otlp", url: otlp.url, tls, ...(authorization && { authorization }) };
  }
  if (webhook !== undefined) {
    const { hmacSecretRef: ref } = webhook;
    const hmacKey = ref && (await valueAt(from, "spec.webhook.hmacSecretRef", ref, signal));
    const tls = await sinkTls(from, "spec.webhook", webhook, signal);
    return { kind: "Webhook", url: webhook.url, tls, ...(hmacKey && { hmacKey }) };
  }
  throw new Stalled("ValueInvalid", "spec: set exactly one of file, otlp, webhook");
}

async function sinkTls(
  from: CredentialSource,
  field: string,
  given: {
    readonly caBundle?: string | undefined;
    readonly clientCertificateRef?: { readonly name: string } | undefined;
  },
  signal: AbortSignal,
): Promise<SinkTls> {
  const { caBundle: ca, clientCertificateRef: ref } = given;
  const at = (key: string) => valueAt(from, `${field}.clientCertificateRef`, { name: ref?.name ?? "", key }, signal);
  return {
    ...(ca !== undefined && { ca }),
    ...(ref && { client: { certificate: (await at("tls.crt")).revealText(), key: await at("tls.key") } }),
  };
}

async function valueAt(
  { api, systemNamespace }: CredentialSource,
  field: string,
  ref: { readonly name: string; readonly key: string },
  signal: AbortSignal,
): Promise<Sensitive> {
  const secret = await readCoreSecret(api, systemNamespace, ref.name, signal);
  const value = secret?.data?.[ref.key];
  if (value !== undefined) return new Sensitive(Buffer.from(value, "base64"));
  const missing = secret === undefined ? "there is no" : `key ${ref.key} is missing in`;
  throw new Waiting(
    "CredentialNotFound",
    `${field}: ${missing} core Secret ${systemNamespace}/${ref.name}; create it or correct the reference`,
    CREDENTIAL_RECHECK_MS,
  );
}
