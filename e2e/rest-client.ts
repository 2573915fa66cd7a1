/** Speaks to the REST surface as any HTTP client would. */
import { readFileSync } from "node:fs";
import { Agent, request } from "undici";
import { FIRST_ADMIN_SECRET, SYSTEM_NAMESPACE } from "../crds/installation.ts";
import type { Rest } from "../lab/mazevault.ts";
import { decoded, type World } from "./harness.ts";

export interface RestAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  // biome-ignore lint/suspicious/noExplicitAny: answers are judged by the tests
  readonly body: any;
  readonly text: string;
}

export interface RestRequest {
  readonly token?: string;
  readonly body?: unknown;
  readonly headers?: Readonly<Record<string, string>>;
}

export class RestClient {
  readonly #url: string;
  readonly #agent: Agent;

  constructor(url: string, tls: { readonly caFile: string; readonly certFile?: string; readonly keyFile?: string }) {
    const { caFile, certFile, keyFile } = tls;
    this.#url = url;
    this.#agent = new Agent({
      connect: {
        ca: readFileSync(caFile),
        ...(certFile !== undefined && { cert: readFileSync(certFile) }),
        ...(keyFile !== undefined && { key: readFileSync(keyFile) }),
      },
    });
  }

  static of(world: World, { restUrl }: Rest): RestClient {
    return new RestClient(restUrl, world.lab.pki);
  }

  async send(method: string, path: string, { token, body, headers = {} }: RestRequest = {}): Promise<RestAnswer> {
    const answer = await request(`${this.#url}${path}`, {
      method: method as "GET",
      dispatcher: this.#agent,
      headers: {
        ...(token !== undefined && { authorization: `Bearer ${token}` }),
        ...(body !== undefined && { "content-type": "application/json" }),
        ...headers,
      },
      ...(body !== undefined && { body: typeof body === "string" ? body : JSON.stringify(body) }),
    });
    const text = await answer.body.text();
    const json =
      /json/.test(String(answer.headers["content-type"])) && !/ndjson/.test(String(answer.headers["content-type"]));
    return {
      status: answer.statusCode,
      headers: answer.headers,
      text,
      body: json && text !== "" ? JSON.parse(text) : undefined,
    };
  }

  async login(email: string, password: string): Promise<string> {
    const { status, body, text } = await this.send("POST", "/api/v1/auth/login", { body: { email, password } });
    if (status !== 200) throw new Error(`login: ${status} ${text}`);
    return body.token as string;
  }

  close(): Promise<void> {
    return this.#agent.close();
  }
}

/** The credentials of the first admin, as the installation hands them over. */
export async function firstAdmin(world: World): Promise<{ email: string; password: string }> {
  await world.waitFor("secret", FIRST_ADMIN_SECRET, SYSTEM_NAMESPACE, () => true);
  const { username = "", password = "" } = decoded(await world.get("secret", FIRST_ADMIN_SECRET, SYSTEM_NAMESPACE));
  return { email: username, password };
}
