/** Who asks: by bearer token (ours, an API key, or a ServiceAccount's), else by client certificate. */
import { createHash } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { TLSSocket } from "node:tls";
import type { KubernetesApi } from "../../controllers/runtime/transport.ts";
import type { Authenticated } from "../../core/access/subject.ts";
import type { Identities } from "../../core/identity/identities.ts";
import { type Certificate, parseCertificate } from "../../core/pki/certificate.ts";
import type { ClientCrl } from "./client-crl.ts";
import { Problem, retryAfter } from "./problem.ts";

const tokenReviews = {
  group: "authentication.k8s.io",
  version: "v1",
  plural: "tokenreviews",
  kind: "TokenReview",
  namespaced: false,
} as const;

/** A ServiceAccount token that is revoked, or whose pod is gone, is refused after this time at the latest. */
const REVIEW_KEPT_MS = 10_000;
const REVIEWS_KEPT = 10_000;
const REVIEW_TIMEOUT_MS = 5_000;
const MOST_UNDER_WAY = 16;
const CRL_RETRY_MS = 60_000;
const SERVICE_ACCOUNT = /^system:serviceaccount:([^:]+):([^:]+)$/;

interface TokenReview {
  readonly metadata: { readonly name: string };
  readonly status?: {
    readonly authenticated?: boolean;
    readonly audiences?: readonly string[];
    readonly user?: { readonly username?: string; readonly uid?: string };
  };
}

export interface AuthenticatorParts {
  readonly identities: Pick<Identities, "authenticate">;
  readonly api: Pick<KubernetesApi, "create">;
  /** That a ServiceAccount token must be meant for. */
  readonly audience: string;
  /** Judges client certificates; without it none is known to be revoked. */
  readonly clientCrl?: Pick<ClientCrl, "fault">;
  readonly now?: () => number;
}

export class Authenticator {
  readonly #parts: AuthenticatorParts;
  readonly #now: () => number;
  #underWay = 0;
  readonly #certificates = new WeakMap<TLSSocket, Certificate>();
  /** By the SHA-256 of a token: what the API server said of it, and until when that counts. */
  readonly #reviews = new Map<string, { readonly review: Promise<Authenticated>; readonly until: number }>();

  constructor(parts: AuthenticatorParts) {
    this.#parts = parts;
    this.#now = parts.now ?? Date.now;
  }

