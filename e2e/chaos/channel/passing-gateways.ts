/** Gateways that come, register, renew their certificates and are revoked again, on the real protocol and through what is wrong on the way. */
import { pause } from "../../../lab/poll.ts";
import type { RestClient } from "../../rest-client.ts";
import { SimulatedGateway } from "../../simulated-gateway.ts";
import type { Random } from "../random.ts";

const AGAIN_MS = 300;
/** Ten may register in a minute from one address, which all share here. */
const PAUSE_MS = 5_000;

export interface PassingParts {
  readonly rest: RestClient;
  readonly login: () => Promise<string>;
  /** Of the primary, as they reach it. */
  readonly url: string;
  readonly random: Random;
}

interface Passing {
  readonly name: string;
  readonly gateway: SimulatedGateway;
  /** Since the primary has acknowledged it. */
  revoked: boolean;
  readonly serialNumbers: string[];
}

export class PassingGateways {
  readonly #parts: PassingParts;
  readonly #all: Passing[] = [];
  #token: string | undefined;

  constructor(parts: PassingParts) {
    this.#parts = parts;
  }

  get counts(): { readonly registered: number; readonly revoked: number; readonly renewals: number } {
    return {
      registered: this.#all.length,
      revoked: this.#all.filter(({ revoked }) => revoked).length,
      renewals: this.#all.reduce((sum, { serialNumbers }) => sum + serialNumbers.length - 1, 0),
    };
  }

  /** Names of those that must be known and served. */
  get staying(): readonly string[] {
    return this.#all.filter(({ revoked }) => !revoked).map(({ name }) => name);
  }

  /** What was begun is finished, also when aborted meanwhile. */
  async run(signal: AbortSignal): Promise<void> {
    const { random } = this.#parts;
    while (!signal.aborted) {
      const passing = await this.#comes();
      if (random.chance(0.6)) await this.#renews(passing);
      if (random.chance(0.6)) await this.#revoke(passing);
      passing.gateway.close();
      await pause(PAUSE_MS, signal);
    }
  }

  /** When nothing is wrong any more. */
  async faults(): Promise<string[]> {
    const faults: string[] = [];
    for (const { name, gateway, revoked } of this.#all) {
      const outcome = await gateway.heartbeat().then(
        ({ status, body }) => `${status} ${(body as { code?: string } | undefined)?.code ?? ""}`.trim(),
        (error: { reason?: string; message: string }) => error.reason ?? error.message,
      );
      gateway.close();
      const served = outcome === "200";
      const out = outcome === "403 GatewayRevoked" || outcome === "GatewayRevoked";
      if (revoked ? !out : !served) faults.push(`${name}, ${revoked ? "revoked" : "registered"}: ${outcome}`);
    }
    const serialNumbers = this.#all.flatMap((each) => each.serialNumbers);
    if (new Set(serialNumbers).size !== serialNumbers.length) faults.push("two certificates have one serial number");
    const ids = new Set(this.#all.map(({ gateway }) => gateway.registration.gatewayId));
    if (ids.size !== this.#all.length) faults.push("two gateways have one id");
    return faults;
  }

  async #comes(): Promise<Passing> {
    const name = `passing-${this.#all.length + 1}`;
    const token = await this.#bootstrap(name);
    const gateway = await SimulatedGateway.make({ url: this.#parts.url, token, environment: "NPR", role: "primary" });
    await again(() => gateway.register());
    await again(async () => {
      const { status } = await gateway.heartbeat();
      if (status !== 200) throw new Error(`heartbeat: ${status}`);
    });
    const passing = { name, gateway, revoked: false, serialNumbers: [gateway.serialNumber] };
    this.#all.push(passing);
    return passing;
  }

  async #renews({ gateway, serialNumbers }: Passing): Promise<void> {
    await again(() => gateway.renew());
    await again(() => gateway.heartbeat());
    serialNumbers.push(gateway.serialNumber);
  }

  /** By REST; a repeated one may find nothing any more. */
  async #revoke(passing: Passing): Promise<void> {
    await again(async () => {
      const { status } = await this.#send("DELETE", `/api/v1/gateways/${passing.name}`);
      if (status !== 204 && status !== 404) throw new Error(`revoke: ${status}`);
    });
    passing.revoked = true;
  }

  async #bootstrap(name: string): Promise<string> {
    return again(async () => {
      const { status, body, text } = await this.#send("POST", "/api/v1/gateways/bootstrap", { name });
      if (status !== 201) throw new Error(`bootstrap: ${status} ${text}`);
      return body.token as string;
    });
  }

  async #send(method: string, path: string, body?: unknown) {
    this.#token ??= await this.#parts.login();
    return this.#parts.rest.send(method, path, { token: this.#token, ...(body !== undefined && { body }) });
  }
}

/** Until it succeeds: what is wrong on the way ends by itself. Each attempt is bounded by itself. */
async function again<T>(attempt: () => Promise<T>, attempts = 400): Promise<T> {
  for (let left = attempts; ; left -= 1) {
    try {
      return await attempt();
    } catch (error) {
      if (left === 0) throw error;
      await pause(AGAIN_MS);
    }
  }
}
