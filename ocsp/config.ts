/** The settings of the OCSP responder. */
import { z } from "zod";
import { database, log, milliseconds, port } from "../program/common-settings.ts";
import { listeningHost } from "../program/listening.ts";

const http = z.strictObject({
  host: listeningHost("OCSP, CRLs and CA certificates"),
  port: port.default(8080).describe("Port of OCSP, CRLs and CA certificates."),
  certFile: z
    .string()
    .min(1)
    .optional()
    .describe(
      "PEM of the server's certificate, for TLS; read again when it changes. Plain HTTP is what clients expect.",
    ),
  keyFile: z.string().min(1).optional().describe("PEM of its private key."),
  clientCaFile: z
    .string()
    .min(1)
    .optional()
    .describe("PEM of CA certificates: only clients with a certificate of one of them are served. Needs TLS."),
  maxConnections: z.int().min(1).max(100_000).default(10_000).describe("Highest number of connections."),
  maxAgeMs: milliseconds
    .default(3_600_000)
    .describe(
      "How long HTTP caches may keep an answer or a CRL, in milliseconds: behind them a revocation is seen that much later.",
    ),
});

const health = z.strictObject({
  host: listeningHost("/healthz, /readyz and /metrics"),
  port: port.default(8081).describe("Port of /healthz, /readyz and /metrics."),
});

export const configSchema = z.strictObject({
  database: database
    .extend({
      user: z.string().min(1).default("mazevault_ocsp").describe("Role that `grant_ocsp` was called for."),
      poolSize: z.int().min(2).max(20).default(3).describe("Highest number of connections."),
    })
    .prefault({}),
  http: http.prefault({}),
  health: health.prefault({}),
  log: log.prefault({}),
});
export type Config = z.infer<typeof configSchema>;
