/** A primary in memory: what a gateway sees of it, with certificates as the real one signs them. */
import { createHash, type KeyObject, randomBytes, randomUUID } from "node:crypto";
import { Unavailable } from "../../errors.ts";
import { parseCertificate, signCertificate } from "../../pki/certificate.ts";
import { parseCsr } from "../../pki/csr.ts";
import { basicConstraints } from "../../pki/extension.ts";
import { generateKey, spkiOf } from "../../pki/key.ts";
import { encodeName, fromSubject } from "../../pki/name.ts";
import { pem } from "../../pki/pem.ts";
import { LocalSigner } from "../../pki/signer.ts";
import {
  type ChannelAnswer,
  type ChannelClient,
  PrimaryBusy,
  type PrimaryChannel,
  type PrimaryTrust,
} from "../../ports/primary-channel.ts";
import {
  certificateRequest,
  type GatewayRole,
  heartbeat,
  type RegistrationRequest,
  registrationRequest,
} from "../protocol.ts";

const sha256 = (content: Buffer): Buffer => createHash("sha256").update(content).digest();

export const DAY_MS = 86_400_000;
export const LIFE_MS = 90 * DAY_MS;

interface Token {
  readonly name: string;
  readonly endsAt: number;
  keyDigest?: Buffer;
  confirmed: boolean;
}

interface Certified {
  readonly gatewayId: string;
  readonly digest: Buffer;
  readonly der: Buffer;
  readonly admittedAt: number;
  revoked: boolean;
  /** As after the restore of an older state, or by another clock. */
  doubted?: "CertificateUnknown" | "CertificateExpired" | undefined;
}

interface Gateway {
  readonly id: string;
  readonly name: string;
  place: { readonly environment: string; readonly role: GatewayRole } | undefined;
  heartbeats: number;
  /** Which one the last heartbeat told. */
  environmentEpoch?: string | undefined;
}

interface Session {
  readonly certificate: Certified | undefined;
  end(): void;
}

export class MemoryPrimary {
  readonly gateways = new Map<string, Gateway>();
  readonly certificates: Certified[] = [];
  /** Paths of the requests that came, in their order. */
  readonly requests: string[] = [];
  /** Milliseconds by its own clock. */
  readonly #now: () => number;
  readonly #tokens = new Map<string, Token>();
  readonly #sessions = new Set<Session>();
  readonly #key: KeyObject;
  readonly root: Buffer;
  /** Nobody answers. */
  down = false;
  /** It opens no channel, and asks to come again after that time. */
  busyMs: number | undefined;
  /** So long no replica knows of a certificate that was signed. */
  admittedAfterMs = 0;
  heartbeatSeconds = 60;
  environmentEpoch = "1";
  /** Whom it does not serve it tells so by ending the channel, instead of an answer. */
  endsChannels = false;
  /** It tells so before there is a channel. */
  refusesSessions = false;

  /** SHA-256 of the keys whose certificates no session is held with. */
  readonly refusedKeys = new Set<string>();

  private constructor(key: KeyObject, root: Buffer, now: () => number) {
    this.#key = key;
    this.root = root;
    this.#now = now;
  }

  static async start(now: () => number): Promise<MemoryPrimary> {
    const key = await generateKey({ algorithm: "ECDSA", size: 256 });
    return new MemoryPrimary(key, await certificateOf(key, spkiOf(key), "fleet", now(), 3_650 * DAY_MS), now);
  }

  get rootDigest(): Buffer {
    return sha256(parseCertificate(this.root).spki);
  }

  makeToken(name: string, place?: Gateway["place"], validMs = DAY_MS): string {
    const known = this.gateways.get(name);
    const fresh: Gateway = { id: randomUUID(), name, place, heartbeats: 0 };
    const gateway = known ?? fresh;
    this.gateways.set(name, gateway);
    const token = `mvg1.${randomBytes(32).toString("base64url")}.${this.rootDigest.toString("base64url")}`;
    this.#tokens.set(token, { name, endsAt: this.#now() + validMs, confirmed: false });
    return token;
  }

