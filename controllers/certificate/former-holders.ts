/** What becomes of the certificates of objects that are gone, also when they disappeared while nobody watched. */
import { failpoint } from "../../core/failpoints.ts";
import type { Authorities } from "../../core/pki/authority.ts";
import type { Actor } from "../../core/ports/audit-log.ts";
import type { CertificateHolder, CertificateRecord, PkiStore } from "../../core/ports/pki-store.ts";
import { isRefusedForGood } from "../../core/ports/primary-ca.ts";
import type { Writer } from "../../core/ports/vault-store.ts";
import type { ObjectMeta } from "../../crds/common.ts";
import { type Cluster, heldUidOf } from "../cluster.ts";
import { isNotFound } from "../runtime/api-error.ts";
import { type ResourceType, splitKey } from "../runtime/resource-type.ts";
import type { KubernetesApi } from "../runtime/transport.ts";
import { isFinallyRevoked, serialOf } from "./decide.ts";

export interface FormerHoldersDependencies {
  readonly api: KubernetesApi;
  readonly cluster: Pick<Cluster, "held">;
  readonly authorities: Pick<Authorities, "revoke">;
  readonly store: Pick<PkiStore, "holdersNamed" | "certificatesOf" | "removeHolder">;
  /** The leader's epoch. */
  readonly writer: () => Writer;
}

const PAGE = 100;

export class FormerHolders {
  readonly #deps: FormerHoldersDependencies;
  readonly #kind: CertificateHolder["kind"];
  readonly #resource: ResourceType;
  readonly #actor: Actor;

  constructor(kind: CertificateHolder["kind"], resource: ResourceType, deps: FormerHoldersDependencies) {
    this.#deps = deps;
    this.#kind = kind;
    this.#resource = resource;
    this.#actor = { kind: "Controller", name: kind.toLowerCase() };
  }

  /** An object of this name was deleted, and this one applied before anybody saw the name unused. */
  async endOthers(metadata: ObjectMeta, signal: AbortSignal): Promise<void> {
    const { namespace = "", name } = metadata;
    const uid = heldUidOf(this.#deps.cluster, this.#kind, metadata);
    const holders = await this.#deps.store.holdersNamed(this.#kind, namespace, name);
    if (holders.some((holder) => holder.uid !== uid)) await this.absent(`${namespace}/${name}`, signal);
  }

  /** The object is gone, or another one of that name: its certificates go the way its deletion policy says. */
  async absent(key: string, signal: AbortSignal): Promise<void> {
    const { api, cluster, store } = this.#deps;
    const { namespace = "", name } = splitKey(key);
    const holders = await store.holdersNamed(this.#kind, namespace, name);
    if (holders.length === 0) return;
    // Deletion is not decided by a cache: the API server itself must say that there is no such object.
    const present = await api
      .get<{ readonly metadata: ObjectMeta }>(this.#resource, { namespace, name }, { signal })
      .catch((error: unknown) => {
        if (isNotFound(error, name)) return undefined;
        throw error;
      });
    const standing = present && heldUidOf(cluster, this.#kind, present.metadata);
    const failures: unknown[] = [];
    for (const holder of holders) {
      if (holder.uid === standing) continue;
      // One that cannot be ended keeps no other one valid.
      await this.#end(holder).catch((error: unknown) => failures.push(error));
    }
    if (failures.length > 0) throw failures[0];
  }

  async #end(holder: CertificateHolder): Promise<void> {
    const { store, authorities, writer } = this.#deps;
    failpoint("certificate.beforeRemoval");
    const refused: string[] = [];
    const failures: unknown[] = [];
    if (holder.deletionPolicy === "Revoke") {
      for (const record of await this.#valid(holder.uid)) {
        try {
          await authorities.revoke(writer(), record, { reason: "cessationOfOperation" }, this.#actor);
        } catch (error) {
          // The record of it is all that can still be told to somebody: the object is gone.
          if (isRefusedForGood(error)) refused.push(serialOf(record));
          else failures.push(error);
        }
      }
      // It stays a former holder, and what is left is tried again.
      if (failures.length > 0) throw failures[0];
    }
    const { kind, uid, namespace, name, deletionPolicy } = holder;
    await store.removeHolder(writer(), uid, [
      {
        action: "CertificateHolderRemoved",
        actor: this.#actor,
        subject: { kind: "Certificate", id: uid, name: `${namespace}/${name}` },
        outcome: refused.length === 0 ? "Success" : "Failure",
        details: { kind, deletionPolicy, ...(refused.length > 0 && { notRevoked: refused.join(",") }) },
      },
    ]);
  }

  /** Certificates that somebody could still rely on. */
  async #valid(uid: string): Promise<CertificateRecord[]> {
    const now = new Date();
    const { store } = this.#deps;
    let all = await store.certificatesOf(uid, PAGE);
    for (let limit = PAGE; all.length === limit; limit *= 10) all = await store.certificatesOf(uid, limit * 10);
    return all.filter((record) => record.notAfter > now && !isFinallyRevoked(record));
  }
}
