/** Settings of traces, which are off until they name a receiver. */
import { BlockList, isIP } from "node:net";
import { z } from "zod";
import { milliseconds } from "../../program/common-settings.ts";

/** Loopback, and what no route of the internet leads to (RFC 1918, RFC 4193, RFC 3927, RFC 6598). */
const NEAR = new BlockList();
for (const [address, bits] of [
  ["127.0.0.0", 8],
  ["10.0.0.0", 8],
  ["172.16.0.0", 12],
  ["192.168.0.0", 16],
  ["169.254.0.0", 16],
  ["100.64.0.0", 10],
] as const)
  NEAR.addSubnet(address, bits, "ipv4");
NEAR.addAddress("::1", "ipv6");
NEAR.addSubnet("fc00::", 7, "ipv6");

/** Names without a dot, and those that a cluster gives to Services. */
const NEAR_NAME = /^[^.]+$|\.svc(\.cluster\.local)?$/;
const PART = "must be a number from 0 to 1, such as 0.1";

function isNear({ hostname }: URL): boolean {
  const host = hostname.replace(/^\[|\]$/g, "");
  const version = isIP(host);
  return version === 0 ? NEAR_NAME.test(host) : NEAR.check(host, version === 4 ? "ipv4" : "ipv6");
}

export const tracing = z.strictObject({
  endpoint: z
    .url({
      protocol: /^https?$/,
      error: "must be a URL with https:// or http://, such as https://otel.example.com:4318",
      abort: true,
    })
    .refine(
      (url) => new URL(url).username === "" && new URL(url).password === "",
      "must hold no credentials: tracing.headersFile names a file for them",
    )
    .refine((url) => !/[?#]/.test(url), "must have neither query nor fragment; /v1/traces is added to it")
    .refine(
      (url) => new URL(url).protocol === "https:" || isNear(new URL(url)),
      "must be https://: without TLS only loopback, NAME.NAMESPACE.svc and private addresses are taken",
    )
    .optional()
    .meta({
      aliases: ["OTEL_EXPORTER_OTLP_ENDPOINT"],
      description:
        "Receiver of traces: OTLP over HTTP, in JSON, such as http://otel-collector.observability.svc:4318; /v1/traces is added. None: traces are off.",
    }),
  sampleRatio: z
    .number({ error: PART })
    .min(0, PART)
    .max(1, PART)
    .default(1)
    .meta({
      aliases: ["OTEL_TRACES_SAMPLER_ARG"],
      description:
        "Part of the traces that is kept, from 0 to 1; what a caller of REST asks for by traceparent counts more.",
    }),
  serviceName: z
    .string()
    .min(1)
    .max(128)
    .default("mazevault")
    .meta({ aliases: ["OTEL_SERVICE_NAME"], description: "As what this program is shown beside its traces." }),
  caFile: z.string().min(1).optional().describe("PEM of CA certificates for the receiver, beside the system's."),
  headersFile: z
    .string()
    .min(1)
    .optional()
    .describe(
      "File with headers for the receiver, such as its token, one `Name: value` a line; read again for each batch.",
    ),
  timeoutMs: milliseconds
    .default(10_000)
    .describe("Longest wait for the receiver to take a batch, in milliseconds. Nothing else waits for it."),
});
