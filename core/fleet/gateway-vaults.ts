/** Key Vaults, of which some are called by gateways: each call is a task, and what comes of it is what comes of the call. */
import { randomUUID } from "node:crypto";
import { Unavailable } from "../errors.ts";
import {
  Ambiguous,
  type DeleteResult,
  type EntryState,
  type PurgeResult,
  type SetRequest,
  type SetResult,
  type TargetVault,
  type VaultEntryProperties,
  type VaultVersion,
} from "../ports/target-vault.ts";
import {
  type GatewayVaultAuth,
  normalVaultUrl,
  type Priority,
  type TargetVaults,
  type VaultAccess,
  type VaultState,
} from "../ports/target-vaults.ts";
import {
  type KeyVaultCall,
  keyVaultCall,
  type VaultAnswer,
  type VaultCall,
  type VaultOperation,
} from "./key-vault-call.ts";
import { Places } from "./places.ts";
import type { GatewayTasks } from "./tasks.ts";

/** The first page may be all that is wanted; so many go in one task then. */
const PAGES = 20;
/** At once; the gateway turns away what is more than it has room for (`key-vault-calls.ts`). */
const MOST_OF_ONE_VAULT = 4;
const MOST_OF_ONE_GATEWAY = 10;

export class GatewayVaults implements TargetVaults {
  readonly #own: TargetVaults;
  readonly #tasks: CallTasks;

  /** @param own those that are called from here */
  constructor(own: TargetVaults, tasks: GatewayTasks) {
    this.#own = own;
    this.#tasks = new CallTasks(tasks);
  }

  open(access: VaultAccess, priority: Priority, beforeRequest?: () => void): TargetVault {
    const { auth } = access;
    if (auth.kind !== "Gateway") return this.#own.open(access, priority, beforeRequest);
    // It may have been called from here before; what is called from there is a gateway's to keep.
    this.#own.forget(access.uid);
    return new GatewayVault(this.#tasks, access, auth, priority, beforeRequest);
  }

  forget(uid: string): void {
    this.#own.forget(uid);
  }

  forgetAll(): void {
    this.#own.forgetAll();
  }

  /** Of those that are called from here; gateways tell of theirs themselves. */
  states(): readonly VaultState[] {
    return this.#own.states();
  }

  close(): Promise<void> {
    return this.#own.close();
  }
}

/** What is more than a vault, or its gateway, is given at once waits before it is a task, which somebody would have to begin in time. */
class CallTasks {
  readonly #tasks: GatewayTasks;
  readonly #vaults = new Places(MOST_OF_ONE_VAULT);
  readonly #gateways = new Places(MOST_OF_ONE_GATEWAY);

  constructor(tasks: GatewayTasks) {
    this.#tasks = tasks;
  }

  /** @param beforeRequest asked when it is its turn */
  perform(
    { gateway, environments }: GatewayVaultAuth,
    body: KeyVaultCall,
    signal: AbortSignal,
    beforeRequest: (() => void) | undefined,
  ): Promise<VaultAnswer> {
    return this.#vaults.take(`${gateway} ${body.vault.url}`, signal, () =>
      this.#gateways.take(gateway, signal, async () => {
        beforeRequest?.();
        return this.#tasks.perform(gateway, keyVaultCall, body, { signal, environments });
      }),
    );
  }
}

type Answer<Operation extends VaultOperation> = Extract<VaultAnswer, { operation: Operation }>;

class GatewayVault implements TargetVault {
  readonly url: string;
  readonly #tasks: CallTasks;
  readonly #access: VaultAccess;
  readonly #auth: GatewayVaultAuth;
  readonly #priority: Priority;
  readonly #beforeRequest: (() => void) | undefined;

  constructor(
    tasks: CallTasks,
    access: VaultAccess,
    auth: GatewayVaultAuth,
    priority: Priority,
    beforeRequest: (() => void) | undefined,
  ) {
    this.url = normalVaultUrl(access.url);
    this.#tasks = tasks;
    this.#access = access;
    this.#auth = auth;
    this.#priority = priority;
    this.#beforeRequest = beforeRequest;
  }

  async *list(signal: AbortSignal): AsyncIterable<readonly VaultEntryProperties[]> {
    const list = randomUUID();
    let begin = true;
    for (;;) {
      const { pages, done } = await this.#look("list", { list, begin, pages: begin ? 1 : PAGES }, signal);
      begin = false;
      yield* pages;
      if (done) return;
    }
  }

  async get(name: string, signal: AbortSignal, version?: string): Promise<EntryState> {
    return (await this.#look("get", { name, ...(version !== undefined && { version }) }, signal)).state;
  }

  async listVersions(name: string, signal: AbortSignal): Promise<readonly VaultVersion[]> {
    return (await this.#look("listVersions", { name }, signal)).versions;
  }

  async set({ name, value, tags, contentType }: SetRequest, signal: AbortSignal): Promise<SetResult> {
    const given = { name, value: value.reveal().toString("base64"), tags: { ...tags } };
    return (await this.#call("set", { ...given, ...(contentType !== undefined && { contentType }) }, signal)).result;
  }

  async getDeleted(name: string, signal: AbortSignal): Promise<VaultEntryProperties | undefined> {
    return (await this.#look("getDeleted", { name }, signal)).entry;
  }

  async delete(name: string, signal: AbortSignal): Promise<DeleteResult> {
    return (await this.#look("delete", { name }, signal)).result;
  }

  async recover(name: string, signal: AbortSignal): Promise<void> {
    await this.#look("recover", { name }, signal);
  }

  async purge(name: string, signal: AbortSignal): Promise<PurgeResult> {
    return (await this.#look("purge", { name }, signal)).result;
  }

  /** For what changes nothing, or is harmless to repeat. */
  async #look<Operation extends VaultOperation>(
    operation: Operation,
    given: Omit<Extract<VaultCall, { operation: Operation }>, "operation">,
    signal: AbortSignal,
  ): Promise<Answer<Operation>> {
    try {
      return await this.#call(operation, given, signal);
    } catch (error) {
      if (!(error instanceof Ambiguous)) throw error;
      throw new Unavailable("GatewayUnavailable", `${operation} at ${this.url}: ${error.what}; it is tried again`);
    }
  }

  async #call<Operation extends VaultOperation>(
    operation: Operation,
    given: Omit<Extract<VaultCall, { operation: Operation }>, "operation">,
    signal: AbortSignal,
  ): Promise<Answer<Operation>> {
    const { uid, callsPer10Seconds } = this.#access;
    const { gateway, clientId } = this.#auth;
    const vault = {
      uid,
      url: this.url,
      priority: this.#priority,
      ...(clientId !== undefined && { clientId }),
      ...(callsPer10Seconds !== undefined && { callsPer10Seconds }),
    };
    const call = { operation, ...given } as unknown as VaultCall;
    const answer = await this.#tasks.perform(this.#auth, { vault, call }, signal, this.#beforeRequest);
    if (answer.operation !== operation)
      throw new Ambiguous(operation, `gateway ${gateway} answered ${answer.operation} instead`);
    return answer as Answer<Operation>;
  }
}