  revoke(name: string): void {
    const gateway = this.gateways.get(name);
    if (gateway === undefined) return;
    for (const token of this.#tokens.values()) if (token.name === name) token.confirmed = true;
    for (const each of this.certificates) if (each.gatewayId === gateway.id) this.#revoke(each);
  }

  /** By the gateway's id: certificates that let it in. */
  live(gatewayId: string): readonly Certified[] {
    return this.certificates.filter((each) => each.gatewayId === gatewayId && !each.revoked);
  }

  /** As when a replica goes away. */
  endSessions(): void {
    for (const session of this.#sessions) session.end();
  }

  async open(trust: PrimaryTrust, client: ChannelClient | undefined): Promise<PrimaryChannel> {
    if (this.down) throw unreachable("ECONNREFUSED");
    if (this.busyMs !== undefined) throw new PrimaryBusy(this.busyMs, "come again later");
    const trusted = trust.kind === "Root" ? trust.root.equals(this.root) : trust.rootDigest.equals(this.rootDigest);
    if (!trusted) throw new Unavailable("PrimaryUntrusted", "another root");
    const certificate = client && this.certificates.find(({ der }) => der.equals(client.certificates[0] ?? der));
    const own = certificate && parseCertificate(certificate.der);
    if (own !== undefined && own.notAfter.getTime() < this.#now()) throw unreachable("CERT_HAS_EXPIRED");
    if (client !== undefined && own?.spki.equals(spkiOf(client.key)) !== true) throw unreachable("handshake");
    if (certificate !== undefined && this.refusedKeys.has(certificate.digest.toString("hex")))
      throw new Unavailable("GatewayCertificateRefused", "the session was ended");
    if (this.refusesSessions && certificate !== undefined && !this.#admits(certificate))
      throw new Unavailable("GatewayRevoked", "the primary has ended the channel");
    return this.#session(certificate);
  }

  #session(certificate: Certified | undefined): PrimaryChannel {
    let end = (): void => {};
    let ended = false;
    const closed = new Promise<undefined>((resolve) => {
      end = () => {
        ended = true;
        this.#sessions.delete(session);
        resolve(undefined);
      };
    });
    const session: Session = { certificate, end: () => end() };
    this.#sessions.add(session);
    const request = async (_method: string, path: string, body: unknown): Promise<ChannelAnswer> => {
      if (ended || this.down) throw unreachable("closed");
      this.requests.push(path);
      const answer = await this.#answer(path, JSON.parse(JSON.stringify(body)), certificate);
      if (!this.endsChannels || answer.status !== 403) return answer;
      end();
      throw new Unavailable(endOf(answer.body), "the primary has ended the channel");
    };
    return { request, closed, close: () => end() };
  }

  async #answer(path: string, body: unknown, peer: Certified | undefined): Promise<ChannelAnswer> {
    if (path === "/fleet/v1/registration") return this.#register(registrationRequest.parse(body));
    if (peer?.doubted !== undefined) return problem(403, peer.doubted);
    if (peer === undefined || !this.#admits(peer)) return problem(403, "GatewayRevoked");
    const gateway = [...this.gateways.values()].find(({ id }) => id === peer.gatewayId);
    if (gateway === undefined) return problem(403, "GatewayRevoked");
    switch (path) {
      case "/fleet/v1/confirmation":
        for (const token of this.#tokens.values())
          if (token.name === gateway.name && token.keyDigest?.equals(peer.digest)) token.confirmed = true;
        for (const each of this.live(gateway.id)) if (!each.digest.equals(peer.digest)) this.#revoke(each);
        return { status: 204, body: undefined };
      case "/fleet/v1/certificate":
        return { status: 201, body: { certificates: await this.#sign(gateway, certificateRequest.parse(body).csr) } };
      case "/fleet/v1/heartbeat":
        gateway.environmentEpoch = heartbeat.parse(body).environmentEpoch;
        gateway.heartbeats += 1;
        return {
          status: 200,
          body: {
            active: true,
            environmentEpoch: this.environmentEpoch,
            leaseMs: 600_000,
            epoch: "1",
            heartbeatSeconds: this.heartbeatSeconds,
          },
        };
      default:
        return problem(404, "RouteNotFound");
    }
  }

  async #register({ token: text, csr, environment, role }: RegistrationRequest): Promise<ChannelAnswer> {
    const token = this.#tokens.get(text);
    const digest = sha256(parseCsr(csr).spki);
    if (token === undefined || token.confirmed || token.endsAt < this.#now()) return problem(401, "TokenRefused");
    if (token.keyDigest !== undefined && !token.keyDigest.equals(digest)) return problem(401, "TokenRefused");
    const gateway = this.gateways.get(token.name);
    if (gateway === undefined) return problem(401, "TokenRefused");
    const { place = { environment, role } } = gateway;
    if (place.environment !== environment || place.role !== role) return problem(409, "PlaceDiffers");
    gateway.place = place;
    token.keyDigest = digest;
    const certificates = await this.#sign(gateway, csr);
    const { id: gatewayId, name } = gateway;
    return {
      status: 201,
      body: { gatewayId, name, environment, role, certificates, heartbeatSeconds: this.heartbeatSeconds },
    };
  }

  /** The same key is not certified twice. */
  async #sign(gateway: Gateway, csr: string): Promise<string> {
    const { spki } = parseCsr(csr);
    const digest = sha256(spki);
    const before = this.certificates.find((each) => each.digest.equals(digest) && !each.revoked);
    const der = before?.der ?? (await certificateOf(this.#key, spki, gateway.name, this.#now(), LIFE_MS));
    if (before === undefined) {
      const admittedAt = this.#now() + this.admittedAfterMs;
      this.certificates.push({ gatewayId: gateway.id, digest, der, admittedAt, revoked: false });
    }
    return pem("CERTIFICATE", der) + pem("CERTIFICATE", this.root);
  }

  #admits({ revoked, admittedAt }: Certified): boolean {
    return !revoked && admittedAt <= this.#now();
  }

  /** One certificate alone, as the CA may. */
  revokeCertificate(digest: Buffer): void {
    for (const each of this.certificates) if (each.digest.equals(digest)) this.#revoke(each);
  }

  #revoke(certificate: Certified): void {
    certificate.revoked = true;
    for (const session of this.#sessions) if (session.certificate === certificate) session.end();
  }
}

const problem = (status: number, code: string): ChannelAnswer => ({ status, body: { status, code } });
/** As the channel tells it. */
function endOf(body: unknown): "GatewayRevoked" | "CertificateUnknown" | "GatewayCertificateEnded" {
  const { code } = body as { readonly code: string };
  if (code === "CertificateExpired") return "GatewayCertificateEnded";
  return code === "CertificateUnknown" ? code : "GatewayRevoked";
}
const unreachable = (why: string): Unavailable => new Unavailable("PrimaryUnreachable", why);

function certificateOf(signer: KeyObject, spki: Buffer, name: string, from: number, lifeMs: number): Promise<Buffer> {
  const template = {
    serialNumber: Buffer.concat([Buffer.from([1]), randomBytes(15)]),
    issuer: encodeName(fromSubject({ commonName: "fleet" })),
    subject: encodeName(fromSubject({ commonName: name })),
    notBefore: new Date(from),
    notAfter: new Date(from + lifeMs),
    spki,
    extensions: [basicConstraints({ ca: name === "fleet" })],
  };
  return signCertificate(template, new LocalSigner(signer));
}
