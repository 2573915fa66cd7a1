import { randomUUID } from "node:crypto";
import type { ClusterObject, ClusterObjects, RecoveredKind } from "../../ports/cluster-objects.ts";

/** A cluster in memory. */
export class FakeCluster implements ClusterObjects {
  readonly uid = randomUUID();
  readonly #objects = new Map<RecoveredKind, ClusterObject[]>();

  /** An object of that name with a UID of its own, which is returned. */
  add(kind: RecoveredKind, object: Omit<ClusterObject, "uid">, uid: string = randomUUID()): string {
    this.#objects.set(kind, [...(this.#objects.get(kind) ?? []), { ...object, uid }]);
    return uid;
  }

  /** The object of that name is deleted. */
  remove(kind: RecoveredKind, name: string): void {
    this.#objects.set(kind, this.#objects.get(kind)?.filter((object) => object.name !== name) ?? []);
  }

  async clusterUid(): Promise<string> {
    return this.uid;
  }

  async *list(kind: RecoveredKind): AsyncGenerator<ClusterObject> {
    yield* this.#objects.get(kind) ?? [];
  }
}
