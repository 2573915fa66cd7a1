/** How a gateway performs the task KeyVaultCall: with its own Key Vaults, so that their budget is one with its own rules'. */
import { Unavailable } from "../errors.ts";
import type { AuditLog } from "../ports/audit-log.ts";
import { Ambiguous, type TargetVault, Throttled, type VaultEntryProperties } from "../ports/target-vault.ts";
import type { TargetVaults } from "../ports/target-vaults.ts";
import { Sensitive } from "../sensitive.ts";
import {
  answerJson,
  type CalledVault,
  type KeyVaultCall,
  keyVaultCall,
  type VaultAnswer,
  type VaultCall,
} from "./key-vault-call.ts";
import { Places } from "./places.ts";
import type { TaskContext, TaskHandler } from "./tasks.ts";

export interface KeyVaultCallsParts {
  readonly vaults: TargetVaults;
  readonly audit: Pick<AuditLog, "append">;
  /** Of one request to a vault. */
  readonly requestTimeoutMs: number;
  /** In milliseconds; never goes back. */
  readonly elapsed?: () => number;
}

/** A list that the primary has not gone on with for so long is not gone on with; a vault that it has not called is not kept. */
const LIST_IDLE_MS = 60_000;
const VAULT_IDLE_MS = 900_000;
const MOST_LISTS = 64;
/** Of a lease no more is asked for; what takes longer is cut off by the end of it. */
const LONGEST_REQUEST_MS = 10_000;
/** Of one answer; the next pages come with the next task. */
const PAGES_FOR_MS = 4_000;
const PAGES_CHARACTERS = 400_000;

/**
 * Of what a gateway performs at once (`task-runner.ts`), so that a vault that is slow leaves room for others, and all of them for
 * what is no call of a vault. One replica of the primary keeps below (`gateway-vaults.ts`), so that its calls wait there.
 */
const MOST_OF_ONE_VAULT = 6;
const MOST_CALLS = 12;
const BUSY_MS = 1_000;

interface List {
  readonly pages: AsyncIterator<readonly VaultEntryProperties[]>;
  readonly abort: AbortController;
  /** The task that has it go on. */
  readonly current: { context: TaskContext };
  usedAt: number;
}

/** Of these the primary gets or gives a value, or loses one. */
const ON_RECORD: ReadonlySet<VaultCall["operation"]> = new Set(["get", "set", "delete", "recover", "purge"]);

export class KeyVaultCalls implements TaskHandler<KeyVaultCall, unknown> {
  readonly kind = keyVaultCall as TaskHandler<KeyVaultCall, unknown>["kind"];
  readonly #parts: KeyVaultCallsParts;
  readonly #elapsed: () => number;
  readonly #lists = new Map<string, List>();
  /** By entry: who looks whether a write was carried out, of which nobody waits for the answer any more, sees the end of it. */
  readonly #turns = new Places(1);
  /** How many are under way, by URL of the vault. */
  readonly #running = new Map<string, number>();
  /** When each was called last, by the UID that it is open under. */
  readonly #called = new Map<string, number>();

  constructor(parts: KeyVaultCallsParts) {
    this.#parts = parts;
    this.#elapsed = parts.elapsed ?? (() => performance.now());
  }

