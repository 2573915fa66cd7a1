/** Traces as the settings have them. What would send them is loaded only where they name a receiver. */
import { readFileSync } from "node:fs";
import { hostname } from "node:os";
import type { Tracing } from "../../adapters/tracing/open.ts";
import type { Logger } from "../../program/logging.ts";
import { ConfigError } from "../../program/settings.ts";
import type { Config } from "../config.ts";
import { endWithin } from "../shutdown.ts";

/** The last spans are not worth a pod that is killed because it does not end. */
const LAST_BATCHES_MS = 2_000;
const HEADER = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?)[ \t]*$/;
const SECRET_VARIABLES = ["OTEL_EXPORTER_OTLP_HEADERS", "OTEL_EXPORTER_OTLP_TRACES_HEADERS"];

/**
 * Undefined where traces are off.
 *
 * @throws ConfigError
 */
export async function openTraces(
  { tracing, version }: Pick<Config, "tracing" | "version">,
  log: Pick<Logger, "info" | "warn">,
): Promise<Tracing | undefined> {
  const { endpoint, sampleRatio, serviceName: name, caFile, headersFile, timeoutMs } = tracing;
  if (endpoint === undefined) return undefined;
  for (const variable of SECRET_VARIABLES)
    if (process.env[variable])
      throw new ConfigError([`${variable}: is not taken from the environment; name a file in tracing.headersFile`]);
  const { host } = new URL(endpoint);
  const ca = caFile === undefined ? undefined : textOf("caFile", caFile);
  const { openTracing } = await import("../../adapters/tracing/open.ts");
  return openTracing({
    endpoint,
    headers: headersIn(headersFile),
    ...(ca !== undefined && { ca }),
    sampleRatio,
    service: { name, version, instance: `${hostname()}-${process.pid}` },
    timeoutMs,
    onChange: (problem) => {
      if (problem === undefined) log.info({ host }, "traces are delivered again");
      else log.warn({ host }, `traces are lost: their receiver ${problem}`);
    },
  });
}

/** Waits for the last of them, and not long. */
export const closeTraces = (traces: Tracing | undefined): Promise<void> =>
  endWithin(LAST_BATCHES_MS, [traces?.close()]);

function headersIn(file: string | undefined): () => Record<string, string> {
  if (file === undefined) return () => ({});
  let last = parseHeaders(textOf("headersFile", file));
  return () => {
    try {
      last = parseHeaders(textOf("headersFile", file));
    } catch {
      // While it is replaced the one before counts.
    }
    return { ...last };
  };
}

function parseHeaders(text: string): Record<string, string> {
  const lines = text.split(/\r?\n/).map((line, index) => ({ line, number: index + 1 }));
  return Object.fromEntries(
    lines
      .filter(({ line }) => line.trim() !== "")
      .map(({ line, number }) => {
        const [, name, value] = HEADER.exec(line) ?? [];
        if (name === undefined || value === undefined)
          throw new ConfigError([`tracing.headersFile: line ${number} must be a header as in \`Name: value\``]);
        return [name, value];
      }),
  );
}

function textOf(setting: "caFile" | "headersFile", file: string): string {
  try {
    return readFileSync(file, "utf8");
  } catch (error) {
    throw new ConfigError([`tracing.${setting}: ${file} cannot be read (${(error as NodeJS.ErrnoException).code})`]);
  }
}