  /** Throws `Unauthenticated` (of the identities), or a `Problem` with 401. */
  async authenticate(request: IncomingMessage): Promise<Authenticated> {
    const { authorization } = request.headers;
    if (authorization !== undefined) {
      const [, token] = /^Bearer +([!-~]{1,8192})$/i.exec(authorization) ?? [];
      if (token === undefined) throw unauthenticated("the Authorization header must be: Bearer TOKEN");
      return issuerOf(token) === "Kubernetes" ? this.#review(token) : this.#parts.identities.authenticate(token);
    }
    const client = clientOf(request, this.#now());
    if (client !== undefined) {
      this.#assertNotRevoked(request.socket as TLSSocket);
      return client;
    }
    throw unauthenticated("credentials are missing: send Authorization: Bearer TOKEN, or a client certificate");
  }

  /** At each request: a connection may be older than the CRL. */
  #assertNotRevoked(socket: TLSSocket): void {
    const { clientCrl } = this.#parts;
    if (clientCrl === undefined) return;
    let certificate = this.#certificates.get(socket);
    if (certificate === undefined) {
      certificate = parseCertificate(socket.getPeerX509Certificate()?.raw ?? Buffer.alloc(0));
      this.#certificates.set(socket, certificate);
    }
    const fault = clientCrl.fault(certificate, new Date(this.#now()));
    if (fault === "Revoked") throw unauthenticated();
    if (fault !== undefined) {
      const what = fault === "CrlMissing" ? "there is no CRL of its issuer" : "the CRL of its issuer has expired";
      throw new Problem(
        503,
        "RevocationUnknown",
        `the client certificate cannot be judged: ${what}; tell the operator`,
        {
          headers: retryAfter(CRL_RETRY_MS),
        },
      );
    }
  }

  #review(token: string): Promise<Authenticated> {
    // What is not meant for us, or over, need not be asked about: tokens of strangers must not keep the API server busy.
    if (!isCurrentFor(token, this.#parts.audience, this.#now())) throw unauthenticated();
    const key = createHash("sha256").update(token).digest("base64");
    const known = this.#reviews.get(key);
    if (known !== undefined && known.until > this.#now()) return known.review;
    this.#reviews.delete(key);
    if (this.#underWay >= MOST_UNDER_WAY) {
      throw new Problem(503, "Busy", "too many ServiceAccount tokens are under review", { headers: retryAfter(1_000) });
    }
    if (this.#reviews.size >= REVIEWS_KEPT) this.#reviews.delete(this.#reviews.keys().next().value ?? "");
    const review = this.#ask(token);
    const entry = { review, until: this.#now() + REVIEW_KEPT_MS };
    this.#reviews.set(key, entry);
    // A refusal is kept as long as an answer; that the API server did not answer is not.
    review.catch((error: unknown) => {
      const refused = error instanceof Problem && error.status === 401;
      if (!refused && this.#reviews.get(key) === entry) this.#reviews.delete(key);
    });
    return review;
  }

  async #ask(token: string): Promise<Authenticated> {
    const { audience } = this.#parts;
    const asked = {
      apiVersion: "authentication.k8s.io/v1",
      kind: "TokenReview",
      metadata: { name: "" },
      spec: { token, audiences: [audience] },
    };
    this.#underWay += 1;
    try {
      const signal = AbortSignal.timeout(REVIEW_TIMEOUT_MS);
      const { status } = await this.#parts.api.create<TokenReview>(tokenReviews, asked, { signal });
      const [, namespace, name] = SERVICE_ACCOUNT.exec(status?.user?.username ?? "") ?? [];
      if (status?.authenticated !== true || status.audiences?.includes(audience) !== true) throw unauthenticated();
      if (namespace === undefined || name === undefined) throw unauthenticated();
      const uid = status.user?.uid ?? "";
      return { subject: { kind: "ServiceAccount", namespace, name, uid }, via: "ServiceAccountToken", id: uid };
    } catch (error) {
      if ((error as { name?: unknown }).name !== "TimeoutError") throw error;
      throw new Problem(503, "KubernetesUnavailable", "the API server does not answer", { headers: retryAfter(1_000) });
    } finally {
      this.#underWay -= 1;
    }
  }
}

/** Whether the caller wants to be known; whether the credentials are good is another question. */
export const bringsCredentials = ({ headers, socket }: IncomingMessage): boolean =>
  headers.authorization !== undefined || (socket as TLSSocket).authorized;

/** One sentence for every reason, so that nothing can be learned from it. */
const unauthenticated = (detail = "the credentials are not valid, or not valid any more"): Problem =>
  new Problem(401, "Unauthenticated", detail, { headers: { "www-authenticate": "Bearer" } });

/**
 * Who is asked about a token. Nothing is believed by this: each of them judges the signature of what it is given.
 * ServiceAccount tokens name their ServiceAccount in a claim of this name.
 */
const issuerOf = (token: string): "Kubernetes" | "MazeVault" =>
  "kubernetes.io" in claimsOf(token) ? "Kubernetes" : "MazeVault";

/** As RFC 7519 has `aud` and `exp`; judged for real by the API server. */
function isCurrentFor(token: string, audience: string, now: number): boolean {
  const { aud, exp } = claimsOf(token);
  return [aud].flat().includes(audience) && typeof exp === "number" && exp * 1000 > now;
}

function claimsOf(token: string): Readonly<Record<string, unknown>> {
  try {
    const parsed: unknown = JSON.parse(Buffer.from(token.split(".")[1] ?? "", "base64url").toString("utf8"));
    return typeof parsed === "object" && parsed !== null ? (parsed as Record<string, unknown>) : {};
  } catch {
    return {};
  }
}

const URI_LIKE = /^[a-z][a-z0-9+.-]*:/i;

function clientOf({ socket }: IncomingMessage, now: number): Authenticated | undefined {
  const { authorized } = socket as TLSSocket;
  if (!authorized) return undefined;
  const certificate = (socket as TLSSocket).getPeerX509Certificate();
  // The handshake judged it once, and the connection may have been kept for longer than it is valid.
  if (certificate === undefined || certificate.validToDate.getTime() < now) return undefined;
  const fingerprint = certificate.fingerprint256.replaceAll(":", "").toLowerCase();
  const [, commonName] = /^CN=(.+)$/m.exec(certificate.subject) ?? [];
  const [, uri] = /(?:^|, )URI:([^,"]+)/.exec(certificate.subjectAltName ?? "") ?? [];
  const name = uri ?? commonName;
  // A common name is not what a CA checks of a URI, and must not pass for one.
  if (name === undefined || (uri === undefined && URI_LIKE.test(name))) return undefined;
  return { subject: { kind: "Client", name, fingerprint }, via: "ClientCertificate", id: fingerprint };
}
