/** `TargetVault` by the real SDK, imported when the first call is made: it costs memory that most processes never need. */

import type { TokenCredential } from "@azure/identity";
import type { KeyVaultSecret, SecretClient, SecretProperties } from "@azure/keyvault-secrets";
import { Stalled, Unavailable, Waiting } from "../../core/errors.ts";
import {
  Ambiguous,
  type DeleteResult,
  type EntryState,
  type PurgeResult,
  type SetRequest,
  type SetResult,
  type TargetVault,
  Throttled,
  type VaultEntryProperties,
  type VaultVersion,
} from "../../core/ports/target-vault.ts";
import type { Priority } from "../../core/ports/target-vaults.ts";
import { Sensitive } from "../../core/sensitive.ts";
import type { CallBudget } from "../../core/sync/budget.ts";
import { type Answer, describe, faultOf } from "./answer.ts";
import { type Lane, type Operation, operations } from "./lane.ts";

/** One SDK client: an identity at a vault. */
export class VaultClient {
  readonly #lane: Lane;
  readonly #credential: TokenCredential;
  readonly #customHost: boolean;
  readonly readsOnly: boolean;
  readonly budget: CallBudget;
  #client: Promise<SecretClient> | undefined;
  #first: Promise<unknown> | undefined;
  #authenticated = false;

  /**
   * @param kind `customHost`: the challenge names Azure's resource, which a host of the installation does not end with; `readsOnly`:
   *   the right to read is all that the identity needs
   */
  constructor(
    lane: Lane,
    credential: TokenCredential,
    budget: CallBudget,
    { customHost, readsOnly }: { readonly customHost: boolean; readonly readsOnly: boolean },
  ) {
    this.#lane = lane;
    this.budget = budget;
    this.#credential = credential;
    this.#customHost = customHost;
    this.readsOnly = readsOnly;
  }

  /** How long the vault wants to be left alone. */
  get pausedMs(): number {
    return this.#lane.budget.pausedMs;
  }

  /** Counts an answer that denies access. */
  deny(): void {
    this.#lane.deny();
  }

  at(priority: Priority, beforeRequest?: () => void): TargetVault {
    return new KeyVaultTarget(this.#lane.url, this, priority, beforeRequest);
  }

  /**
   * Until the first call got through the challenge, calls go one by one: the SDK keeps the body of the call that asks
   * for the challenge aside, and a second call at that time would make it lose it. A client whose first call failed
   * would send the next body without a token, so it is thrown away.
   */
  async run<T>(operation: Operation, call: (client: SecretClient) => Promise<T>): Promise<T> {
    while (!this.#authenticated && this.#first !== undefined) await this.#first.catch(() => undefined);
    this.#client ??= this.#make();
    const made = this.#client;
    const running = operations.run(operation, async () => call(await made));
    if (this.#authenticated) return running;
    this.#first = running;
    try {
      return await running;
    } finally {
      this.#first = undefined;
      this.#authenticated = operation.sent;
      if (!operation.sent) this.#client = undefined;
    }
  }

  async #make(): Promise<SecretClient> {
    const { SecretClient } = await import("@azure/keyvault-secrets");
    return new SecretClient(this.#lane.url.slice(0, -1), this.#credential, {
      httpClient: this.#lane.httpClient,
      retryOptions: { maxRetries: 0 },
      redirectOptions: { maxRetries: 0 },
      disableChallengeResourceVerification: this.#customHost,
    });
  }
}

/** What an operation makes of a refusal that concerns only its entry; undefined when it makes nothing of it. */
type Refused<T> = (answer: Answer) => { readonly result: T } | undefined;

class KeyVaultTarget implements TargetVault {
  readonly url: string;
  readonly #client: VaultClient;
  readonly #priority: Priority;
  readonly #beforeRequest: (() => void) | undefined;

  constructor(url: string, client: VaultClient, priority: Priority, beforeRequest: (() => void) | undefined) {
    this.url = url;
    this.#client = client;
    this.#priority = priority;
    this.#beforeRequest = beforeRequest;
  }

