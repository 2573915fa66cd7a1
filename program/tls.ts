/** Certificates of a server that speaks TLS: from files, and again when they change. */
import { readFileSync } from "node:fs";
import { createSecureContext, type SecureContextOptions } from "node:tls";
import type { Logger } from "./logging.ts";
import { ConfigError } from "./settings.ts";

const LOOK_EVERY_MS = 10_000;

/** The settings of a section that names them. */
export interface TlsFiles {
  readonly certFile?: string | undefined;
  readonly keyFile?: string | undefined;
  readonly clientCaFile?: string | undefined;
}

export interface TlsSettings extends Pick<SecureContextOptions, "cert" | "key" | "ca"> {
  /** Whether clients are asked for a certificate of `ca`. */
  readonly requestCert: boolean;
}

/**
 * What the settings name, read; undefined when they name nothing. `section` is where they stand.
 *
 * @throws ConfigError
 */
export function readTls(section: string, { certFile, keyFile, clientCaFile }: TlsFiles): TlsSettings | undefined {
  if (certFile === undefined && keyFile === undefined && clientCaFile === undefined) return undefined;
  if (certFile === undefined || keyFile === undefined) {
    throw new ConfigError([`${section}: certFile and keyFile belong together, and clientCaFile needs both`]);
  }
  try {
    const settings = {
      cert: readFileSync(certFile),
      key: readFileSync(keyFile),
      ...(clientCaFile !== undefined && { ca: readFileSync(clientCaFile) }),
      requestCert: clientCaFile !== undefined,
    };
    createSecureContext(settings);
    return settings;
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new ConfigError([`${section}: the files of TLS cannot be used (${code})`]);
  }
}

/** Takes up what is renewed, until stopped; what cannot be used is told, and the last one goes on. */
export function followTls(
  section: string,
  files: TlsFiles,
  log: Pick<Logger, "info" | "warn">,
  use: (settings: TlsSettings) => void,
  everyMs = LOOK_EVERY_MS,
): () => void {
  let last = JSON.stringify(readTls(section, files));
  const timer = setInterval(() => {
    try {
      const settings = readTls(section, files);
      const now = JSON.stringify(settings);
      if (settings === undefined || now === last) return;
      last = now;
      use(settings);
      log.info("TLS goes on with other certificates");
    } catch (error) {
      log.warn({ problem: (error as Error).message }, "TLS goes on as it was");
    }
  }, everyMs);
  timer.unref();
  return () => clearInterval(timer);
}
