/** What `npm start` prints when everything runs. Each command works as printed, in a shell in the project's folder. */

export interface GuideCommand {
  readonly command: string;
  readonly gives: string;
}

const SAMPLE_VAULT = "crdprointmzvgwckv01";

export interface Environment {
  readonly kubeconfig: string;
  /** Folder with kubectl and mazevault. */
  readonly programs: string;
  readonly restUrl: string;
  /** Of the CA of its certificate. */
  readonly caFile: string;
  /** More of them, by name. */
  readonly variables?: Readonly<Record<string, string>>;
}

export const environmentLine = ({ kubeconfig, programs, restUrl, caFile, variables = {} }: Environment): string =>
  [
    `export KUBECONFIG="${kubeconfig}" PATH="${programs}:$PATH" MAZEVAULT_SERVER="${restUrl}" MAZEVAULT_CA_FILE="${caFile}"`,
    ...Object.entries(variables).map(([name, value]) => `${name}="${value}"`),
  ].join(" ");

export const guideCommands: readonly GuideCommand[] = [
  { command: "kubectl get mazevault -A", gives: "every resource of MazeVault, READY True" },
  { command: "kubectl -n payments describe mvs orders-db", gives: "what a Secret is made of, and what became of it" },
  {
    command: "kubectl -n payments get secret orders-db -o jsonpath='{.data.url}' | base64 -d; echo",
    gives: "the connection string, made from a generated password",
  },
  {
    command: `kubectl -n payments patch secrets.mazevault.io orders-db --type=json -p '[{"op":"replace","path":"/spec/entries/0/literal","value":"orders2"}]'`,
    gives: "another user name: version 2, in the core Secret and in the vault at once",
  },
  {
    command: "kubectl -n payments get deployment orders -o jsonpath='{.spec.template.metadata.annotations}'; echo",
    gives: "the restart of the Deployment that uses it",
  },
];

const PASSWORD =
  "kubectl -n mazevault-system get secret mazevault-first-admin -o jsonpath='{.data.password}' | base64 -d";

export const restCommands: readonly GuideCommand[] = [
  {
    command: `curl -s --cacert "$MAZEVAULT_CA_FILE" -X POST "$MAZEVAULT_SERVER/api/v1/auth/login" -H "Content-Type: application/json" -d "{\\"email\\":\\"admin@mazevault.com\\",\\"password\\":\\"$(${PASSWORD})\\"}"; echo`,
    gives: "a token of the first admin, for Authorization: Bearer",
  },
  {
    command: `${PASSWORD} | mazevault login --email admin@mazevault.com --password-stdin`,
    gives: "logs the command line in; as kubectl mazevault it is the same",
  },
  {
    command: "openssl rand -hex 16 | mazevault put payments/mail password=- --project payments --environment pro",
    gives: "a secret whose value comes from outside, version 1; each repetition makes another version",
  },
  { command: "mazevault get payments/mail password --show", gives: "the value; that you read it is on record" },
];

/** `labDir`: where the lab's data is, unless it is where both programs look by themselves. */
export const lookCommands = (labDir?: string): readonly GuideCommand[] => [
  {
    command: `npm run --silent vault -- ${labDir === undefined ? "" : `--config "${labDir}/keyvault/config.json" `}${SAMPLE_VAULT}`,
    gives: "what stands in the team's Key Vault; --reveal shows the values",
  },
  {
    command: `npm run --silent psql -- ${labDir === undefined ? "" : `--dir "${labDir}" `}"SELECT name, version, key, left(encode(ciphertext, 'hex'), 32) AS ciphertext FROM mazevault.entries JOIN mazevault.secrets ON id = secret_id ORDER BY 1, 2, 3"`,
    gives: "what stands in PostgreSQL: ciphertext",
  },
];

/** `dir`: where files may be put; `pkiUrl`: where OCSP is answered. */
export function pkiCommands(dir: string, pkiUrl: string): readonly GuideCommand[] {
  const [ca, leaf] = [`"${dir}/payments-ca.pem"`, `"${dir}/orders-tls.pem"`];
  const certificate = "kubectl -n payments get certificates.mazevault.io orders-tls";
  const check = `openssl ocsp -issuer ${ca} -CAfile ${ca} -cert ${leaf} -url ${pkiUrl}/ocsp`;
  return [
    {
      command: `kubectl get clusterissuers.mazevault.io payments-ca -o jsonpath='{.status.caBundle}' > ${ca}; kubectl -n payments get secret orders-tls -o jsonpath='{.data.tls\\.crt}' | base64 -d > ${leaf}`,
      gives: "the payments CA with its root, and the certificate that it signed for the orders service",
    },
    { command: check, gives: "good: what OCSP says about it" },
    {
      command: `kubectl -n payments patch certificates.mazevault.io orders-tls --type=merge -p "{\\"spec\\":{\\"revocations\\":[{\\"serialNumber\\":\\"$(${certificate} -o jsonpath='{.status.serialNumber}')\\",\\"reason\\":\\"superseded\\"}]}}"`,
      gives: "revokes it; another one with a new key takes its place in the core Secret at once",
    },
    { command: `${check} -no_nonce`, gives: "revoked: the same question a moment later" },
    {
      command: `openssl x509 -in ${leaf} -noout -text | grep URI`,
      gives: `where anybody who has the certificate finds OCSP, the CRL and the CA: below ${pkiUrl}`,
    },
  ];
}

export interface GuideSection {
  readonly title: string;
  readonly commands: readonly GuideCommand[];
}

export interface GuideParts {
  /** The line that sets the environment. */
  readonly environment: string;
  readonly pki: readonly GuideCommand[];
  /** Walks through outage and failover, where there are gateways. */
  readonly gateways?: readonly GuideSection[];
  /** See `lookCommands`. */
  readonly labDir?: string;
}

export function guide({ environment, pki, gateways = [], labDir }: GuideParts): string {
  const block = ({ command, gives }: GuideCommand): string => `  ${command}\n      ${gives}`;
  const section = ({ title, commands }: GuideSection): string => `\n${title}:\n${commands.map(block).join("\n")}\n`;
  return `
MazeVault is running. In another shell, in this folder:

  ${environment}

Worth a try:
${guideCommands.map(block).join("\n")}

A private CA that can revoke:
${pki.map(block).join("\n")}

By REST and the command line:
${restCommands.map(block).join("\n")}

Into the vault and the database:
${lookCommands(labDir).map(block).join("\n")}
${gateways.map(section).join("")}
The samples are in e2e/samples, guides in docs/guides: a private CA in five minutes, revoke and prove it,
staple with nginx.

Ctrl-C stops everything; the next start goes on with the same data, "npm start -- --reset" begins anew.
`;
}
