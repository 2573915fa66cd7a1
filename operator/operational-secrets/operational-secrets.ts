/**
 * Secrets of the program itself in a Key Vault, which it reads with its managed identity before it opens anything else. A vault that
 * does not answer is waited for; what waiting cannot mend, such as an entry that is missing, ends the start with what to do.
 */
import { setTimeout as delay } from "node:timers/promises";
import type { AzureCall, KeyVaults } from "../../adapters/keyvault/vaults.ts";
import { Stalled, Unavailable } from "../../core/errors.ts";
import { Sensitive } from "../../core/sensitive.ts";
import type { HealthCheck } from "../../program/health.ts";
import type { Logger } from "../../program/logging.ts";
import { ConfigError } from "../../program/settings.ts";
import type { Config } from "../config.ts";
import { openKeyVaults } from "../key-vaults.ts";
import { KeptSecret } from "./kept-secret.ts";
import { entryOf, type SecretSetting, type SecretSources } from "./settings.ts";

const FIRST_RETRY_MS = 250;
const LONGEST_RETRY_MS = 5_000;
/** Each call has its own time. */
const UNTIL_ANSWERED = new AbortController().signal;

/** Reads what a setting names. */
export type SecretReader = (setting: SecretSetting) => Promise<Sensitive>;

export class OperationalSecrets {
  readonly #config: Pick<Config, "azure"> & SecretSources;
  readonly #log: Pick<Logger, "debug" | "warn">;
  readonly #vaults: KeyVaults | undefined;
  readonly #stopped = new AbortController();
  #problem: string | undefined;

  constructor(
    config: Pick<Config, "azure"> & SecretSources,
    log: Pick<Logger, "debug" | "warn">,
    onCall: (call: AzureCall) => void,
  ) {
    this.#config = config;
    this.#log = log;
    if (config.operationalSecrets.vaultUrl !== undefined)
      this.#vaults = openKeyVaults(config, log, onCall, {
        readsOnly: true,
        // Pauses grow here, and nobody else calls.
        breaker: { failures: Number.MAX_SAFE_INTEGER, probeAfterMs: 1 },
      });
  }

  /** For /readyz; none where no vault is named. */
  get checks(): readonly HealthCheck[] {
    return this.#vaults === undefined ? [] : [{ name: "operationalSecrets", check: () => this.#problem }];
  }

  names(setting: SecretSetting): boolean {
    return entryOf(this.#config, setting) !== undefined;
  }

  /** Where it is kept, for whoever looks for it. */
  source(setting: SecretSetting): string {
    return `entry ${entryOf(this.#config, setting)} of ${this.#config.operationalSecrets.vaultUrl} (${setting})`;
  }

  /**
   * What the setting names now, without white space at its end. Undefined where there is no such entry, or where it is disabled or
   * empty. Throws `ConfigError` when the vault refuses, `Unavailable` when it does not answer.
   */
  async find(setting: SecretSetting): Promise<Sensitive | undefined> {
    const found = await this.#look(setting, UNTIL_ANSWERED);
    return typeof found === "string" ? undefined : found;
  }

  /** As `find`; throws `ConfigError` with what to do where there is none. */
  readonly read: SecretReader = (setting) => this.#required(setting, UNTIL_ANSWERED);

  /** As `read`, as soon as the vault answers. */
  readonly awaited: SecretReader = async (setting) => {
    const { signal } = this.#stopped;
    for (let pauseMs = FIRST_RETRY_MS; ; pauseMs = Math.min(LONGEST_RETRY_MS, pauseMs * 2)) {
      try {
        const secret = await this.#required(setting, signal);
        this.#problem = undefined;
        return secret;
      } catch (error) {
        if (!(error instanceof Unavailable)) throw error;
        this.#problem = `waiting for ${this.source(setting)}: ${error.message}`;
        this.#log.warn({ error, retryInMs: pauseMs }, `waiting for ${this.source(setting)}`);
        await delay(pauseMs, undefined, { signal });
      }
    }
  };

  /** A password that may be rotated; undefined where the setting names none. Waits as `awaited` does. */
  async kept(setting: SecretSetting): Promise<KeptSecret | undefined> {
    if (!this.names(setting)) return undefined;
    const first = await this.awaited(setting);
    return new KeptSecret(this.source(setting), first, { read: () => this.read(setting), log: this.#log });
  }

  /** Nothing is waited for any more. */
  stop(): void {
    this.#stopped.abort();
  }

  async #required(setting: SecretSetting, signal: AbortSignal): Promise<Sensitive> {
    const found = await this.#look(setting, signal);
    if (typeof found !== "string") return found;
    throw new ConfigError([`${setting}: ${found}`]);
  }

  /** The secret, or why there is none and what to do. */
  async #look(setting: SecretSetting, signal: AbortSignal): Promise<Sensitive | string> {
    const { vaultUrl: url, clientId } = this.#config.operationalSecrets;
    const name = entryOf(this.#config, setting);
    if (url === undefined || name === undefined || this.#vaults === undefined) return "names no entry";
    const auth = { kind: "ManagedIdentity", ...(clientId !== undefined && { clientId }) } as const;
    try {
      const vault = this.#vaults.open({ uid: "operational-secrets", url, auth }, "Change");
      const state = await vault.get(name, signal);
      const [vaultName] = new URL(url).host.split(".");
      const make = `az keyvault secret set --vault-name ${vaultName} --name ${name} --file FILE`;
      if (state.kind === "Absent") return `${url} has no entry ${name}; make it: ${make}`;
      if (state.kind === "Disabled")
        return `entry ${name} of ${url} is disabled; enable it, or make a new version of it`;
      const { value } = state.entry;
      const secret = new Sensitive(value.revealText().trimEnd());
      value.dispose();
      return secret.byteLength === 0 ? `entry ${name} of ${url} is empty; give it a value: ${make}` : secret;
    } catch (error) {
      if (error instanceof Stalled) throw new ConfigError([`${setting}: entry ${name}: ${this.#refusal(error)}`]);
      throw error;
    }
  }

  #refusal({ code, message }: Stalled): string {
    if (code !== "CredentialInvalid") return message;
    const { operationalSecrets, azure } = this.#config;
    const clientId = operationalSecrets.clientId ?? azure.managedIdentityClientId;
    const identity = clientId === undefined ? "the system-assigned identity" : `the managed identity ${clientId}`;
    return `Entra ID gives no token of ${identity} for ${operationalSecrets.vaultUrl}; check operationalSecrets.clientId (without it AZURE_MANAGED_IDENTITY_CLIENT_ID), and whether the identity is assigned to where this program runs`;
  }
}
