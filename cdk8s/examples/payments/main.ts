import { App, Chart } from "cdk8s";
import * as mazevault from "mazevault-cdk8s";

const namespace = "payments";
const environment = "pro";
const services = ["orders", "refunds"];

const app = new App({ outdir: "manifests" });
const chart = new Chart(app, "payments", { namespace });

const project = new mazevault.Project(chart, "project", {
  metadata: { name: "payments" },
  spec: {
    environments: [{ name: environment, protected: true }],
    namespaces: [{ name: namespace, environments: [environment] }],
  },
});
const projectRef = { name: project.name };

const authority = new mazevault.Issuer(chart, "authority", {
  metadata: { name: "payments-ca" },
  spec: {
    ca: { subject: { commonName: "Payments CA", organizations: ["Example"] } },
    policy: { profiles: ["Server"], maxDuration: "2160h", dnsNames: [`*.${namespace}.svc`] },
  },
});

for (const service of services) {
  new mazevault.Secret(chart, `${service}-db`, {
    metadata: { name: `${service}-db`, labels: { tier: "db" } },
    spec: {
      projectRef,
      environment,
      entries: [
        { key: "username", literal: service },
        { key: "password", generate: { kind: "Password", length: 32 } },
        { key: "url", template: `postgres://{{ username }}:{{ password | url_encode }}@db:5432/${service}` },
      ],
      deliver: { restartConsumers: true },
    },
  });

  new mazevault.Certificate(chart, `${service}-tls`, {
    metadata: { name: `${service}-tls` },
    spec: {
      secretName: `${service}-tls`,
      issuerRef: { kind: "Issuer", name: authority.name },
      dnsNames: [`${service}.${namespace}.svc`],
    },
  });
}

const vault = new mazevault.KeyVault(chart, "vault", {
  metadata: { name: "payments-pro" },
  spec: {
    projectRef,
    vaultUrl: "https://crdprointmzvgwckv01.vault.azure.net/",
    auth: {
      workloadIdentity: {
        tenantId: "7c9e6679-7425-40de-944b-e07fc1f90ae7",
        clientId: "0f8fad5b-d9cb-469f-a165-70867728950e",
        serviceAccountRef: { name: "kv" },
      },
    },
  },
});

new mazevault.SyncRule(chart, "to-the-vault", {
  metadata: { name: "payments-pro-vault" },
  spec: {
    projectRef,
    environment,
    secrets: { selector: { matchLabels: { tier: "db" } } },
    direction: "Push",
    mappings: services.map((service) => ({ secret: `${service}-db`, key: "password", name: `${service}-db-password` })),
    target: { keyVault: { ref: { name: vault.name } } },
  },
});

app.synth();
