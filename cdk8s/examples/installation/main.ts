import { ApiObject, App, Chart, JsonPatch } from "cdk8s";
import * as mazevault from "mazevault-cdk8s";

const image = { registry: "myregistry.azurecr.io" };
const tenantId = "7c9e6679-7425-40de-944b-e07fc1f90ae7";
const gateways = [
  { environment: "NPR", keyvaultName: "kv-mazevault-npr", clientID: "3f333df6-90a4-4fda-8dd3-9485d27cee36" },
  { environment: "PRO", keyvaultName: "kv-mazevault-pro", clientID: "6ba7b810-9dad-41d1-80b4-00c04fd430c8" },
];

const app = new App({ outdir: "manifests/primary" });
const primary = new mazevault.Installation(app, "mazevault", {
  namespace: "mazevault-system",
  release: "mazevault",
  values: {
    image,
    database: { host: "postgres.example.com", secretName: "mazevault-database" },
    rootKey: { secretName: "mazevault-root-key" },
    rest: { tls: { secretName: "mazevault-rest-tls" }, autoscaling: { enabled: true, maxReplicas: 10 } },
    ocsp: { database: { secretName: "mazevault-ocsp-database" } },
    config: { pki: { baseUrl: "http://pki.example.com" } },
  },
});

// What the chart has no value for.
const aliases = [{ ip: "10.2.0.4", hostnames: ["postgres.example.com"] }];
for (const program of ["operator", "rest", "ocsp"] as const) {
  primary.deployment(program).addJsonPatch(JsonPatch.add("/spec/template/spec/hostAliases", aliases));
}

// And what refers to it: where relying parties find CRLs and OCSP.
const responder = primary.object("Service", "mazevault-ocsp");
const pki = new Chart(app, "pki", { namespace: responder.metadata.namespace });
new ApiObject(pki, "ingress", {
  apiVersion: "networking.k8s.io/v1",
  kind: "Ingress",
  metadata: { name: "pki" },
  spec: {
    rules: [
      {
        host: "pki.example.com",
        http: {
          paths: [
            { path: "/", pathType: "Prefix", backend: { service: { name: responder.name, port: { name: "http" } } } },
          ],
        },
      },
    ],
  },
});
app.synth();

// A gateway is in a cluster of its own.
for (const { environment, keyvaultName, clientID } of gateways) {
  const elsewhere = new App({ outdir: `manifests/gateway-${environment.toLowerCase()}` });
  new mazevault.Installation(elsewhere, "mazevault", {
    namespace: "mazevault",
    release: "mazevault-gateway",
    preset: "gateway",
    values: {
      image,
      gateway: { environment, role: "primary" },
      // In place of the preset's, which would go before these two.
      env: [],
      serviceAccount: { annotations: { "azure.workload.identity/client-id": clientID } },
      secretProviderClass: { parameters: { clientID, keyvaultName, tenantId } },
    },
  });
  elsewhere.synth();
}
