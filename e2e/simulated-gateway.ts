/** The gateway's side of the protocol without a cluster: its own key, real channels, and nothing behind them. */
import { createPublicKey, type KeyObject, X509Certificate } from "node:crypto";
import { type Channel, type ChannelResponse, openChannel } from "../adapters/channel/client.ts";
import type { PrimaryTrust } from "../adapters/channel/trust.ts";
import { parseBootstrapToken } from "../core/fleet/bootstrap-token.ts";
import { memberCsr } from "../core/fleet/member-keys.ts";
import { type GatewayRole, type Registration, registration } from "../core/fleet/protocol.ts";
import { generateKey } from "../core/pki/key.ts";

const VERSION = "1.5.0";
const PEM = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----\n?/g;
const OPEN_MS = 10_000;

export interface SimulatedPlace {
  readonly url: string;
  readonly token: string;
  readonly environment: string;
  readonly role: GatewayRole;
}

interface Identity {
  readonly key: KeyObject;
  /** PEM, without the root. */
  readonly certificates: string;
}

export class SimulatedGateway {
  readonly #place: SimulatedPlace;
  readonly #key: KeyObject;
  #identity: Identity | undefined;
  #root = "";
  #channel: Channel | undefined;
  #registration: Registration | undefined;
  /** Its certificate, by having come with it. */
  #confirmed = false;

  private constructor(place: SimulatedPlace, key: KeyObject) {
    this.#place = place;
    this.#key = key;
  }

  /** With a key; nothing is sent. */
  static async make(place: SimulatedPlace): Promise<SimulatedGateway> {
    return new SimulatedGateway(place, await generateKey({ algorithm: "ECDSA", size: 256 }));
  }

  get registration(): Registration {
    if (this.#registration === undefined) throw new Error("it has not registered");
    return this.#registration;
  }

  /** May be repeated until it succeeds: the token counts for this key. @throws what the channel failed with, or what was answered */
  async register(): Promise<void> {
    if (this.#identity === undefined) {
      const { url, token, environment, role } = this.#place;
      const { rootFingerprint } = parseBootstrapToken(token);
      const trust: PrimaryTrust = { kind: "Fingerprint", sha256OfRootSpki: rootFingerprint };
      const channel = await openChannel({ url, trust, limits: { openMs: OPEN_MS } });
      try {
        const csr = await memberCsr(this.#key);
        const body = { token, csr, environment, role, version: VERSION };
        const answer = expectStatus(201, await channel.request("POST", "/fleet/v1/registration", body));
        this.#registration = registration.parse(answer.body);
      } finally {
        channel.close();
      }
      this.#take(this.#registration.certificates, this.#key);
    }
    await this.#confirm();
  }

  /** @throws what the channel failed with, or what was answered */
  async heartbeat(): Promise<ChannelResponse> {
    const { validTo } = this.#certificate();
    const certificateNotAfter = new Date(validTo).toISOString();
    return this.#ask("/fleet/v1/heartbeat", { version: VERSION, problems: [], queueLength: 0, certificateNotAfter });
  }

  /** Another key and its certificate, used from then on; the one before ends. */
  async renew(): Promise<void> {
    const key = await generateKey({ algorithm: "ECDSA", size: 256 });
    const answer = await this.#ask("/fleet/v1/certificate", { csr: await memberCsr(key) });
    this.#take((expectStatus(201, answer).body as { certificates: string }).certificates, key);
    await this.#confirm();
  }

  /** Lower-case hex. */
  get serialNumber(): string {
    return this.#certificate().serialNumber.toLowerCase();
  }

  close(): void {
    this.#channel?.close();
    this.#channel = undefined;
  }

  /** With the answer lost nobody knows whether it counts, so it is repeated before anything else is asked. */
  async #confirm(): Promise<void> {
    expectStatus(204, await this.#send("/fleet/v1/confirmation", {}));
    this.#confirmed = true;
  }

  async #ask(path: string, body: unknown): Promise<ChannelResponse> {
    if (!this.#confirmed) await this.#confirm();
    return this.#send(path, body);
  }

  async #send(path: string, body: unknown): Promise<ChannelResponse> {
    this.#channel ??= await this.#open();
    const channel = this.#channel;
    try {
      return await channel.request("POST", path, body, { timeoutMs: OPEN_MS });
    } catch (error) {
      channel.close();
      if (this.#channel === channel) this.#channel = undefined;
      throw error;
    }
  }

  async #open(): Promise<Channel> {
    if (this.#identity === undefined) throw new Error("it has not registered");
    const { key, certificates } = this.#identity;
    const client = { key: key.export({ type: "pkcs8", format: "pem" }).toString(), certificates };
    const trust: PrimaryTrust = { kind: "Root", pem: this.#root };
    const channel = await openChannel({ url: this.#place.url, trust, client, limits: { openMs: OPEN_MS } });
    void channel.closed.then(() => {
      if (this.#channel === channel) this.#channel = undefined;
    });
    return channel;
  }

  #take(certificates: string, key: KeyObject): void {
    const chain = certificates.match(PEM) ?? [];
    this.#root = chain.at(-1) ?? "";
    this.#identity = { key, certificates: chain.slice(0, -1).join("") };
    if (!createPublicKey(key).equals(this.#certificate().publicKey)) throw new Error("a certificate of another key");
    this.#confirmed = false;
    this.close();
  }

  #certificate(): X509Certificate {
    return new X509Certificate(this.#identity?.certificates ?? "");
  }
}

function expectStatus(status: number, answer: ChannelResponse): ChannelResponse {
  if (answer.status === status) return answer;
  throw new Error(`the primary answered ${answer.status} ${JSON.stringify(answer.body)}`);
}