  async *list(signal: AbortSignal): AsyncIterable<readonly VaultEntryProperties[]> {
    let pages: AsyncIterator<SecretProperties[]> | undefined;
    for (;;) {
      const page = await this.#call("list", signal, async (client) => {
        pages ??= client.listPropertiesOfSecrets().byPage()[Symbol.asyncIterator]();
        return pages.next();
      });
      if (page.done === true) return;
      yield page.value.map(properties);
    }
  }

  get(name: string, signal: AbortSignal, version?: string): Promise<EntryState> {
    const options = version === undefined ? {} : { version };
    return this.#call<EntryState>(
      "get",
      signal,
      async (client) => {
        let date: string | undefined;
        const onResponse = ({ headers }: { readonly headers: { get(name: string): string | undefined } }) => {
          date = headers.get("date");
        };
        return present(await client.getSecret(name, { ...options, onResponse }), date);
      },
      ({ status, detail, date }) => {
        if (status === 404) return { result: { kind: "Absent", ...asOf(date) } };
        return status === 403 && detail === "SecretDisabled" ? { result: { kind: "Disabled" } } : undefined;
      },
    );
  }

  async listVersions(name: string, signal: AbortSignal): Promise<readonly VaultVersion[]> {
    let pages: AsyncIterator<SecretProperties[]> | undefined;
    const found: VaultVersion[] = [];
    for (;;) {
      const page = await this.#call<IteratorResult<SecretProperties[], unknown>>(
        "listVersions",
        signal,
        async (client) => {
          pages ??= client.listPropertiesOfSecretVersions(name).byPage()[Symbol.asyncIterator]();
          return pages.next();
        },
        ({ status }) => (status === 404 ? { result: { done: true, value: undefined } } : undefined),
      );
      if (page.done === true) return found;
      found.push(...page.value.map(version));
    }
  }

  set({ name, value, tags, contentType }: SetRequest, signal: AbortSignal): Promise<SetResult> {
    const options = { tags: { ...tags }, ...(contentType !== undefined && { contentType }) };
    return this.#call<SetResult>(
      "set",
      signal,
      async (client) => written(await client.setSecret(name, value.reveal().toString("utf8"), options)),
      ({ status, detail }) => {
        if (status !== 409) return undefined;
        return { result: { kind: detail === "ObjectIsDeletedButRecoverable" ? "SoftDeleted" : "InTransition" } };
      },
    );
  }

  getDeleted(name: string, signal: AbortSignal): Promise<VaultEntryProperties | undefined> {
    return this.#call<VaultEntryProperties | undefined>(
      "getDeleted",
      signal,
      async (client) => properties((await client.getDeletedSecret(name)).properties),
      ({ status }) => (status === 404 ? { result: undefined } : undefined),
    );
  }

  delete(name: string, signal: AbortSignal): Promise<DeleteResult> {
    return this.#call<DeleteResult>(
      "delete",
      signal,
      async (client) => {
        await client.beginDeleteSecret(name);
        return { kind: "Deleted" };
      },
      ({ status }) => {
        if (status === 404) return { result: { kind: "Absent" } };
        return status === 409 ? { result: { kind: "InTransition" } } : undefined;
      },
    );
  }

  recover(name: string, signal: AbortSignal): Promise<void> {
    return this.#call<void>(
      "recover",
      signal,
      async (client) => {
        await client.beginRecoverDeletedSecret(name);
      },
      // Somebody else recovers or purges it at this moment; the caller looks again anyway.
      ({ status }) => (status === 404 || status === 409 ? { result: undefined } : undefined),
    );
  }

  purge(name: string, signal: AbortSignal): Promise<PurgeResult> {
    return this.#call<PurgeResult>(
      "purge",
      signal,
      async (client) => {
        await client.purgeDeletedSecret(name);
        return "Purged";
      },
      ({ status }) => {
        if (status === 404) return { result: "Purged" };
        if (status === 409) return { result: "InTransition" };
        return status === 400 || status === 403 ? { result: "Refused" } : undefined;
      },
    );
  }

  async #call<T>(
    name: Operation["name"],
    signal: AbortSignal,
    call: (client: SecretClient) => Promise<T>,
    refused: Refused<T> = () => undefined,
  ): Promise<T> {
    signal.throwIfAborted();
    const { budget } = this.#client;
    const before = this.#beforeRequest && { beforeRequest: this.#beforeRequest };
    const operation: Operation = { name, priority: this.#priority, budget, signal, sent: false, ...before };
    try {
      return await this.#client.run(operation, call);
    } catch (error) {
      signal.throwIfAborted();
      const result = operation.last && "status" in operation.last ? refused(operation.last) : undefined;
      if (result !== undefined) return result.result;
      throw this.#judge(error, operation);
    }
  }

  /** Causes are left out: errors of the SDK carry the request, and with it values and tokens. */
  #judge(error: unknown, { name, sent, last }: Operation): Error {
    // Budget, breaker and credential say themselves what they mean.
    if (error instanceof Stalled || error instanceof Unavailable || error instanceof Waiting) return error;
    if (last === undefined)
      return new Error(`${name} at ${this.url} failed before a request was made (${faultOf(error)})`);
    const what = `${name} at ${this.url}: ${describe(last)}`;
    const writes = name === "set" && sent;
    if ("fault" in last) {
      return writes && !NEVER_SENT.test(last.fault) ? new Ambiguous(name, describe(last)) : unreachable(what);
    }
    const { status } = last;
    if (status >= 500 || status === 408) return writes ? new Ambiguous(name, describe(last)) : unreachable(what);
    if (status === 429) return new Throttled(this.#client.pausedMs);
    if (status === 403) {
      this.#client.deny();
      return new Stalled("AccessDenied", `${what}; ${adviceFor(last, this.#client.readsOnly ? "read" : name)}`);
    }
    if (status === 401) return this.#unauthenticated(what, sent);
    if (status === 400) return new Stalled("ValueInvalid", `${what}; Key Vault does not accept the entry`);
    return new Unavailable("Failed", what);
  }

  #unauthenticated(what: string, sent: boolean): Stalled {
    // The SDK found that the challenge asks for a token of something else, and sent none.
    if (!sent) return new Stalled("VaultHostNotAllowed", `${what}; the host does not ask for a token of Key Vault`);
    return new Stalled("CredentialInvalid", `${what}; the vault does not accept tokens of this tenant or identity`);
  }
}

