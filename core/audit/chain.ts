import { createHash, createHmac, type KeyObject, timingSafeEqual } from "node:crypto";
import { encodeFields } from "../canonical.ts";
import type { AuditVerdict } from "../ports/audit-log.ts";
import { type AuditRow, rowMacHolds } from "./row.ts";

/** A row with its place in the chain: positions count from 1 without a gap. */
export interface LinkedRow extends AuditRow {
  readonly sequence: bigint;
  readonly position: bigint;
  /** SHA-256 over position, the link before and the row's MAC, 32 bytes. */
  readonly link: Buffer;
}

/** Where the chain ends; its MAC tells a head that we wrote from one that somebody else did. */
export interface ChainHead {
  readonly position: bigint;
  readonly link: Buffer;
  readonly mac: Buffer;
}

/** The link before the first row. */
export const GENESIS: Buffer = Buffer.alloc(32);

export function linkOf(previous: Buffer, position: bigint, rowMac: Buffer): Buffer {
  return createHash("sha256")
    .update(encodeFields("mazevault audit link", [position, previous, rowMac]))
    .digest();
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

type Fault = Extract<AuditVerdict, { ok: false }>["fault"];

/**
 * Walks the chain once, in the order of positions, then the rows that are not linked yet. It proves that what stands
 * there is whole and in order up to the head; that an older head was not put back together with its rows, only an
 * anchor outside of the database can prove.
 */
export class ChainVerification {
  readonly #key: KeyObject;
  #previous: Buffer = GENESIS;
  #position = 0n;
  #unlinked = 0;
  #fault: Extract<AuditVerdict, { ok: false }> | undefined;

  constructor(key: KeyObject) {
    this.#key = key;
  }

  get failed(): boolean {
    return this.#fault !== undefined;
  }

  linked(row: LinkedRow): void {
    const fault = this.failed ? undefined : this.#faultOf(row);
    if (fault !== undefined) this.#fail(row.sequence, fault);
    this.#previous = row.link;
    this.#position = row.position;
  }

  unlinked(row: AuditRow & { readonly sequence: bigint }): void {
    if (!this.failed && !rowMacHolds(this.#key, row)) this.#fail(row.sequence, "macDiffers");
    this.#unlinked += 1;
  }

  #faultOf(row: LinkedRow): Fault | undefined {
    const expected = this.#position + 1n;
    if (row.position > expected) return "rowMissing";
    if (row.position < expected) return "chainBroken";
    if (!rowMacHolds(this.#key, row)) return "macDiffers";
    return linkOf(this.#previous, row.position, row.mac).equals(row.link) ? undefined : "chainBroken";
  }

  /** `row` of a fault is the sequence number of the first bad row, or of the first that is missing at the end. */
  finish(head: ChainHead): AuditVerdict {
    if (this.#fault === undefined) {
      if (!headMacHolds(this.#key, head)) this.#fail(head.position, "macDiffers");
      else if (head.position > this.#position) this.#fail(this.#position + 1n, "rowMissing");
      else if (head.position < this.#position || !head.link.equals(this.#previous)) {
        this.#fail(head.position, "chainBroken");
      }
    }
    return (
      this.#fault ?? {
        ok: true,
        linked: Number(this.#position),
        unlinked: this.#unlinked,
        head: this.#previous.toString("hex"),
      }
    );
  }

  #fail(row: bigint, fault: Fault): void {
    this.#fault = { ok: false, row, fault };
  }
}