  async perform({ vault, call }: KeyVaultCall, context: TaskContext): Promise<unknown> {
    this.#sweep();
    const { url } = vault;
    const running = this.#running.get(url) ?? 0;
    const inAll = [...this.#running.values()].reduce((sum, count) => sum + count, 0);
    if (running >= MOST_OF_ONE_VAULT || inAll >= MOST_CALLS) throw new Throttled(BUSY_MS);
    this.#running.set(url, running + 1);
    try {
      if (call.operation === "list") return await this.#perform(vault, call, context);
      return await this.#turns.take(`${url} ${call.name}`, context.signal, () => this.#perform(vault, call, context));
    } finally {
      const left = (this.#running.get(url) ?? 0) - 1;
      if (left > 0) this.#running.set(url, left);
      else this.#running.delete(url);
    }
  }

  async #perform(vault: CalledVault, call: VaultCall, context: TaskContext): Promise<unknown> {
    let begun = false;
    const beforeRequest = (current: TaskContext): void => {
      current.assertActing(Math.min(this.#parts.requestTimeoutMs, LONGEST_REQUEST_MS));
      begun = true;
    };
    try {
      if (ON_RECORD.has(call.operation)) await this.#record(vault, call, context);
      return answerJson(await this.#answer(vault, call, context, beforeRequest));
    } catch (error) {
      // The request was on its way when the time was over.
      if (call.operation === "set" && begun && context.signal.aborted && !(error instanceof Ambiguous))
        throw new Ambiguous("set", "the gateway's time was over");
      throw error;
    }
  }

  async #answer(
    vault: CalledVault,
    call: VaultCall,
    context: TaskContext,
    beforeRequest: (context: TaskContext) => void,
  ): Promise<VaultAnswer> {
    const { operation } = call;
    const { signal } = context;
    if (operation === "list") return this.#pages(vault, call, context, beforeRequest);
    const target = this.#open(vault, () => beforeRequest(context));
    switch (operation) {
      case "get":
        return { operation, state: await target.get(call.name, signal, call.version) };
      case "listVersions":
        return { operation, versions: [...(await target.listVersions(call.name, signal))] };
      case "set": {
        const { name, tags, contentType } = call;
        const value = new Sensitive(Buffer.from(call.value, "base64"));
        try {
          const request = { name, value, tags, ...(contentType !== undefined && { contentType }) };
          return { operation, result: await target.set(request, signal) };
        } finally {
          value.dispose();
        }
      }
      case "getDeleted":
        return { operation, entry: await target.getDeleted(call.name, signal) };
      case "delete":
        return { operation, result: await target.delete(call.name, signal) };
      case "recover":
        await target.recover(call.name, signal);
        return { operation };
      case "purge":
        return { operation, result: await target.purge(call.name, signal) };
    }
  }

  async #pages(
    vault: CalledVault,
    { list: id, begin, pages: most }: Extract<VaultCall, { operation: "list" }>,
    context: TaskContext,
    beforeRequest: (context: TaskContext) => void,
  ): Promise<VaultAnswer> {
    const list = begin ? this.#begin(vault, id, context, beforeRequest) : this.#lists.get(id);
    if (list === undefined)
      throw new Unavailable("GatewayUnavailable", "the gateway knows nothing of this list any more; it is begun anew");
    list.current.context = context;
    list.usedAt = this.#elapsed();
    const onAbort = () => list.abort.abort(context.signal.reason);
    context.signal.addEventListener("abort", onAbort, { once: true });
    const pages: VaultEntryProperties[][] = [];
    let characters = 0;
    const until = this.#elapsed() + PAGES_FOR_MS;
    try {
      const holdsMore = () => characters < PAGES_CHARACTERS && this.#elapsed() < until;
      while (pages.length < most && (pages.length === 0 || holdsMore())) {
        const { done = false, value } = await list.pages.next();
        if (done) {
          this.#lists.delete(id);
          return { operation: "list", pages, done };
        }
        pages.push([...value]);
        characters += JSON.stringify(value).length;
      }
      return { operation: "list", pages, done: false };
    } catch (error) {
      this.#lists.delete(id);
      throw error;
    } finally {
      context.signal.removeEventListener("abort", onAbort);
    }
  }

  #begin(vault: CalledVault, id: string, context: TaskContext, beforeRequest: (context: TaskContext) => void): List {
    const abort = new AbortController();
    const current = { context };
    const target = this.#open(vault, () => beforeRequest(current.context));
    const pages = target.list(abort.signal)[Symbol.asyncIterator]();
    const list: List = { pages, abort, current, usedAt: this.#elapsed() };
    const [oldest] = this.#lists.keys();
    if (this.#lists.size >= MOST_LISTS && oldest !== undefined) this.#lists.delete(oldest);
    this.#lists.set(id, list);
    return list;
  }

  #open({ uid, url, clientId, callsPer10Seconds, priority }: CalledVault, beforeRequest: () => void): TargetVault {
    const auth = { kind: "ManagedIdentity", ...(clientId !== undefined && { clientId }) } as const;
    // No object of this cluster has such a UID.
    const access = { uid: `primary/${uid}`, url, auth, ...(callsPer10Seconds !== undefined && { callsPer10Seconds }) };
    const target = this.#parts.vaults.open(access, priority, beforeRequest);
    this.#called.set(access.uid, this.#elapsed());
    return target;
  }

  /** Before it is made, so that none is made without; what came of it is on the primary's record. */
  async #record({ url }: CalledVault, call: VaultCall, { id }: TaskContext): Promise<void> {
    if (call.operation === "list") return;
    await this.#parts.audit.append([
      {
        action: "VaultCallRequested",
        actor: { kind: "Controller", name: "GatewayTasks" },
        subject: { kind: "VaultEntry", id, name: `${url}secrets/${call.name}` },
        outcome: "Success",
        details: { operation: call.operation, task: id },
      },
    ]);
  }

  #sweep(): void {
    const now = this.#elapsed();
    for (const [id, { usedAt }] of this.#lists) if (now - usedAt > LIST_IDLE_MS) this.#lists.delete(id);
    for (const [uid, calledAt] of this.#called) {
      if (now - calledAt <= VAULT_IDLE_MS) continue;
      this.#called.delete(uid);
      this.#parts.vaults.forget(uid);
    }
  }
}
