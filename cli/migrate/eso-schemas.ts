/**
 * The kinds of the External Secrets Operator, group external-secrets.io, as far as they are read: ExternalSecret,
 * SecretStore and ClusterSecretStore in v1 and v1beta1, PushSecret in v1alpha1. Fields that stand in no schema are told.
 */
import { z } from "zod";

const text = z.string();
const texts = z.record(text, text).nullish();

const remoteRef = z.object({
  key: text,
  property: text.optional(),
  version: text.optional(),
  metadataPolicy: text.optional(),
  conversionStrategy: text.optional(),
  decodingStrategy: text.optional(),
  nullBytePolicy: text.optional(),
});
export type RemoteRef = z.infer<typeof remoteRef>;

const storeRef = z.object({ name: text.optional(), kind: text.optional() });
const sourceRef = z.object({ storeRef: storeRef.optional(), generatorRef: z.unknown().optional() });

const template = z.object({
  type: text.optional(),
  engineVersion: text.optional(),
  metadata: z.object({ labels: texts, annotations: texts, finalizers: z.unknown().optional() }).optional(),
  mergePolicy: text.optional(),
  data: texts,
  templateFrom: z.array(z.unknown()).nullish(),
});

const dataFrom = z.object({
  extract: remoteRef.optional(),
  find: z.unknown().optional(),
  rewrite: z.array(z.unknown()).nullish(),
  sourceRef: sourceRef.optional(),
});
export type DataFrom = z.infer<typeof dataFrom>;

export const externalSecretSpec = z.object({
  secretStoreRef: storeRef.optional(),
  target: z
    .object({
      name: text.optional(),
      creationPolicy: text.optional(),
      deletionPolicy: text.optional(),
      immutable: z.boolean().optional(),
      manifest: z.unknown().optional(),
      template: template.optional(),
    })
    .optional(),
  refreshPolicy: text.optional(),
  refreshInterval: text.optional(),
  data: z.array(z.object({ secretKey: text, remoteRef, sourceRef: sourceRef.optional() })).nullish(),
  dataFrom: z.array(dataFrom).nullish(),
});
export type ExternalSecretSpec = z.infer<typeof externalSecretSpec>;

const secretKeySelector = z.object({ name: text.optional(), key: text.optional(), namespace: text.optional() });
export type SecretKeySelector = z.infer<typeof secretKeySelector>;

export const azureStore = z.object({
  authType: text.optional(),
  vaultUrl: text,
  tenantId: text.optional(),
  environmentType: text.optional(),
  authSecretRef: z
    .object({
      clientId: secretKeySelector.optional(),
      tenantId: secretKeySelector.optional(),
      clientSecret: secretKeySelector.optional(),
      clientCertificate: secretKeySelector.optional(),
    })
    .optional(),
  serviceAccountRef: z
    .object({ name: text, namespace: text.optional(), audiences: z.array(text).nullish() })
    .optional(),
  identityId: text.optional(),
  useAzureSDK: z.boolean().optional(),
});
export type AzureStore = z.infer<typeof azureStore>;

export const storeSpec = z.object({
  provider: z.record(text, z.unknown()),
  controller: text.optional(),
  retrySettings: z.unknown().optional(),
  refreshInterval: z.unknown().optional(),
  conditions: z.unknown().optional(),
});

export const pushSecretSpec = z.object({
  refreshInterval: text.optional(),
  secretStoreRefs: z.array(
    z.object({ name: text.optional(), kind: text.optional(), labelSelector: z.unknown().optional() }),
  ),
  updatePolicy: text.optional(),
  deletionPolicy: text.optional(),
  selector: z.object({
    secret: z.object({ name: text.optional(), selector: z.unknown().optional() }).optional(),
    generatorRef: z.unknown().optional(),
  }),
  data: z
    .array(
      z.object({
        match: z.object({
          secretKey: text.optional(),
          remoteRef: z.object({ remoteKey: text, property: text.optional() }),
        }),
        metadata: z.unknown().optional(),
        conversionStrategy: text.optional(),
      }),
    )
    .nullish(),
  dataTo: z.unknown().optional(),
  template: z.unknown().optional(),
});
export type PushSecretSpec = z.infer<typeof pushSecretSpec>;
