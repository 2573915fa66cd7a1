import type { IncomingMessage } from "node:http";
import type { CallLog, CallUnderWay } from "../call-log.ts";
import type { CallCounter } from "../counters.ts";
import { disturb, NO_ANSWER, type Unanswered } from "../disturbance.ts";
import type { TokenIssuer } from "../entra/tokens.ts";
import { failureOf, invalidProperty, KeyVaultError, throttled } from "../errors.ts";
import { BodyTooLarge, type Reply, readBody } from "../exchange.ts";
import type { Disturbance, Faults } from "../faults.ts";
import type { Settings } from "../settings.ts";
import { SlidingWindow } from "../sliding-window.ts";
import { authenticate, authorize } from "./authorization.ts";
import type { BackupCipher } from "./backup.ts";
import type { Pager } from "./paging.ts";
import { recognise, type SecretRequest, unknownPath, validateAddress } from "./requests.ts";
import { SecretsApi } from "./secrets-api.ts";
import type { Vault } from "./vault.ts";

const BODY_LIMIT = 256 * 1024;
const LIMIT_WINDOW = 10_000;

export interface EndpointDependencies {
  readonly tokens: TokenIssuer;
  readonly faults: Faults;
  readonly counter: CallCounter;
  readonly log: CallLog;
  readonly settings: Settings;
  readonly pager: Pager;
  readonly backups: BackupCipher;
}

type Writable<Fields> = { -readonly [Field in keyof Fields]: Fields[Field] };

/** One vault on the wire: from the request line to the answer, in the order in which the service checks. */
export class VaultEndpoint {
  readonly #vault: Vault;
  readonly #api: SecretsApi;
  readonly #transactions = new SlidingWindow(LIMIT_WINDOW);
  readonly #dependencies: EndpointDependencies;

  constructor(vault: Vault, dependencies: EndpointDependencies) {
    this.#vault = vault;
    this.#api = new SecretsApi(vault, dependencies.pager, dependencies.backups);
    this.#dependencies = dependencies;
  }

  async answer(request: IncomingMessage, url: URL): Promise<Reply | Unanswered> {
    const { counter, log } = this.#dependencies;
    const { name: vault } = this.#vault;
    const call: Writable<CallUnderWay> = { operation: "Unknown", name: "" };
    const arrivedAt = Date.now();
    counter.arrived(vault);
    const answer = await this.#replyTo(request, url, call);
    const status = answer === NO_ANSWER || answer === "hang" ? 0 : answer.status;
    counter.answered(vault, call.operation, status);
    log.add({ vault, ...call, arrivedAt, answeredAt: Date.now(), status });
    return answer;
  }

  async #replyTo(request: IncomingMessage, url: URL, call: Writable<CallUnderWay>): Promise<Reply | Unanswered> {
    try {
      const asked = recognise(request.method ?? "", url.pathname);
      if (asked !== undefined) Object.assign(call, { operation: asked.operation, name: asked.name });
      const authenticated = request.headers.authorization !== undefined;
      const disturbance = authenticated ? undefined : this.#disturbance(asked, false);
      return await disturb(disturbance, () => this.#checked(request, url, asked, call), failure);
    } catch (error) {
      return errorReply(error);
    }
  }

  async #checked(
    request: IncomingMessage,
    url: URL,
    asked: SecretRequest | undefined,
    call: Writable<CallUnderWay>,
  ): Promise<Reply | Unanswered> {
    const { configuration } = this.#vault;
    const caller = await authenticate(request.headers.authorization, configuration, this.#dependencies.tokens);
    call.caller = caller.clientId;
    if (asked === undefined) {
      throw unknownPath(url.pathname);
    }
    this.#limit();
    return disturb(
      this.#disturbance(asked, true),
      async () => {
        try {
          validateAddress(asked, url.searchParams);
          authorize(caller, asked.operation, asked.name, configuration);
          const { reply, effect, version } = await this.#api.perform(asked, url.searchParams, await body(request));
          this.#dependencies.counter.performed(this.#vault.name, effect);
          if (version !== undefined) call.version = version;
          return reply;
        } catch (error) {
          return errorReply(error);
        }
      },
      failure,
    );
  }

  #disturbance(asked: SecretRequest | undefined, authenticated: boolean): Disturbance {
    return this.#dependencies.faults.take({
      target: "vault",
      vault: this.#vault.name,
      ...(asked === undefined ? {} : { operation: asked.operation, name: asked.name }),
      authenticated,
    });
  }

  /** Refused calls do not count towards the limit: "Azure Key Vault throttling guidance". */
  #limit(): void {
    const limit = this.#dependencies.settings.serviceLimit;
    const now = Date.now();
    if (limit !== null && this.#transactions.count(now) >= limit) {
      throw throttled({
        "Retry-After": String(Math.max(1, Math.ceil(this.#transactions.untilNextLeaves(now) / 1000))),
      });
    }
    this.#transactions.add(now);
  }
}

const failure = (status: number) => failureOf(status).reply();

async function body(request: IncomingMessage): Promise<string> {
  try {
    return await readBody(request, BODY_LIMIT);
  } catch (error) {
    throw error instanceof BodyTooLarge ? invalidProperty() : error;
  }
}

function errorReply(error: unknown): Reply {
  if (error instanceof KeyVaultError) {
    return error.reply();
  }
  throw error;
}
