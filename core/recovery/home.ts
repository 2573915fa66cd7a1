/** What tells a database that belongs to this cluster from one that was restored here, and namesakes from what was there before. */
import { createHmac, timingSafeEqual } from "node:crypto";
import { encodeFields, type Field } from "../canonical.ts";
import { tampered } from "../pki/status.ts";
import type { Actor, AuditAction, AuditEntry } from "../ports/audit-log.ts";
import type { Binding, BoundKind, BoundPlace, HomeRecord, StoredBinding, StoredHome } from "../ports/home-store.ts";
import type { KeyRing } from "../vault/keyring.ts";

export type HomeKeys = Pick<KeyRing, "installationId" | "home">;

/** 32 bytes. */
export const homeMac = (keys: HomeKeys, { clusterUid, state }: HomeRecord, generation: bigint): Buffer =>
  mac(keys, "mazevault home", [clusterUid, state, generation]);

/** Covers whose place an object takes; 32 bytes. */
export const bindingMac = (
  keys: HomeKeys,
  { kind, namespace, name, heldUid, uid }: Binding,
  generation: bigint,
): Buffer => mac(keys, "mazevault binding", [kind, namespace, name, heldUid, uid, generation]);

/** @throws Unavailable TamperDetected */
export function judgedHome(keys: HomeKeys, stored: StoredHome): HomeRecord {
  const { record, generation, mac, auditedGeneration } = stored;
  judge("the row of the cluster that the database belongs to", homeMac(keys, record, generation), mac);
  judgeAge("the row of the cluster that the database belongs to", generation, auditedGeneration);
  return record;
}

/** @throws Unavailable TamperDetected */
export function judgedBinding(keys: HomeKeys, stored: StoredBinding): Binding {
  const { binding, generation, mac, auditedGeneration } = stored;
  const name = `the binding of ${placeText(binding)}`;
  judge(name, bindingMac(keys, binding, generation), mac);
  judgeAge(name, generation, auditedGeneration);
  return binding;
}

function judge(name: string, expected: Buffer, mac: Buffer): void {
  if (mac.length !== expected.length || !timingSafeEqual(mac, expected))
    throw tampered(`${name} does not match its MAC`);
}

function judgeAge(name: string, generation: bigint, audited: bigint): void {
  if (generation !== audited) throw tampered(`${name} has generation ${generation}, the audit record says ${audited}`);
}

/** As the audit record calls the row of the home. */
export const HOME_ID = "home";
export const bindingId = ({ kind, heldUid }: Pick<Binding, "kind" | "heldUid">): string => `binding ${kind} ${heldUid}`;

export const homeEntry = (
  action: Extract<AuditAction, "ClusterChosen" | "AuditRecordForked" | "DatabaseRestored" | "RecoverySettled">,
  generation: bigint,
  actor: Actor,
  details: AuditEntry["details"],
): AuditEntry => ({
  action,
  actor,
  subject: { kind: "Installation", id: HOME_ID, generation, name: "home" },
  outcome: "Success",
  details,
});

export const bindingEntry = (binding: Binding, generation: bigint, actor: Actor): AuditEntry => {
  const { kind, heldUid, uid } = binding;
  return {
    action: uid === undefined ? "ObjectAwaited" : "ObjectRebound",
    actor,
    subject: { kind: "Installation", id: bindingId(binding), generation, name: placeText(binding) },
    outcome: "Success",
    details: { kind, heldUid, ...(uid !== undefined && { uid }) },
  };
};

export const placeText = ({ kind, namespace, name }: Readonly<Record<keyof BoundPlace, string>>): string =>
  namespace === "" ? `${kind} ${name}` : `${kind} ${namespace}/${name}`;

const mac = ({ installationId, home }: HomeKeys, purpose: string, fields: readonly Field[]): Buffer =>
  createHmac("sha256", home)
    .update(encodeFields(purpose, [installationId, ...fields]))
    .digest();

/** An object as the cluster has it. */
export interface PresentObject {
  readonly namespace?: string | undefined;
  readonly name: string;
  readonly uid: string;
}

/**
 * Under which UID an object's rows stand. In a cluster in which nothing was restored that is its own. Loaded anew as a whole, and
 * asked by whoever knows objects: what is bound while a program runs is so for it too.
 */
export class HeldUids {
  #held = new Map<string, string>();
  #taken = new Set<string>();
  #awaited = new Set<string>();
  #recovering = false;

  /**
   * @param bindings judged
   * @param recovering what is made anew may be what was to come, so that somebody has to say whether it is
   */
  load(bindings: Iterable<Binding>, recovering = false): void {
    const held = new Map<string, string>();
    const taken = new Set<string>();
    const awaited = new Set<string>();
    for (const binding of bindings) {
      if (binding.uid === undefined) awaited.add(keyOf(binding));
      else {
        held.set(`${binding.kind} ${binding.uid}`, binding.heldUid);
        taken.add(keyOf(binding));
      }
    }
    this.#held = held;
    this.#taken = taken;
    this.#awaited = awaited;
    this.#recovering = recovering;
  }

  of(kind: BoundKind, { uid }: Pick<PresentObject, "uid">): string {
    return this.#held.get(`${kind} ${uid}`) ?? uid;
  }

  /**
   * Whether rows of an object of this name wait for one that takes their place, and nobody has said whether it is this one: it
   * would be taken for another one that has nothing. In a recovery also where the one that had taken it may be gone.
   */
  isAwaited(kind: BoundKind, { namespace = "", name, uid }: PresentObject): boolean {
    const place = keyOf({ kind, namespace, name });
    const waits = this.#awaited.has(place) || (this.#recovering && this.#taken.has(place));
    return waits && !this.#held.has(`${kind} ${uid}`);
  }

  get awaited(): number {
    return this.#awaited.size;
  }
}

const keyOf = ({ kind, namespace, name }: BoundPlace): string => `${kind} ${namespace}/${name}`;
