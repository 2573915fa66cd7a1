/** What the leader does besides reconciling: link the audit chain, end what was soft-deleted, find what disappeared. */
import { setTimeout as delay } from "node:timers/promises";
import type { Logger } from "../controllers/runtime/logging.ts";
import { Fenced } from "../core/errors.ts";
import type { AuditLog } from "../core/ports/audit-log.ts";
import type { VaultStore, Writer } from "../core/ports/vault-store.ts";
import type { Vault } from "../core/vault/vault.ts";
import type { Caches } from "./caches.ts";

export interface HousekeepingDependencies {
  readonly vault: Pick<Vault, "purgeExpired">;
  readonly store: Pick<VaultStore, "listLocations">;
  readonly audit: Pick<AuditLog, "link">;
  readonly cluster: Pick<Caches, "secret" | "namespace">;
  readonly log: Logger;
  /** Ends what is stored for a Secret, by `namespace/name`, that is gone or belongs to another namespace now. */
  readonly endVanished: (key: string, signal: AbortSignal) => Promise<void>;
  readonly onFenced: (error: Fenced) => void;
}

const LINK_EVERY_MS = 1_000;
const LINK_BATCH = 2_000;
const RETRY_MS = 60_000;
const SWEEP_EVERY_MS = 3_600_000;
const PAGE = 1_000;

interface Chore {
  readonly name: string;
  readonly everyMs: number;
  run(): Promise<void>;
}

export class Housekeeping {
  readonly #deps: HousekeepingDependencies;
  #abort: AbortController | undefined;
  #running: Promise<unknown> = Promise.resolve();

  constructor(deps: HousekeepingDependencies) {
    this.#deps = deps;
  }

  start(writer: Writer): void {
    const abort = new AbortController();
    this.#abort = abort;
    const chores: readonly Chore[] = [
      { name: "link audit rows", everyMs: LINK_EVERY_MS, run: () => this.#link(writer) },
      { name: "purge expired secrets", everyMs: SWEEP_EVERY_MS, run: () => this.#purge(writer) },
      { name: "end vanished secrets", everyMs: SWEEP_EVERY_MS, run: () => this.#endVanished(abort.signal) },
    ];
    this.#running = Promise.all(chores.map((chore) => this.#repeat(chore, abort.signal)));
  }

  async stop(): Promise<void> {
    this.#abort?.abort();
    await this.#running;
  }

  async #repeat({ name, everyMs, run }: Chore, signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      let pauseMs = everyMs;
      try {
        await run();
      } catch (error) {
        if (error instanceof Fenced) this.#deps.onFenced(error);
        this.#deps.log.warn({ chore: name, error }, "housekeeping failed");
        pauseMs = Math.min(everyMs, RETRY_MS);
      }
      await delay(pauseMs, undefined, { signal, ref: false }).catch(() => undefined);
    }
  }

  async #link({ epoch }: Writer): Promise<void> {
    while ((await this.#deps.audit.link(epoch, LINK_BATCH)) === LINK_BATCH);
  }

  async #purge(writer: Writer): Promise<void> {
    while ((await this.#deps.vault.purgeExpired(writer, { kind: "Controller", name: "housekeeping" }, PAGE)) === PAGE);
  }

  /** Objects that were deleted, or whose namespace was made anew, while nobody watched. */
  async #endVanished(signal: AbortSignal): Promise<void> {
    const { store, cluster, endVanished } = this.#deps;
    const failures: unknown[] = [];
    let after: string | undefined;
    do {
      const page = await store.listLocations(after, PAGE);
      for (const { identity, state } of page) {
        if (state !== "Active") continue;
        const { namespace, name } = identity;
        const secret = cluster.secret(namespace, name);
        const same =
          secret !== undefined &&
          secret.spec.projectRef.name === identity.project &&
          secret.spec.environment === identity.environment &&
          cluster.namespace(namespace)?.metadata.uid === identity.namespaceUid;
        // One that fails, for example because its controller is at it too, must not keep the others waiting.
        if (!same) await endVanished(`${namespace}/${name}`, signal).catch((error: unknown) => failures.push(error));
      }
      after = page.length === PAGE ? page.at(-1)?.id : undefined;
    } while (after !== undefined && !signal.aborted);
    if (failures.length > 0) throw failures[0];
  }
}
