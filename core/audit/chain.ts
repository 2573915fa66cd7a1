import { createHmac, hash, type KeyObject, timingSafeEqual } from "node:crypto";
import { encodeFields } from "../canonical.ts";
import type { AuditRow } from "./row.ts";

/** A row as the record has it. */
export interface RecordedRow extends AuditRow {
  readonly sequence: bigint;
  /** Both absent until the linker has been there. Positions count from 1 without a gap. */
  readonly position: bigint | undefined;
  /** SHA-256 over position, the link before, the row's MAC and its digest, 32 bytes. */
  readonly link: Buffer | undefined;
}

/** A row with its place in the chain. */
export interface LinkedRow extends RecordedRow {
  readonly position: bigint;
  readonly link: Buffer;
}

export const isLinked = (row: RecordedRow): row is LinkedRow => row.position !== undefined && row.link !== undefined;

/** A place in the chain. */
export interface ChainPosition {
  readonly position: bigint;
  readonly link: Buffer;
}

/** Where the chain ends; its MAC tells a head that we wrote from one that somebody else did. */
export interface ChainHead extends ChainPosition {
  readonly mac: Buffer;
}

/** The link before the first row. */
export const GENESIS: Buffer = Buffer.alloc(32);

export function linkOf(previous: Buffer, position: bigint, { mac, digest }: Pick<AuditRow, "mac" | "digest">): Buffer {
  const fields = digest === undefined ? [position, previous, mac] : [position, previous, mac, digest];
  return hash("sha256", encodeFields("mazevault audit link", fields), "buffer");
}

export function headMac(key: KeyObject, position: bigint, link: Buffer): Buffer {
  return createHmac("sha256", key)
    .update(encodeFields("mazevault audit head", [position, link]))
    .digest();
}

export function headMacHolds(key: KeyObject, head: ChainHead): boolean {
  const expected = headMac(key, head.position, head.link);
  return head.mac.length === expected.length && timingSafeEqual(head.mac, expected);
}
