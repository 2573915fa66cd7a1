/** Resources that cannot become Ready, and the credential of one that has ended. */
import { readFileSync } from "node:fs";
import { azure } from "../../../lab/mazevault.ts";
import { until } from "../../../lab/poll.ts";
import { type Named, names } from "../fault.ts";
import { type Installation, type Seen, TEAM } from "../installation.ts";
import { azureVault, keyVault, object, secret, source } from "../manifests.ts";

const [vault, otherVault] = azure.vaults;

/** Resources that cannot become Ready, each for another reason; they do not meet, so they are planted together. */
const unready: readonly (Omit<Named, "check"> & { readonly subject: string; readonly manifest: () => object })[] = [
  {
    subject: `Secret ${TEAM}/no-source`,
    manifest: () => secret("no-source", { secretRef: { name: "nowhere", key: "k" } }),
    problem: /^SourceNotFound: .*nowhere/,
    fix: /kubectl -n shop get secrets/,
  },
  {
    subject: `Secret ${TEAM}/no-source-key`,
    manifest: () => secret("no-source-key", { secretRef: { name: "principal", key: "nothing" } }),
    problem: /^SourceKeyNotFound/,
    fix: /add the key or correct the reference/,
  },
  {
    subject: `Secret ${TEAM}/unwritten`,
    manifest: () => secret("unwritten", { external: {} }),
    problem: /^ValueMissing/,
    fix: /mazevault put shop\/unwritten KEY/,
  },
  {
    subject: `Secret ${TEAM}/bad-template`,
    manifest: () => secret("bad-template", { template: "{{ nothing }}" }),
    problem: /^TemplateInvalid/,
    fix: /kubectl -n shop edit secrets\.mazevault\.io bad-template/,
  },
  {
    subject: `Secret ${TEAM}/no-project`,
    manifest: () =>
      object("Secret", "no-project", {
        projectRef: { name: "nobody" },
        environment: "pro",
        entries: [{ key: "k", literal: "v" }],
      }),
    problem: /^ProjectNotFound/,
    fix: /kubectl get project nobody/,
  },
  {
    subject: `Secret ${TEAM}/no-environment`,
    manifest: () => secret("no-environment", { literal: "v" }, { environment: "qa" }),
    problem: /^(EnvironmentNotDeclared|NamespaceNotAdmitted)/,
    fix: /kubectl edit project shop/,
  },
  {
    subject: `Secret ${TEAM}/taken`,
    manifest: () => secret("taken", { literal: "v" }, { deliver: { secretName: "principal" } }),
    problem: /^TargetNotOwned/,
    fix: /set adopt/,
  },
  {
    subject: `KeyVault ${TEAM}/no-credential`,
    manifest: () =>
      keyVault("no-credential", azureVault(vault), { clientSecretRef: { name: "nowhere", key: "secret" } }),
    problem: /^CredentialNotFound/,
    fix: /kubectl -n shop get secrets/,
  },
  {
    subject: `KeyVault ${TEAM}/wrong-secret`,
    manifest: () => keyVault("wrong-secret", azureVault(vault), { clientSecretRef: { name: "wrong", key: "secret" } }),
    problem: /^CredentialInvalid/,
    fix: /put the new credential/,
  },
  {
    subject: `KeyVault ${TEAM}/refused`,
    manifest: () =>
      keyVault("refused", azureVault(vault), { clientSecretRef: { name: "principal", key: "secret" } }, azure.stranger),
    problem: /^AccessDenied/,
    fix: /az role assignment create --role "Key Vault Secrets Officer" --assignee 16fd2706/,
  },
  {
    subject: `KeyVault ${TEAM}/not-allowed`,
    manifest: () =>
      keyVault("not-allowed", "crdprointmzvgwckv01.vault.azure.example", {
        clientSecretRef: { name: "principal", key: "secret" },
      }),
    problem: /^VaultHostNotAllowed/,
    fix: /azure\.allowedVaultHosts/,
  },
  {
    subject: `KeyVault ${TEAM}/unresolvable`,
    manifest: () =>
      keyVault("unresolvable", "team.vault.invalid", { clientSecretRef: { name: "principal", key: "secret" } }),
    problem: /^VaultUnreachable/,
    fix: /nslookup team\.vault\.invalid/,
  },
  {
    subject: `SyncRule ${TEAM}/no-vault`,
    manifest: () =>
      object("SyncRule", "no-vault", {
        projectRef: { name: TEAM },
        environment: "pro",
        direction: "Push",
        secrets: { names: ["none-of-these"] },
        target: { keyVault: { ref: { name: "nowhere" } } },
      }),
    problem: /^KeyVaultNotFound/,
    fix: /kubectl -n shop get keyvaults/,
  },
  {
    subject: `Issuer ${TEAM}/orphan`,
    manifest: () =>
      object("Issuer", "orphan", {
        ca: { subject: { commonName: "orphan CA" }, parentRef: { kind: "ClusterIssuer", name: "nowhere" } },
      }),
    problem: /^IssuerNotFound/,
    fix: /kubectl get issuers/,
  },
  {
    subject: `Certificate ${TEAM}/outside`,
    manifest: () =>
      object("Certificate", "outside", {
        secretName: "outside-tls",
        issuerRef: { kind: "ClusterIssuer", name: "root" },
        commonName: "outside",
        profile: "Client",
      }),
    problem: /^PolicyViolated/,
    fix: /edit certificates\.mazevault\.io outside/,
  },
  {
    subject: "AuditSink deaf",
    manifest: () => object("AuditSink", "deaf", { otlp: { url: "https://127.0.0.1:1/v1/logs" } }, {}),
    problem: /^SinkUnreachable/,
    fix: /kubectl describe auditsinks\.mazevault\.io deaf/,
  },
];

export const ofResources = (on: Installation): void =>
  describe("of the resources", () => {
    let seen: Seen;

    beforeAll(async () => {
      const pem = readFileSync(on.expired.certFile, "utf8") + readFileSync(on.expired.keyFile, "utf8");
      await on.world.apply(
        source("principal", { secret: on.world.mazevault.servicePrincipal.secret }),
        source("wrong", { secret: "not the secret" }),
        source("ended", { pem }),
        keyVault("ended", azureVault(otherVault), { certificateSecretRef: { name: "ended", key: "pem" } }),
        ...unready.map(({ manifest }) => manifest()),
      );
      await until(
        "each has its reason",
        async () => {
          seen = await on.doctor();
          return unready.every((fault) =>
            seen.findings.some((finding) => names({ check: "resources", ...fault }, finding)),
          );
        },
        { timeoutMs: 40_000, intervalMs: 300 },
      ).catch(() => {});
    });

    afterAll(async () => {
      const of = (kind: string) => on.world.kubectl("-n", TEAM, "delete", `${kind}.mazevault.io`, "--all");
      await Promise.all(["secrets", "keyvaults", "syncrules", "issuers", "certificates", "auditsinks"].map(of));
    });

    test.each(unready)("$subject", ({ manifest: _, ...fault }) => {
      const own = seen.findings.filter(({ subject }) => subject === fault.subject);
      expect(own).toMatchObject([
        { problem: expect.stringMatching(fault.problem), fix: expect.stringMatching(fault.fix) },
      ]);
    });

    test("a client certificate of a Key Vault that has expired", () => {
      expect(seen.findings).toContainEqual({
        check: "keyvault.credentials",
        status: "failing",
        problem: expect.stringMatching(/the client certificate of KeyVault shop\/ended has expired/),
        fix: expect.stringMatching(/core Secret shop\/ended, key pem/),
      });
    });
  });
