import type { KeyObject } from "node:crypto";
import { setTimeout as pause } from "node:timers/promises";
import type { ChannelCredentials } from "../../adapters/channel/server-session.ts";
import { SafeError } from "../../core/errors.ts";
import { CHANNEL_HOST } from "../../core/fleet/protocol.ts";
import { parseCertificate } from "../../core/pki/certificate.ts";
import { validateChain } from "../../core/pki/chain.ts";
import { createCsr } from "../../core/pki/csr.ts";
import { generateKey } from "../../core/pki/key.ts";
import { oids } from "../../core/pki/oid.ts";
import { pem } from "../../core/pki/pem.ts";
import { LocalSigner } from "../../core/pki/signer.ts";
import type { Logger } from "../../program/logging.ts";

const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 60_000;
/** Timers take no more than some weeks, and clocks are set. */
const LOOK_AGAIN_MS = 3_600_000;

export interface CredentialsClock {
  now(): number;
  /** Rejects when aborted. */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

const CLOCK: CredentialsClock = { now: Date.now, sleep: (ms, signal) => pause(ms, undefined, { signal }) };

interface Asking {
  readonly key: KeyObject;
  readonly signer: LocalSigner;
  readonly csr: Buffer;
}

export interface ReplicaCredentialsParts {
  /** See `Registrations.replicaCertificate`. */
  readonly certify: (csrDer: Buffer, signal: AbortSignal) => Promise<readonly Buffer[]>;
  readonly log: Pick<Logger, "info" | "warn">;
  readonly clock?: CredentialsClock;
}

/**
 * What this replica shows to gateways: a key that is made here and never leaves this process, and a certificate of the fleet's CA
 * for some days; half-way through them the next one is made.
 */
export class ReplicaCredentials {
  readonly #parts: ReplicaCredentialsParts;
  readonly #clock: CredentialsClock;
  readonly #abort = new AbortController();
  #held: { readonly credentials: ChannelCredentials; readonly renewAt: number; readonly notAfter: number } | undefined;
  #running: Promise<void> | undefined;
  /** What is asked for, until there is an answer to it: with a new key in each attempt the leader's queue would fill. */
  #asking: Asking | undefined;

  constructor(parts: ReplicaCredentialsParts) {
    this.#parts = parts;
    this.#clock = parts.clock ?? CLOCK;
  }

  /** Undefined until the leader has signed the first one, and when the last one has ended. */
  get current(): ChannelCredentials | undefined {
    return this.#held !== undefined && this.#clock.now() < this.#held.notAfter ? this.#held.credentials : undefined;
  }

  /** From the first call on. */
  start(): void {
    this.#running ??= this.#run(this.#abort.signal);
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#running;
  }

  async #run(signal: AbortSignal): Promise<void> {
    let failures = 0;
    while (!signal.aborted) {
      try {
        if (this.#clock.now() >= (this.#held?.renewAt ?? 0)) await this.#renew(signal);
        failures = 0;
      } catch (error) {
        if (signal.aborted) return;
        failures += 1;
        // An operator that was just installed has no CA yet for a moment.
        if (failures > 1) this.#parts.log.warn({ error }, "no certificate for the channel of gateways");
      }
      const waitMs =
        failures === 0
          ? Math.min(LOOK_AGAIN_MS, (this.#held?.renewAt ?? 0) - this.#clock.now())
          : Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.min(failures - 1, 10));
      await this.#clock.sleep(Math.max(FIRST_PAUSE_MS, waitMs), signal).catch(() => {});
    }
  }

  async #renew(signal: AbortSignal): Promise<void> {
    this.#asking ??= await newKey();
    const { key, signer, csr } = this.#asking;
    const chain = await this.#parts.certify(csr, signal);
    // Also what is no use was the answer: the same question would have it again.
    this.#asking = undefined;
    const [leaf, root] = [chain[0], chain.at(-1)];
    if (leaf === undefined || root === undefined) throw new CertificateUnusable("it is missing");
    const { spki, notBefore, notAfter } = parseCertificate(leaf);
    if (!spki.equals(signer.spki)) throw new CertificateUnusable("it is for another key");
    this.#assertServes(chain, leaf, root);
    this.#held = {
      credentials: {
        key: key.export({ type: "pkcs8", format: "pem" }).toString(),
        certificates: chain.map((der) => pem("CERTIFICATE", der)).join(""),
        root: pem("CERTIFICATE", root),
      },
      renewAt: (notBefore.getTime() + notAfter.getTime()) / 2,
      notAfter: notAfter.getTime(),
    };
    this.#parts.log.info({ until: notAfter.toISOString() }, "gateways are served with a new certificate");
  }

  /** What gateways will check too. */
  #assertServes(chain: readonly Buffer[], leaf: Buffer, root: Buffer): void {
    const names = [{ kind: "dns", value: CHANNEL_HOST } as const];
    const options = { at: new Date(this.#clock.now()), purpose: "serverAuth", names } as const;
    const verdict = validateChain(leaf, chain.slice(1), [root], options);
    if (!verdict.ok) throw new CertificateUnusable(`gateways would refuse it (${verdict.fault})`);
  }
}

async function newKey(): Promise<Asking> {
  const key = await generateKey({ algorithm: "ECDSA", size: 256 });
  const signer = new LocalSigner(key);
  // Only the key counts: what else is in the certificate the CA decides.
  const csr = await createCsr([[{ type: oids.commonName, value: "replica" }]], [], signer);
  return { key, signer, csr };
}

class CertificateUnusable extends SafeError {
  constructor(problem: string) {
    super(`the certificate that the leader signed cannot be used: ${problem}`);
    this.name = "CertificateUnusable";
  }
}
