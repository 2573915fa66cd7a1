/** What controllers read instead of asking the API server. */
import type { KubernetesObject } from "./resource-type.ts";

export type ChangeType = "added" | "updated" | "deleted";

/** `old` is the state before; of a deleted object `object` is the last state that was seen. Must not throw or block. */
export type ChangeHandler<T> = (type: ChangeType, object: T, old: T | undefined) => void;

export interface ObjectCache<T extends KubernetesObject> {
  /** The first list is complete. Stays true while a watch is being restored; the content may then be old. */
  readonly synced: boolean;
  readonly size: number;
  get(key: string): T | undefined;
  values(): Iterable<T>;
  /** Objects that the named indexer of the options gave this value. */
  byIndex(index: string, value: string): readonly T[];
  /** True when the absence of this key means absence from the cluster: its namespace is watched and synced. */
  covers(key: string): boolean;
  /** Handlers see every object once as `added`, also those that are there already. Returns how to stop. */
  onChange(handler: ChangeHandler<T>): () => void;
  /** Called whenever `covers` begins to hold for more keys. Returns how to stop. */
  onSynced(handler: () => void): () => void;
  /** Takes over an answer to a write of our own before the watch brings it. Ignored unless it is newer and the same object. */
  absorb(object: T): void;
}
