/** What the leader does for the PKI besides reconciling: CRLs, and certificates for the responders. */

import type { Authorities } from "../core/pki/authority.ts";
import type { CrlPublication } from "../core/pki/crl-publication.ts";
import type { ExpiredCertificates } from "../core/pki/expired-certificates.ts";
import type { ResponderCertificates } from "../core/pki/responder-certificates.ts";
import type { AuthorityRecord, PkiStore } from "../core/ports/pki-store.ts";
import type { Writer } from "../core/ports/vault-store.ts";
import type { ChoresDependencies } from "./chores.ts";
import { HintedChores } from "./hinted-chores.ts";

export interface PkiChoresDependencies extends ChoresDependencies {
  readonly crls: Pick<CrlPublication, "publishDue" | "judge">;
  readonly authorities: Pick<Authorities, "sealFormer">;
  readonly responders: Pick<ResponderCertificates, "sign" | "forget">;
  readonly expired: Pick<ExpiredCertificates, "purge">;
  readonly store: Pick<PkiStore, "listAuthorities">;
  /** Has its controller retire a CA when its issuer object disappeared while nobody watched. */
  readonly retireVanished: (authority: AuthorityRecord) => void;
  /** Bounds what a lost hint costs, and tells when a CRL's time has come; 10 seconds when absent. */
  readonly lookEveryMs?: number;
}

const LOOK_EVERY_MS = 10_000;
/** Hints come in bursts while many certificates are issued. */
const APART_MS = 200;
const SWEEP_EVERY_MS = 3_600_000;
/** Nobody hints at rows that were edited by hand. */
const JUDGE_EVERY_MS = 60_000;
const CRLS_AT_A_TIME = 100;
const PURGED_AT_A_TIME = 1_000;
const PAGE = 1_000;

/** Hints tell that something changed, or that a responder asked. */
export class PkiChores extends HintedChores<PkiChoresDependencies> {
  protected plan(writer: Writer, signal: AbortSignal): ReturnType<HintedChores<PkiChoresDependencies>["plan"]> {
    const { crls, responders, authorities, expired, lookEveryMs = LOOK_EVERY_MS } = this.deps;
    let sealed = false;
    let sweepAt = performance.now();
    let judgeAt = sweepAt;
    let purgeAt = sweepAt;
    const turn = async (): Promise<void> => {
      if (!sealed) {
        sealed = await this.attempt("authenticate what was revoked before", () => authorities.sealFormer(writer));
      }
      // A responder without a certificate answers nothing at all, so it goes before what follows.
      await this.attempt("sign responder certificates", () => responders.sign(writer));
      await this.attempt("publish CRLs", async () => {
        while ((await crls.publishDue(writer, CRLS_AT_A_TIME)) === CRLS_AT_A_TIME && !signal.aborted);
      });
      if (performance.now() >= judgeAt) {
        await this.attempt("judge the statuses of certificates", () => crls.judge());
        judgeAt = performance.now() + JUDGE_EVERY_MS;
      }
      if (performance.now() >= sweepAt) {
        const forgotten = await this.attempt("forget responder requests", () => responders.forget(writer));
        const swept = await this.attempt("retire vanished CAs", () => this.#retireVanished(signal));
        // One that failed has its next turn with the next look, not an hour later.
        if (forgotten && swept) sweepAt = performance.now() + SWEEP_EVERY_MS;
      }
      if (performance.now() >= purgeAt) {
        await this.attempt("remove expired certificates", async () => {
          // However many there are, a CRL does not wait for more than these.
          const more = (await expired.purge(writer, PURGED_AT_A_TIME)) === PURGED_AT_A_TIME;
          purgeAt = more ? 0 : performance.now() + SWEEP_EVERY_MS;
        });
      }
    };
    return { apartMs: APART_MS, everyMs: lookEveryMs, turn };
  }

  /** Objects that were deleted, or whose namespace was made anew, while nobody watched. */
  async #retireVanished(signal: AbortSignal): Promise<void> {
    const { store, retireVanished } = this.deps;
    let after: string | undefined;
    do {
      const page = await store.listAuthorities(after, PAGE);
      for (const authority of page)
        if (isOfObject(authority) && authority.state === "Active") retireVanished(authority);
      after = page.length === PAGE ? page.at(-1)?.id : undefined;
    } while (after !== undefined && !signal.aborted);
  }
}

/** The installation's own belong to no object that could vanish. */
const isOfObject = ({ identity }: AuthorityRecord): boolean => identity.kind !== "Installation";
