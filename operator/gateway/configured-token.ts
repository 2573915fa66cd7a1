import { readFileSync } from "node:fs";
import { SafeError } from "../../core/errors.ts";
import type { TokenNeed, TokenSource } from "../../core/fleet/membership.ts";
import { type PresentedToken, presentedToken } from "../../core/fleet/presented-token.ts";
import { Sensitive } from "../../core/sensitive.ts";
import type { Logger } from "../../program/logging.ts";
import { ConfigError } from "../../program/settings.ts";
import type { Config } from "../config.ts";
import type { OperationalSecrets } from "../operational-secrets/operational-secrets.ts";

type TokenSettings = Pick<Config["gateway"], "bootstrapToken" | "bootstrapTokenFile">;
type TokenSecrets = Pick<OperationalSecrets, "names" | "find" | "source">;

const ENTRY = "gateway.bootstrapTokenSecret";

/**
 * The bootstrap token of the settings. From a file it is read anew each time, from a Key Vault at the start and while one is needed,
 * so that another one needs no restart.
 */
export class ConfiguredToken implements TokenSource {
  readonly #file: string | undefined;
  readonly #secrets: TokenSecrets;
  readonly #log: Pick<Logger, "warn">;
  #given: Sensitive | undefined;
  #looked = false;
  #problem: string | undefined;

  constructor({ bootstrapToken, bootstrapTokenFile }: TokenSettings, secrets: TokenSecrets, log: Pick<Logger, "warn">) {
    this.#given = bootstrapToken;
    this.#file = bootstrapTokenFile;
    this.#secrets = secrets;
    this.#log = log;
  }

  async current(need: TokenNeed): Promise<PresentedToken | undefined> {
    if (this.#secrets.names(ENTRY) && (need === "Urgent" || !this.#looked)) await this.#lookInVault();
    return this.#given === undefined ? this.#inFile() : presentedToken(this.#given);
  }

  forget(): void {
    this.#given?.dispose();
    this.#given = undefined;
  }

  /** An entry that is missing or disabled is one of which the token was taken out again. */
  async #lookInVault(): Promise<void> {
    try {
      const text = await this.#secrets.find(ENTRY);
      this.#looked = true;
      this.forget();
      this.#given = text;
      this.#tell(text === undefined ? undefined : malformed(text));
    } catch (error) {
      const why = error instanceof SafeError || error instanceof ConfigError ? error.message : "it failed";
      this.#tell(`cannot be read: ${why}`);
    }
  }

  /** A file that is missing or empty is one of which the token was taken out again. */
  #inFile(): PresentedToken | undefined {
    if (this.#file === undefined) return undefined;
    let text: string;
    try {
      text = readFileSync(this.#file, "utf8").trim();
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      this.#tell(code === "ENOENT" ? undefined : `cannot be read (${code})`);
      return undefined;
    }
    if (text === "") {
      this.#tell(undefined);
      return undefined;
    }
    const given = new Sensitive(text);
    this.#tell(malformed(given));
    return presentedToken(given);
  }

  #tell(problem: string | undefined): void {
    if (problem !== undefined && problem !== this.#problem) this.#log.warn(`${this.#place()} ${problem}`);
    this.#problem = problem;
  }

  #place(): string {
    return this.#file === undefined ? this.#secrets.source(ENTRY) : `gateway.bootstrapTokenFile: ${this.#file}`;
  }
}

const malformed = (text: Sensitive): string | undefined =>
  presentedToken(text) === undefined
    ? "holds no bootstrap token; it must be what `mazevault gateways bootstrap NAME` printed"
    : undefined;