/** The connection was never made, or the peer was not who it should be: nothing can have been carried out. */
const NEVER_SENT =
  /^(ECONNREFUSED|ENOTFOUND|EAI_\w+|EHOSTUNREACH|ENETUNREACH|ERR_TLS_\w+|CERT_\w+|UNABLE_TO_\w+|\w*SELF_SIGNED\w*)$/;

const unreachable = (what: string): Unavailable => new Unavailable("VaultUnreachable", what);

/** https://learn.microsoft.com/azure/key-vault/general/rest-error-codes */
function adviceFor({ detail }: Answer, operation: Operation["name"] | "read"): string {
  const [role, permissions] = rightsFor(operation);
  switch (detail) {
    case "ForbiddenByFirewall":
    case "ForbiddenByConnection":
      return "the vault's network rules refuse this address; allow it, or use a private endpoint";
    case "ForbiddenByRbac":
      return `grant the identity the role ${role}`;
    case "AccessDenied":
    case "ForbiddenByPolicy":
      return `give the identity the secret permissions ${permissions} in the vault's access policy`;
    default:
      return `grant the identity the role ${role}, or the secret permissions ${permissions}`;
  }
}

function rightsFor(operation: Operation["name"] | "read"): readonly [role: string, permissions: string] {
  if (operation === "read") return ["Key Vault Secrets User", "get"];
  if (operation !== "delete") return ["Key Vault Secrets Officer", "get, list, set and recover"];
  const role = "Key Vault Secrets Officer, which includes Microsoft.KeyVault/vaults/secrets/delete";
  return [role, "get, list, set, recover and delete"];
}

function properties(from: SecretProperties): VaultEntryProperties {
  return {
    name: from.name,
    enabled: from.enabled ?? true,
    updatedOn: from.updatedOn ?? new Date(0),
    tags: from.tags ?? {},
    ...(from.contentType !== undefined && { contentType: from.contentType }),
  };
}

function present(secret: KeyVaultSecret, date: string | undefined): EntryState {
  const value = new Sensitive(Buffer.from(secret.value ?? "", "utf8"));
  const createdOn = secret.properties.createdOn ?? new Date(0);
  const entry = { ...properties(secret.properties), version: versionOf(secret.properties), value, createdOn };
  return { kind: "Present", entry: { ...entry, ...asOf(date) } };
}

function asOf(date: string | undefined): { readonly asOf?: Date } {
  const at = new Date(date ?? Number.NaN);
  return Number.isNaN(at.getTime()) ? {} : { asOf: at };
}

const version = (from: SecretProperties): VaultVersion => ({
  version: versionOf(from),
  createdOn: from.createdOn ?? new Date(0),
  enabled: from.enabled ?? true,
  tags: from.tags ?? {},
});

function written(secret: KeyVaultSecret): SetResult {
  return { kind: "Written", version: versionOf(secret.properties), updatedOn: properties(secret.properties).updatedOn };
}

function versionOf({ version }: SecretProperties): string {
  if (version === undefined) throw new Unavailable("Failed", "the vault answered without a version");
  return version;
}
