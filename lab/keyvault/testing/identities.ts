import "reflect-metadata";
import { createPrivateKey, generateKeyPairSync, type KeyObject, webcrypto } from "node:crypto";
import { writeFileSync } from "node:fs";
import * as x509 from "@peculiar/x509";
import { SignJWT } from "jose";
import type { ConfigurationInput } from "../config.ts";
import type { Lab } from "./lab.ts";

export const TENANT = "5f1d3c1e-9a52-4a53-8a35-0a3a0d9f5b11";
export const OTHER_TENANT = "0c8e7a52-7a0f-4c0e-b8a4-2f5b9d6a7c22";
export const VAULT = "conformance-vault";
/** With the longest retention and with purge protection. */
export const SECOND_VAULT = "conformance-two";
export const VAULT_URL = `https://${VAULT}.vault.azure.net`;

export const OFFICER = { clientId: "11111111-aaaa-4aaa-8aaa-111111111111", secret: "officer-secret" } as const;
export const READER = { clientId: "22222222-aaaa-4aaa-8aaa-222222222222", secret: "reader-secret" } as const;
export const STRANGER = { clientId: "33333333-aaaa-4aaa-8aaa-333333333333", secret: "stranger-secret" } as const;
export const CERTIFIED = { clientId: "44444444-aaaa-4aaa-8aaa-444444444444" } as const;
export const WORKLOAD = { clientId: "55555555-aaaa-4aaa-8aaa-555555555555" } as const;
export const MACHINE = { clientId: "66666666-aaaa-4aaa-8aaa-666666666666" } as const;
export const FOREIGNER = { clientId: "77777777-aaaa-4aaa-8aaa-777777777777", secret: "foreign-secret" } as const;

export const CLUSTER_ISSUER = "https://cluster.example/oidc";
export const SERVICE_ACCOUNT = "system:serviceaccount:payments:operator";

/** Tenants and vaults of the conformance suite; a certificate and issuer key are expected in the lab's folder. */
export const DIRECTORY: Pick<ConfigurationInput, "tenants" | "vaults"> = {
  tenants: [
    {
      id: TENANT,
      applications: [
        { ...OFFICER },
        { ...READER },
        { ...STRANGER },
        { ...CERTIFIED, certificateFile: "application.pem" },
        {
          ...WORKLOAD,
          federatedCredentials: [
            { issuer: CLUSTER_ISSUER, subject: SERVICE_ACCOUNT, publicKeyFile: "cluster-issuer.pub.pem" },
          ],
        },
        { ...MACHINE, managedIdentity: true },
      ],
    },
    { id: OTHER_TENANT, applications: [{ ...FOREIGNER }] },
  ],
  vaults: [
    {
      name: VAULT,
      tenant: TENANT,
      softDeleteRetentionDays: 7,
      grants: [
        ...[OFFICER, CERTIFIED, WORKLOAD, MACHINE].map(({ clientId }) => ({
          clientId,
          role: "Key Vault Secrets Officer" as const,
        })),
        { clientId: READER.clientId, role: "Key Vault Secrets User" },
        { clientId: FOREIGNER.clientId, role: "Key Vault Secrets Officer" },
      ],
    },
    {
      name: SECOND_VAULT,
      tenant: TENANT,
      purgeProtection: true,
      grants: [{ clientId: OFFICER.clientId, role: "Key Vault Secrets Officer" }],
    },
  ],
};

export interface ApplicationCertificate {
  /** Certificate and private key, PEM, as `ClientCertificateCredential` takes them. */
  readonly pem: string;
  readonly privateKey: KeyObject;
  readonly certificate: string;
}

/** A self-signed RSA certificate with which an application proves who it is. */
export async function makeApplicationCertificate(commonName: string): Promise<ApplicationCertificate> {
  const algorithm = {
    name: "RSASSA-PKCS1-v1_5",
    hash: "SHA-256",
    modulusLength: 2_048,
    publicExponent: new Uint8Array([1, 0, 1]),
  };
  const keys = await webcrypto.subtle.generateKey(algorithm, true, ["sign", "verify"]);
  const certificate = await x509.X509CertificateGenerator.createSelfSigned(
    { name: `CN=${commonName}`, keys, signingAlgorithm: algorithm, notAfter: new Date(Date.now() + 86_400_000) },
    webcrypto,
  );
  const key = x509.PemConverter.encode(await webcrypto.subtle.exportKey("pkcs8", keys.privateKey), "PRIVATE KEY");
  const text = certificate.toString("pem");
  return { pem: `${key}\n${text}\n`, privateKey: createPrivateKey(key), certificate: text };
}

/** Signs service account tokens as a cluster does, and publishes its key where the directory looks for it. */
export class ClusterIssuer {
  readonly #privateKey: KeyObject;

  constructor(lab: Lab) {
    const { privateKey, publicKey } = generateKeyPairSync("rsa", { modulusLength: 2_048 });
    this.#privateKey = privateKey;
    writeFileSync(lab.path("cluster-issuer.pub.pem"), publicKey.export({ type: "spki", format: "pem" }));
  }

  token(
    claims: { issuer?: string; subject?: string; audience?: string; lifetimeSeconds?: number } = {},
    key: KeyObject = this.#privateKey,
  ): Promise<string> {
    const now = Math.floor(Date.now() / 1000);
    return new SignJWT({})
      .setProtectedHeader({ alg: "RS256" })
      .setIssuer(claims.issuer ?? CLUSTER_ISSUER)
      .setSubject(claims.subject ?? SERVICE_ACCOUNT)
      .setAudience(claims.audience ?? "api://AzureADTokenExchange")
      .setIssuedAt(now)
      .setExpirationTime(now + (claims.lifetimeSeconds ?? 600))
      .sign(key);
  }
}
