import { readFileSync } from "node:fs";
import { createSecureContext } from "node:tls";
import type { Logger } from "../program/logging.ts";
import { ConfigError } from "../program/settings.ts";
import type { Config } from "./config.ts";
import type { TlsSettings } from "./server.ts";

const LOOK_EVERY_MS = 10_000;

/**
 * What the settings name, read; undefined for plain HTTP.
 *
 * @throws ConfigError
 */
export function readTls({ certFile, keyFile, clientCaFile }: Config["http"]): TlsSettings | undefined {
  if (certFile === undefined && keyFile === undefined && clientCaFile === undefined) return undefined;
  if (certFile === undefined || keyFile === undefined) {
    throw new ConfigError(["http: certFile and keyFile belong together, and clientCaFile needs both"]);
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
    throw new ConfigError([`http: the files of TLS cannot be used (${code})`]);
  }
}

/** Takes up what is renewed, until stopped; what cannot be used is told, and the last one goes on. */
export function followTls(
  http: Config["http"],
  log: Pick<Logger, "info" | "warn">,
  use: (settings: TlsSettings) => void,
  everyMs = LOOK_EVERY_MS,
): () => void {
  let last = JSON.stringify(readTls(http));
  const timer = setInterval(() => {
    try {
      const settings = readTls(http);
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
