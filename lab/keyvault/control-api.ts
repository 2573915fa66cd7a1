import { timingSafeEqual } from "node:crypto";
import type { IncomingMessage } from "node:http";
import { z } from "zod";
import type { CallLog } from "./call-log.ts";
import type { CallCounter } from "./counters.ts";
import { KeyVaultError } from "./errors.ts";
import { type Reply, readBody } from "./exchange.ts";
import { type Faults, faultRule } from "./faults.ts";
import { applyChange, type Settings, settingsChange } from "./settings.ts";
import type { Store } from "./store.ts";
import { parseSet, parseUpdate } from "./vault/requests.ts";
import type { Secret } from "./vault/state.ts";
import type { Vault } from "./vault/vault.ts";

const BODY_LIMIT = 1024 * 1024;
const DAY = 86_400_000;

const managedFlag = z.object({ managed: z.boolean().optional() });
const clockChange = z.strictObject({ days: z.number().gt(0) });

export interface ControlDependencies {
  readonly store: Store;
  readonly faults: Faults;
  readonly counter: CallCounter;
  readonly log: CallLog;
  readonly settings: Settings;
  readonly token: string;
}

class ControlError extends Error {
  override name = "ControlError";
  readonly status: number;
  constructor(status: number, message: string) {
    super(message);
    this.status = status;
  }
}

/** The lab's own interface, which the real service has not: look inside, count, disturb, edit as a person would. */
export class ControlApi {
  readonly #dependencies: ControlDependencies;

  constructor(dependencies: ControlDependencies) {
    this.#dependencies = dependencies;
  }

  async answer(request: IncomingMessage, url: URL): Promise<Reply> {
    try {
      this.#authenticate(request.headers.authorization ?? "");
      const body = await readBody(request, BODY_LIMIT);
      const path = url.pathname.split("/").slice(1).map(decodeURIComponent);
      const result = await this.#route(request.method ?? "", path, body);
      return result === undefined ? { status: 204 } : { status: 200, body: result };
    } catch (error) {
      if (error instanceof ControlError || error instanceof KeyVaultError) {
        return { status: error.status, body: { message: error.message } };
      }
      if (error instanceof z.ZodError) {
        return { status: 400, body: { message: z.prettifyError(error) } };
      }
      if (error instanceof SyntaxError) {
        return { status: 400, body: { message: error.message } };
      }
      throw error;
    }
  }

  #authenticate(header: string): void {
    const expected = Buffer.from(`Bearer ${this.#dependencies.token}`);
    const given = Buffer.from(header);
    if (given.length !== expected.length || !timingSafeEqual(given, expected)) {
      throw new ControlError(401, "the control token is missing or wrong");
    }
  }

  async #route(method: string, [resource = "", ...rest]: string[], body: string): Promise<unknown> {
    const { counter, faults, settings, store } = this.#dependencies;
    if (resource === "vaults") {
      return this.#vaults(method, rest, body);
    }
    switch (`${method} ${resource}`) {
      case "GET counters":
        return counter.read();
      case "DELETE counters":
        return counter.reset();
      case "GET faults":
        return faults.list();
      case "PUT faults":
        return faults.set(z.array(faultRule).parse(JSON.parse(body)));
      case "GET settings":
        return settings;
      case "PATCH settings":
        applyChange(settings, settingsChange.parse(JSON.parse(body)));
        return settings;
      case "POST soft-delete-clock":
        return store.advanceSoftDeleteClock(clockChange.parse(JSON.parse(body)).days * DAY);
      default:
        throw new ControlError(404, `no such control: ${method} /${resource}`);
    }
  }

  async #vaults(method: string, [vaultName, kind, name]: string[], body: string): Promise<unknown> {
    const { log, store } = this.#dependencies;
    if (vaultName === undefined) {
      return [...store.vaults.values()].map((vault) => vault.name);
    }
    const vault = store.vaults.get(vaultName.toLowerCase());
    if (vault === undefined) {
      throw new ControlError(404, `no vault ${vaultName}`);
    }
    if (kind === "calls") {
      return log.read(vault.name);
    }
    if (name === undefined) {
      return [...vault.secrets()].map(describe);
    }
    return edit(vault, `${method} ${kind}`, name, body);
  }
}

async function edit(vault: Vault, action: string, name: string, body: string): Promise<unknown> {
  switch (action) {
    case "PUT secrets": {
      const { value, properties } = parseSet(body);
      const { managed } = managedFlag.parse(JSON.parse(body));
      return (await vault.set(name, value, { ...properties, ...(managed === true ? { managed } : {}) })).version;
    }
    case "PATCH secrets":
      return (await vault.update(name, undefined, parseUpdate(body))).version;
    case "DELETE secrets":
      await vault.delete(name);
      return undefined;
    case "POST deletedsecrets":
      await vault.recover(name);
      return undefined;
    case "DELETE deletedsecrets":
      return vault.purge(name);
    default:
      throw new ControlError(404, `no such control: ${action}`);
  }
}

function describe({ name, versions, phase }: Secret): object {
  return { name, state: phase.kind, versions };
}
