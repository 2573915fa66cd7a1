/** The values of the chart: what they may be. What they mean is said in `values.yaml`; `values.schema.json` has both. */
import { z } from "zod";
import { GATEWAY_ROLES } from "../../crds/gateway.ts";
import { withMeanings } from "./meanings.ts";
import { type JsonSchema, jsonSchema, ocspSettings, operatorSettings } from "./settings.ts";

/** Passed on to Kubernetes, which knows what it may be. */
const object = z.record(z.string(), z.unknown());
const objects = z.array(object);
const texts = z.record(z.string(), z.string());
const port = z.int().min(1).max(65535);
/** Empty where it is not said. */
const name = z.string().regex(/^([a-z0-9]([-a-z0-9.]*[a-z0-9])?)?$/);
const key = z.string().regex(/^[-._a-zA-Z0-9]+$/);

const image = z.strictObject({
  registry: z.string(),
  repository: z.string().min(1),
  tag: z.string(),
  digest: z.string().regex(/^(sha256:[a-f0-9]{64})?$/),
  pullPolicy: z.enum(["Always", "IfNotPresent", "Never"]),
});

const pod = z
  .strictObject({
    labels: texts,
    annotations: texts,
    nodeSelector: texts,
    tolerations: objects,
    affinity: object,
    topologyKeys: z.array(z.string().min(1)),
    priorityClassName: z.string(),
    terminationGracePeriodSeconds: z.int().min(1),
  })
  .partial();

const resources = z.strictObject({ requests: object, limits: object }).partial();
const serviceAccount = z.strictObject({ create: z.boolean(), name, annotations: texts }).partial();
const service = z
  .strictObject({
    type: z.enum(["ClusterIP", "NodePort", "LoadBalancer"]),
    port,
    annotations: texts,
    loadBalancerSourceRanges: z.array(z.string()),
  })
  .partial();
const autoscaling = z
  .strictObject({
    enabled: z.boolean(),
    minReplicas: z.int().min(1),
    maxReplicas: z.int().min(1),
    targetCPUUtilizationPercentage: z.int().min(1).max(100),
  })
  .partial();
const replicas = z.int().min(0).max(50);
const peers = objects;

const values = z
  .strictObject({
    // What Helm hands to a chart that another one depends on.
    global: object,
    mode: z.enum(["primary", "gateway"]),
    fullnameOverride: name,
    image: image.partial(),
    imagePullSecrets: z.array(z.strictObject({ name })),
    crds: z.strictObject({ install: z.boolean() }).partial(),
    database: z
      .strictObject({
        host: z.string(),
        port,
        name: z.string().min(1),
        user: z.string().min(1),
        secretName: name,
        passwordKey: key,
        caKey: key,
      })
      .partial(),
    redis: z
      .strictObject({
        url: z.string().regex(/^(rediss?:\/\/\S+)?$/),
        secretName: name,
        passwordKey: key,
        caKey: z.string(),
      })
      .partial(),
    rootKey: z
      .strictObject({ secretName: name, key, previous: z.strictObject({ secretName: name, key }).partial() })
      .partial(),
    config: z.strictObject({}),
    env: objects,
    extraVolumes: objects,
    extraVolumeMounts: objects,
    gateway: z
      .strictObject({
        environment: z.string(),
        role: z.enum(GATEWAY_ROLES),
        primaryUrl: z.string().regex(/^(https:\/\/\S+)?$/),
        primaryCa: z.strictObject({ configMapName: name, key }).partial(),
        bootstrapToken: z.strictObject({ secretName: name, key }).partial(),
        replicas,
        resources,
        pod,
      })
      .partial(),
    operator: z.strictObject({ replicas, resources, pod }).partial(),
    rest: z
      .strictObject({
        replicas,
        resources,
        pod,
        autoscaling,
        serviceAccount,
        service,
        tls: z.strictObject({ secretName: name }).partial(),
        clientCa: z.strictObject({ secretName: name, caKey: key, crlKey: z.string() }).partial(),
        eventTokens: z.strictObject({ secretName: name, key }).partial(),
      })
      .partial(),
    ocsp: z
      .strictObject({
        mode: z.enum(["Deployment", "Sidecar", "Off"]),
        replicas,
        resources,
        pod,
        autoscaling,
        service,
        database: z.strictObject({ user: z.string().min(1), secretName: name, passwordKey: key }).partial(),
        config: z.strictObject({}),
      })
      .partial(),
    pod,
    serviceAccount,
    rbac: z
      .strictObject({
        onboardNamespaces: z.boolean(),
        namespaces: z.array(z.string().regex(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/)),
      })
      .partial(),
    policies: z.strictObject({ enabled: z.boolean(), stampChangedBy: z.boolean() }).partial(),
    monitoring: z
      .strictObject({
        runbookUrl: z.string().regex(/^(https?:\/\/[^\s"\\]+)?$/),
        serviceMonitor: z
          .strictObject({ enabled: z.boolean(), interval: z.string().regex(/^([0-9]+(ms|s|m|h))+$/), labels: texts })
          .partial(),
        rules: z.strictObject({ enabled: z.boolean(), labels: texts }).partial(),
        dashboards: z
          .strictObject({ enabled: z.boolean(), label: z.string().min(1), labelValue: z.string(), annotations: texts })
          .partial(),
      })
      .partial(),
    podDisruptionBudget: z.strictObject({ enabled: z.boolean() }).partial(),
    networkPolicy: z
      .strictObject({
        enabled: z.boolean(),
        dns: z.strictObject({ to: peers }).partial(),
        apiServer: z.strictObject({ to: peers, ports: z.array(port) }).partial(),
        database: z.strictObject({ to: peers }).partial(),
        redis: z.strictObject({ to: peers }).partial(),
        tracing: z.strictObject({ to: peers }).partial(),
        pki: z.strictObject({ to: peers }).partial(),
        azure: z.strictObject({ enabled: z.boolean(), to: peers }).partial(),
        primary: z.strictObject({ to: peers, port }).partial(),
        rest: z.strictObject({ from: peers }).partial(),
        ocsp: z.strictObject({ from: peers }).partial(),
        metrics: z.strictObject({ from: peers }).partial(),
        extraEgress: objects,
      })
      .partial(),
    secretProviderClass: z
      .strictObject({
        enabled: z.boolean(),
        parameters: texts,
        files: z.strictObject({ databaseCa: z.string(), redisCa: z.string(), restTls: z.string() }).partial(),
        env: texts,
      })
      .partial(),
    postgresql: z
      .strictObject({
        enabled: z.boolean(),
        image: image.partial(),
        tls: z.strictObject({ secretName: name }).partial(),
        storage: z.strictObject({ size: z.string().min(1), storageClassName: z.string() }).partial(),
        resources,
      })
      .partial(),
  })
  .partial();

/**
 * With the settings of the programs in their places.
 * @param valuesYaml the text of `values.yaml`
 */
export function valuesSchema(valuesYaml: string): JsonSchema {
  const schema = withMeanings(jsonSchema(values), valuesYaml);
  const at = (parent: JsonSchema, name: string) => (parent.properties as Record<string, JsonSchema>)[name] ?? {};
  Object.assign(at(schema, "config"), operatorSettings());
  Object.assign(at(at(schema, "ocsp"), "config"), ocspSettings());
  return { $schema: "http://json-schema.org/draft-07/schema#", title: "Values of the chart mazevault", ...schema };
}
