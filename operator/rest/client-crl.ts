/** Which client certificates are revoked: from a file, and again when it changes. */
import { readFileSync } from "node:fs";
import type { Certificate } from "../../core/pki/certificate.ts";
import { type RevocationFault, RevocationLists } from "../../core/pki/revocation-lists.ts";
import type { Logger } from "../../program/logging.ts";
import { ConfigError } from "../../program/settings.ts";

const LOOK_EVERY_MS = 5_000;

export interface ClientCrlFiles {
  readonly clientCaFile?: string | undefined;
  readonly clientCrlFile?: string | undefined;
}

export class ClientCrl {
  #lists: RevocationLists;
  #content: string;
  readonly #timer: NodeJS.Timeout;

  private constructor(
    caFile: string,
    crlFile: string,
    log: Pick<Logger, "info" | "warn">,
    everyMs: number,
    now: () => Date,
  ) {
    let warned = "";
    const warn = (problem: string): void => {
      if (problem !== "" && problem !== warned) log.warn({ problem }, "client certificates");
      warned = problem;
    };
    const look = (): void => {
      try {
        const read = contentOf(caFile, crlFile);
        if (read.key !== this.#content) {
          this.#lists = RevocationLists.read(read.crls, read.authorities);
          this.#content = read.key;
          log.info("client certificates are judged by another CRL");
        }
        const [old] = this.#lists.expiring(now());
        warn(old === undefined ? "" : `the CRL of ${old.issuer} was to be renewed by ${old.nextUpdate.toISOString()}`);
      } catch (error) {
        warn(`rest.clientCrlFile: ${(error as Error).message}; the last one goes on`);
      }
    };
    try {
      const read = contentOf(caFile, crlFile);
      this.#lists = RevocationLists.read(read.crls, read.authorities);
      this.#content = read.key;
    } catch (error) {
      throw new ConfigError([`rest.clientCrlFile: ${(error as Error).message}`]);
    }
    look();
    this.#timer = setInterval(look, everyMs).unref();
  }

  /** Undefined when no file is named: then nothing is known to be revoked. Throws `ConfigError`. */
  static follow(
    { clientCaFile, clientCrlFile }: ClientCrlFiles,
    log: Pick<Logger, "info" | "warn">,
    everyMs = LOOK_EVERY_MS,
    now = () => new Date(),
  ): ClientCrl | undefined {
    if (clientCrlFile === undefined) return undefined;
    if (clientCaFile === undefined) throw new ConfigError(["rest.clientCrlFile: needs rest.clientCaFile"]);
    return new ClientCrl(clientCaFile, clientCrlFile, log, everyMs, now);
  }

  fault(certificate: Certificate, at: Date): RevocationFault | undefined {
    return this.#lists.fault(certificate, at);
  }

  close(): void {
    clearInterval(this.#timer);
  }
}

function contentOf(caFile: string, crlFile: string) {
  const authorities = readFileSync(caFile, "utf8");
  const crls = readFileSync(crlFile);
  return { authorities, crls, key: `${authorities}\n${crls.toString("base64")}` };
}
