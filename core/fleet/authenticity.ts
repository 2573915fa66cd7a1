/**
 * What the fleet's rows in PostgreSQL are authenticated by: whoever can only write there can neither make a token that they know,
 * nor have a certificate signed, nor let another gateway act.
 */
import { createHmac, timingSafeEqual } from "node:crypto";
import { encodeFields, type Field } from "../canonical.ts";
import type { EnvironmentRecord } from "../ports/environment-store.ts";
import type { FleetCertificateRequest, NewToken } from "../ports/fleet-store.ts";
import type { HandledWrite } from "../ports/handled-writes.ts";
import type { SigningOrder } from "../ports/signing-store.ts";
import type { KeyRing } from "../vault/keyring.ts";

export type FleetKeys = Pick<KeyRing, "installationId" | "fleet">;

/** Covers for which gateway and place a token was made, and how long it counts; 32 bytes. */
export const tokenMac = (
  keys: FleetKeys,
  { name, place, hash, expiresAt }: Pick<NewToken, "name" | "place" | "hash" | "expiresAt">,
): Buffer => mac(keys, "mazevault bootstrap token", [name, place.environment, place.role, hash, expiresAt]);

/** Covers all that decides what the certificate says; with its time, so that an old row cannot be put back. */
export const requestMac = (
  keys: FleetKeys,
  { kind, gateway, csr, requestedAt, revision }: Omit<FleetCertificateRequest, "id" | "mac">,
): Buffer =>
  mac(keys, "mazevault fleet certificate request", [
    kind,
    gateway?.id,
    gateway?.name,
    gateway?.environment,
    gateway?.role,
    csr,
    requestedAt,
    revision,
  ]);

/** Covers who acts for an environment; with the generation of the row, so that each write has another one. */
export const environmentMac = (
  keys: FleetKeys,
  { environment, pair, active, epoch, since, fencedUntil, failover, settled }: EnvironmentRecord,
  generation: bigint,
): Buffer =>
  mac(keys, "mazevault environment", [
    environment,
    generation,
    pair?.object,
    pair?.primary,
    pair?.standby,
    active,
    epoch,
    since,
    fencedUntil,
    failover?.uid,
    failover?.name,
    settled ? 1 : 0,
  ]);
/** Covers what came of a gateway's write: whoever can only write into the database cannot have one taken for done. */
export const handledMac = (keys: FleetKeys, { environment, id, outcome }: Omit<HandledWrite, "mac">): Buffer => {
  const { version, changed, code, detail } = {
    version: undefined,
    changed: [],
    code: undefined,
    detail: undefined,
    ...outcome,
  };
  return mac(keys, "mazevault gateway write", [
    environment,
    id,
    outcome.kind,
    version,
    changed.join(","),
    code,
    detail,
  ]);
};
/** Covers who asks, with its environment, and what for; with its time, so that an old row cannot be put back. */
export const signingMac = (
  keys: FleetKeys,
  { id, kind, gateway, body, digest, requestedAt }: Omit<SigningOrder, "mac">,
): Buffer =>
  mac(keys, "mazevault request of a gateway for a certificate", [
    id,
    kind,
    gateway.gatewayId,
    gateway.name,
    gateway.environment,
    body,
    digest,
    requestedAt,
  ]);

export const sameMac = (one: Buffer, other: Buffer): boolean =>
  one.length === other.length && timingSafeEqual(one, other);

const mac = ({ installationId, fleet }: FleetKeys, purpose: string, fields: readonly Field[]): Buffer =>
  createHmac("sha256", fleet)
    .update(encodeFields(purpose, [installationId, ...fields]))
    .digest();
