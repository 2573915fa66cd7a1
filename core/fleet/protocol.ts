/**
 * What gateways and the primary say to each other inside the channel; JSON, judged by these schemas on arrival.
 *
 * Both may be of different versions, for as long as an upgrade takes and longer. What reports or asks is read for what is known: a
 * field that only a newer one has is left out, and answers are read the same way. What has something done, such as a write, a
 * signature or a task, is refused where it says anything that is not understood, which may be what limits it; so a new field goes
 * into one of those only where somebody has asked for what it means.
 */
import { z } from "zod";
import { gatewayEnvironment, gatewayRole } from "../../crds/gateway.ts";

export const CHANNEL_PATH = "/api/v1/gateways/channel";
export const CHANNEL_PROTOCOL = "mazevault-channel-1";
/** DNS name in the certificates of the replicas that serve the channel; it is never resolved. */
export const CHANNEL_HOST = "primary.fleet.mazevault.internal";
export const HEARTBEAT_SECONDS = 60;

export { gatewayEnvironment, gatewayRole };
export type GatewayRole = z.infer<typeof gatewayRole>;

const pem = z.string().min(1).max(65_536);

export const registrationRequest = z.object({
  /** See `bootstrap-token.ts`. */
  token: z.string().min(1).max(256),
  /** PKCS #10 (RFC 2986), PEM; only its key counts. */
  csr: pem,
  environment: gatewayEnvironment,
  role: gatewayRole,
  version: z.string().min(1).max(64),
});
export type RegistrationRequest = z.infer<typeof registrationRequest>;

export const registration = z.object({
  gatewayId: z.uuid(),
  name: z.string(),
  environment: gatewayEnvironment,
  role: gatewayRole,
  /** PEM: the gateway's certificate first, the fleet's root last. */
  certificates: pem,
  heartbeatSeconds: z.int().positive(),
});
export type Registration = z.infer<typeof registration>;

export const confirmationRequest = z.object({});

export const certificateRequest = z.object({ csr: pem });
export const certificateAnswer = z.object({ certificates: pem });

/** Decimal digits of a number that may be larger than JSON's are exact. */
export const counter = z.string().regex(/^\d{1,19}$/);

export const heartbeat = z.object({
  version: z.string().min(1).max(64),
  /** What is wrong there, by the names of its health checks, without a value; none: it is well. */
  problems: z.array(z.string().max(256)).max(32),
  /** Writes that wait for the primary. */
  queueLength: z.int().nonnegative(),
  certificateNotAfter: z.iso.datetime(),
  /** The newest one of its environment that it has been told of; 0, or absent: none. */
  environmentEpoch: counter.optional(),
});
export type Heartbeat = z.infer<typeof heartbeat>;

/** May the gateway act for its environment? Part of each answer to one that asks what to do; see `acting-lease.ts`. */
export const grant = z.object({
  active: z.boolean(),
  /** Of the environment: one more with each failover. What was begun in an older one is not finished. */
  environmentEpoch: counter,
  /** From when the gateway sent the request. */
  leaseMs: z.int().nonnegative(),
});
export type Grant = z.infer<typeof grant>;

export const heartbeatAnswer = z.object({
  ...grant.shape,
  /** Of the primary's leadership. */
  epoch: counter,
  heartbeatSeconds: z.int().positive(),
});
export type HeartbeatAnswer = z.infer<typeof heartbeatAnswer>;
