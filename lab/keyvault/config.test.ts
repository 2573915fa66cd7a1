import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { loadConfiguration } from "./config.ts";

const TENANT = "5f1d3c1e-9a52-4a53-8a35-0a3a0d9f5b11";
const folder = mkdtempSync(join(tmpdir(), "keyvault-config-"));
afterAll(() => rmSync(folder, { recursive: true }));

const valid = {
  listen: { port: 8443 },
  certFile: "server.pem",
  keyFile: "server.key",
  control: { port: 8444, tokenFile: "token" },
  stateFile: "state/vaults.jsonl",
  tenants: [{ id: TENANT, applications: [{ clientId: "app", certificateFile: "app.pem" }] }],
  vaults: [{ name: "some-vault", tenant: TENANT }],
};

function load(document: unknown) {
  const file = join(folder, "config.json");
  writeFileSync(file, typeof document === "string" ? document : JSON.stringify(document));
  return loadConfiguration(file);
}

it("fills in defaults and resolves paths against the file's folder", () => {
  const configuration = load({ ...valid, settings: { transitions: { deleting: 5 } } });
  expect(configuration).toMatchObject({
    listen: { host: "127.0.0.1", port: 8443 },
    certFile: join(folder, "server.pem"),
    caFile: join(folder, "ca.pem"),
    stateFile: join(folder, "state/vaults.jsonl"),
    control: { tokenFile: join(folder, "token") },
    tenants: [{ applications: [{ certificateFile: join(folder, "app.pem"), managedIdentity: false }] }],
    vaults: [{ softDeleteRetentionDays: 90, grants: [] }],
    settings: {
      transitions: { deleting: 5, recovering: 300, purging: 300 },
      emptyLastPage: "sometimes",
      serviceLimit: null,
    },
  });
});

it.each([
  ["no JSON", "{", /JSON/],
  ["an unknown field", { ...valid, port: 1 }, /port/],
  ["a port out of range", { ...valid, listen: { port: 70_000 } }, /listen\.port/],
  ["a vault name with an underscore", { ...valid, vaults: [{ name: "a_b", tenant: TENANT }] }, /vaults\[0\]\.name/],
  [
    "a retention below seven days",
    { ...valid, vaults: [{ name: "abc", tenant: TENANT, softDeleteRetentionDays: 6 }] },
    /softDeleteRetentionDays/,
  ],
  [
    "a vault of an unknown tenant",
    { ...valid, tenants: [{ id: "00000000-0000-4000-8000-000000000000", applications: [] }] },
    /vaults\[0\]\.tenant/,
  ],
  [
    "a federated credential without a key",
    {
      ...valid,
      tenants: [
        {
          id: TENANT,
          applications: [{ clientId: "a", federatedCredentials: [{ issuer: "https://i.example", subject: "s" }] }],
        },
      ],
    },
    /exactly one of publicKeyFile and jwksFile/,
  ],
])("refuses %s and names it", (_, document, message) => {
  expect(() => load(document)).toThrow(message);
});
