/** What the vault is asked for, and what it answers. */
import type { ReaderSpec, SecretEntry } from "../../crds/secret.ts";
import type { Actor, AuditEntry } from "../ports/audit-log.ts";
import type {
  HandledByVersion,
  Lifecycle,
  PointerChange,
  RotationRecord,
  SecretIdentity,
  SecretRecord,
} from "../ports/vault-store.ts";
import type { Sensitive } from "../sensitive.ts";
import type { RotationCause } from "./due.ts";
import type { SealingKey } from "./sealing.ts";

export interface PreparedProject {
  /** Of the project key in use. */
  readonly version: number;
  readonly sealingKey: SealingKey;
}

export interface StoreRequest {
  readonly identity: SecretIdentity;
  /** What `describe` returned; the write is conditional on its generation. */
  readonly seen: SecretRecord | undefined;
  readonly entries: readonly SecretEntry[];
  /** Values of the entries with a secretRef, by entry key. */
  readonly sources: ReadonlyMap<string, Sensitive>;
  /** Generated entries that keep their value, whatever their parameters are now. */
  readonly keeps?: ReadonlySet<string>;
  readonly lifecycle: Lifecycle;
  /** Of a secret that was never stored, see `firstRotation`; of any other the one that it has stays. */
  readonly rotation?: RotationRecord | undefined;
  readonly actor: Actor;
}

export interface RotateRequest {
  /** All entries of the secret, as the manifest has them. */
  readonly entries: readonly SecretEntry[];
  /** Of generated entries that the current version has. */
  readonly keys: readonly string[];
  readonly cause: RotationCause;
  /** How long the version before stays readable, in milliseconds, whatever retention says. */
  readonly overlapMs: number;
  readonly actor: Actor;
}

export interface ProposeRequest extends Omit<RotateRequest, "overlapMs"> {
  /** Of other entries that change along with them. */
  readonly values?: ReadonlyMap<string, Sensitive>;
}

export interface PromoteRequest extends Pick<RotateRequest, "entries" | "overlapMs" | "actor"> {
  /** That the version before logs in as, where it is to end. */
  readonly formerRole?: string | undefined;
}

export interface Stored {
  readonly record: SecretRecord;
  /** Whether there is a new version. */
  readonly created: boolean;
  /** Keys whose value was made anew. */
  readonly changedKeys: readonly string[];
}

/** Writes external entries; everything else of the current version stays as it is, but for templates over them. */
export interface PutRequest {
  readonly identity: SecretIdentity;
  /** What `describe` returned; the write is conditional on its generation. */
  readonly seen: SecretRecord | undefined;
  /** All entries of the secret, as the manifest has them. */
  readonly entries: readonly SecretEntry[];
  /** With protection EndToEnd, as the manifest has them: each value must be sealed for them. */
  readonly readers: readonly ReaderSpec[] | undefined;
  /** By entry key; each must be external, or also generated where `alsoGenerated` says so. */
  readonly values: ReadonlyMap<string, Sensitive>;
  /** For values that another side made where ours would have. */
  readonly alsoGenerated?: boolean;
  /** What else the audit row says, such as where they come from. */
  readonly details?: AuditEntry["details"];
  /** Where they come from a gateway: what is recorded of that along with the version. */
  readonly handled?: Handling;
  /** Of a secret that was never stored; of any other the one that it has stays. */
  readonly lifecycle: Lifecycle;
  readonly actor: Actor;
}

/** Of the version that the values get, and the keys that it has made. */
export type Handling = (version: number, made: readonly string[]) => HandledByVersion;

export interface RollbackRequest {
  /** One that is kept. */
  readonly version: number;
  /** All entries of the secret, as the manifest has them. */
  readonly entries: readonly SecretEntry[];
  readonly actor: Actor;
}

export interface RolledBack extends Stored {
  /** Keys that the version has with another value, which follows its source instead: the manifest or a core Secret. */
  readonly kept: readonly string[];
}

/** `tombstone`: it goes because a person deleted the Secret, so what it was pushed to may go as well. */
export type Evidence = Pick<PointerChange, "tombstone">;

export interface OpenOptions {
  /** The current version when absent. */
  readonly version?: number;
  /** All entries when absent. */
  readonly keys?: readonly string[];
  readonly actor: Actor;
  /** Why it is read, for the audit record: `Delivery`, `Push`. */
  readonly purpose: string;
}

export interface Opened {
  readonly version: number;
  readonly values: ReadonlyMap<string, Sensitive>;
}
