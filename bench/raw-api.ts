/** The least that a client can do: prepared bodies over kept-alive connections, answers thrown away. */
import type { KubeConfig } from "@kubernetes/client-node";
import { Pool } from "undici";
import { CredentialSource } from "../controllers/runtime/credentials.ts";
import { type ResourceType, resourcePath } from "../controllers/runtime/resource-type.ts";

export class RawApi {
  readonly #pool: Pool;
  readonly #headers: Readonly<Record<string, string>>;

  private constructor(pool: Pool, headers: Readonly<Record<string, string>>) {
    this.#pool = pool;
    this.#headers = headers;
  }

  static async open(config: KubeConfig): Promise<RawApi> {
    const { server, tls, headers } = await new CredentialSource(config).current();
    return new RawApi(new Pool(server.origin, { connect: tls, connections: 32, pipelining: 1 }), headers);
  }

  /** @throws for any answer from 400 on */
  async send(
    method: "POST" | "PATCH" | "DELETE",
    path: string,
    body?: string,
    contentType = "application/json",
  ): Promise<void> {
    const answer = await this.#pool.request({
      method,
      path,
      body: body ?? null,
      headers: { ...this.#headers, "content-type": contentType },
    });
    if (answer.statusCode >= 400) throw new Error(`${method} ${path}: ${await answer.body.text()}`);
    await answer.body.dump({ limit: Number.MAX_SAFE_INTEGER });
  }

  async deleteAll(type: ResourceType, namespace: string): Promise<void> {
    await this.send("DELETE", resourcePath(type, { namespace }));
  }

  close(): Promise<void> {
    return this.#pool.close();
  }
}
