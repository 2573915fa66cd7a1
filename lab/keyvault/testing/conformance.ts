import { readFileSync, writeFileSync } from "node:fs";
import { ClientSecretCredential } from "@azure/identity";
import { SecretClient } from "@azure/keyvault-secrets";
import type { ConfigurationInput } from "../config.ts";
import {
  type ApplicationCertificate,
  CERTIFIED,
  ClusterIssuer,
  DIRECTORY,
  makeApplicationCertificate,
  OFFICER,
  TENANT,
  VAULT,
  VAULT_URL,
} from "./identities.ts";
import { Lab } from "./lab.ts";
import { API_VERSION, type RawRequest, type RawResponse, raw } from "./raw.ts";

/** A lab with the conformance suite's directory, and both ways to call it: by the SDK and by plain HTTPS. */
export class Conformance {
  readonly lab = new Lab();
  readonly #tokens = new Map<string, Promise<string>>();
  #issuer: ClusterIssuer | undefined;
  #certificate: ApplicationCertificate | undefined;

  async start(settings: ConfigurationInput["settings"] = {}): Promise<void> {
    if (this.#certificate === undefined) {
      this.#certificate = await makeApplicationCertificate(CERTIFIED.clientId);
      this.#issuer = new ClusterIssuer(this.lab);
      writeFileSync(this.lab.path("application.pem"), this.#certificate.certificate);
    }
    await this.lab.start({ ...DIRECTORY, settings: { transitions: INSTANT, emptyLastPage: "never", ...settings } });
  }

  /** A configuration file that names the ports in use, as an installation with fixed ports has. */
  configurationFile(): string {
    const file = this.lab.path("running.json");
    const written = JSON.parse(readFileSync(this.lab.path("config.json"), "utf8")) as ConfigurationInput;
    const { listen, control, imds } = this.lab.addresses;
    writeFileSync(file, JSON.stringify({ ...written, listen, imds, control: { ...written.control, ...control } }));
    return file;
  }

  get issuer(): ClusterIssuer {
    return present(this.#issuer);
  }

  get certificate(): ApplicationCertificate {
    return present(this.#certificate);
  }

  /** The real SDK client; it never retries by itself, so that each call is one call. */
  client(who: { readonly clientId: string; readonly secret: string } = OFFICER): SecretClient {
    const httpClient = this.lab.transport;
    const credential = new ClientSecretCredential(TENANT, who.clientId, who.secret, { httpClient });
    return new SecretClient(VAULT_URL, credential, { httpClient, retryOptions: { maxRetries: 0 } });
  }

  /** An access token by the client credentials flow. */
  token(
    who: { readonly clientId: string; readonly secret: string } = OFFICER,
    tenant: string = TENANT,
    scope = "https://vault.azure.net/.default",
  ): Promise<string> {
    const key = JSON.stringify([who, tenant, scope]);
    const known = this.#tokens.get(key) ?? this.#requestToken(who, tenant, scope);
    this.#tokens.set(key, known);
    return known;
  }

  async #requestToken(who: { clientId: string; secret: string }, tenant: string, scope: string): Promise<string> {
    const { body } = await this.tokenRequest(tenant, { client_id: who.clientId, client_secret: who.secret, scope });
    return String(body.access_token);
  }

  /** A token request as a form; parameters given as `undefined` are left out. */
  tokenRequest(tenant: string, parameters: Readonly<Record<string, string | undefined>>): Promise<RawResponse> {
    const form = new URLSearchParams({ grant_type: "client_credentials", scope: "https://vault.azure.net/.default" });
    for (const [name, value] of Object.entries(parameters)) {
      if (value === undefined) {
        form.delete(name);
      } else {
        form.set(name, value);
      }
    }
    return raw(this.lab.transport, {
      method: "POST",
      url: `https://login.microsoftonline.com/${tenant}/oauth2/v2.0/token`,
      headers: { "Content-Type": "application/x-www-form-urlencoded" },
      body: form.toString(),
    });
  }

  /** A data plane call with an officer's token; `path` without the `api-version`. */
  async call(path: string, asked: Omit<RawRequest, "url"> = {}, vault = VAULT): Promise<RawResponse> {
    const separator = path.includes("?") ? "&" : "?";
    const url = `https://${vault}.vault.azure.net${path}${separator}api-version=${API_VERSION}`;
    return raw(this.lab.transport, { token: await this.token(), ...asked, url });
  }

  dispose(): Promise<void> {
    return this.lab.dispose();
  }
}

/** Deletion, recovery and purge take no time. */
export const INSTANT = { deleting: 0, recovering: 0, settling: 0, purging: 0 };

/** The service's error code, and the inner one when there is one. */
export function codes(response: RawResponse): { code: string; inner?: string; message: string } {
  const { error } = response.body as { error: { code: string; message: string; innererror?: { code: string } } };
  const inner = error.innererror === undefined ? {} : { inner: error.innererror.code };
  return { code: error.code, message: error.message, ...inner };
}

/** Every entry of an SDK list. */
export async function all<Item>(list: AsyncIterable<Item>): Promise<Item[]> {
  const items: Item[] = [];
  for await (const item of list) {
    items.push(item);
  }
  return items;
}

function present<Value>(value: Value | undefined): Value {
  if (value === undefined) {
    throw new Error("the lab is not running");
  }
  return value;
}
