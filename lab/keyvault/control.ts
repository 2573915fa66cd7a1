import type { LoggedCall } from "./call-log.ts";
import type { Counters } from "./counters.ts";
import type { FaultRule } from "./faults.ts";
import type { Settings, SettingsChange } from "./settings.ts";
import type { Phase, SecretVersion } from "./vault/state.ts";

export type { LoggedCall } from "./call-log.ts";
export type { Counters, VaultCounters } from "./counters.ts";
export type { FaultEffect, FaultRule } from "./faults.ts";

/** A secret as the vault stores it, values included. */
export interface StoredSecret {
  readonly name: string;
  readonly state: Phase["kind"];
  /** Oldest first; the last one is current. */
  readonly versions: readonly SecretVersion[];
}

/** What a person may change in the portal. */
export interface PersonalEdit {
  readonly contentType?: string;
  readonly tags?: Readonly<Record<string, string>>;
  readonly enabled?: boolean;
  /** Seconds since 1970. */
  readonly nbf?: number;
  readonly exp?: number;
}

/** The control API refused a call, with its message, or did not answer (status 0). */
export class ControlFailure extends Error {
  override name = "ControlFailure";
  readonly status: number;
  constructor(status: number, message: string, options?: ErrorOptions) {
    super(message, options);
    this.status = status;
  }
}

/** Client of the stand-in's control API. Every call throws {@link ControlFailure} when it is refused. */
export class Control {
  readonly #base: string;
  readonly #token: string;

  constructor(address: { readonly host: string; readonly port: number }, token: string) {
    this.#base = `http://${address.host}:${address.port}`;
    this.#token = token;
  }

  counters(): Promise<Counters> {
    return this.#call("GET", "/counters");
  }

  resetCounters(): Promise<void> {
    return this.#call("DELETE", "/counters");
  }

  /** The last 100,000 calls or more of a vault, in the order of their answers; since the stand-in was started. */
  calls(vault: string): Promise<readonly LoggedCall[]> {
    return this.#call("GET", `/vaults/${vault}/calls`);
  }

  /** Replaces all fault rules; an empty list ends every disturbance. */
  setFaults(rules: readonly FaultRule[]): Promise<void> {
    return this.#call("PUT", "/faults", rules);
  }

  /** The rules still in force; `count` is what is left of it. */
  faults(): Promise<readonly FaultRule[]> {
    return this.#call("GET", "/faults");
  }

  settings(): Promise<Settings> {
    return this.#call("GET", "/settings");
  }

  /** Changes the given settings until the stand-in stops. */
  changeSettings(change: SettingsChange): Promise<Settings> {
    return this.#call("PATCH", "/settings", change);
  }

  /** Lets retention of deleted secrets run out sooner. */
  advanceSoftDeleteClock(days: number): Promise<void> {
    return this.#call("POST", "/soft-delete-clock", { days });
  }

  vaults(): Promise<readonly string[]> {
    return this.#call("GET", "/vaults");
  }

  /** Everything in a vault, also what is deleted or being changed, ordered by name. */
  secrets(vault: string): Promise<readonly StoredSecret[]> {
    return this.#call("GET", `/vaults/${vault}/secrets`);
  }

  /** Adds a version, neither counted nor disturbed. A managed secret is one that stands behind a certificate. */
  setSecret(
    vault: string,
    name: string,
    value: string,
    { managed, ...edit }: PersonalEdit & { readonly managed?: boolean } = {},
  ): Promise<SecretVersion> {
    return this.#call("PUT", `/vaults/${vault}/secrets/${name}`, { value, managed, ...onTheWire(edit) });
  }

  /** Changes the current version: disable, tag, dates, content type. Tags are replaced as a whole. */
  updateSecret(vault: string, name: string, edit: PersonalEdit): Promise<SecretVersion> {
    return this.#call("PATCH", `/vaults/${vault}/secrets/${name}`, onTheWire(edit));
  }

  deleteSecret(vault: string, name: string): Promise<void> {
    return this.#call("DELETE", `/vaults/${vault}/secrets/${name}`);
  }

  recoverSecret(vault: string, name: string): Promise<void> {
    return this.#call("POST", `/vaults/${vault}/deletedsecrets/${name}`);
  }

  purgeSecret(vault: string, name: string): Promise<void> {
    return this.#call("DELETE", `/vaults/${vault}/deletedsecrets/${name}`);
  }

  async #call<Result>(method: string, path: string, body?: unknown): Promise<Result> {
    const response = await fetch(this.#base + path, {
      method,
      headers: { Authorization: `Bearer ${this.#token}` },
      ...(body === undefined ? {} : { body: JSON.stringify(body) }),
    }).catch((cause: unknown) => {
      throw new ControlFailure(0, `no answer from the Key Vault stand-in at ${this.#base}`, { cause });
    });
    const text = await response.text();
    if (!response.ok) {
      throw new ControlFailure(response.status, `${method} ${path}: ${text}`);
    }
    return (text === "" ? undefined : JSON.parse(text)) as Result;
  }
}

function onTheWire({ contentType, tags, ...attributes }: PersonalEdit): object {
  return { contentType, tags, attributes };
}
