/** Who asks: by bearer token (ours, an API key, or a ServiceAccount's), else by client certificate. */
import { createHash } from "node:crypto";
import type { IncomingMessage } from "node:http";
import type { TLSSocket } from "node:tls";
import type { KubernetesApi } from "../../controllers/runtime/transport.ts";
import type { Authenticated } from "../../core/access/subject.ts";
import type { Identities } from "../../core/identity/identities.ts";
import { Problem } from "./problem.ts";

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
  readonly now?: () => number;
}

export class Authenticator {
  readonly #parts: AuthenticatorParts;
  readonly #now: () => number;
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
    const client = clientOf(request);
    if (client !== undefined) return client;
    throw unauthenticated("credentials are missing: send Authorization: Bearer TOKEN, or a client certificate");
  }

  #review(token: string): Promise<Authenticated> {
    const key = createHash("sha256").update(token).digest("base64");
    const known = this.#reviews.get(key);
    if (known !== undefined && known.until > this.#now()) return known.review;
    this.#reviews.delete(key);
    if (this.#reviews.size >= REVIEWS_KEPT) this.#reviews.delete(this.#reviews.keys().next().value ?? "");
    const review = this.#ask(token);
    this.#reviews.set(key, { review, until: this.#now() + REVIEW_KEPT_MS });
    review.catch(() => this.#reviews.delete(key));
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
    const { status } = await this.#parts.api.create<TokenReview>(tokenReviews, asked);
    const [, namespace, name] = SERVICE_ACCOUNT.exec(status?.user?.username ?? "") ?? [];
    if (status?.authenticated !== true || status.audiences?.includes(audience) !== true) throw unauthenticated();
    if (namespace === undefined || name === undefined) throw unauthenticated();
    const uid = status.user?.uid ?? "";
    return { subject: { kind: "ServiceAccount", namespace, name, uid }, via: "ServiceAccountToken", id: uid };
  }
}

/** One sentence for every reason, so that nothing can be learned from it. */
const unauthenticated = (detail = "the credentials are not valid, or not valid any more"): Problem =>
  new Problem(401, "Unauthenticated", detail, { headers: { "www-authenticate": "Bearer" } });

/**
 * Who is asked about a token. Nothing is believed by this: each of them judges the signature of what it is given.
 * ServiceAccount tokens name their ServiceAccount in a claim of this name.
 */
function issuerOf(token: string): "Kubernetes" | "MazeVault" {
  const [, claims] = token.split(".");
  if (claims === undefined) return "MazeVault";
  try {
    const parsed: unknown = JSON.parse(Buffer.from(claims, "base64url").toString("utf8"));
    return typeof parsed === "object" && parsed !== null && "kubernetes.io" in parsed ? "Kubernetes" : "MazeVault";
  } catch {
    return "MazeVault";
  }
}

function clientOf({ socket }: IncomingMessage): Authenticated | undefined {
  const { authorized } = socket as TLSSocket;
  if (!authorized) return undefined;
  const certificate = (socket as TLSSocket).getPeerX509Certificate();
  if (certificate === undefined) return undefined;
  const fingerprint = certificate.fingerprint256.replaceAll(":", "").toLowerCase();
  const [, commonName] = /^CN=(.+)$/m.exec(certificate.subject) ?? [];
  const [, uri] = /(?:^|, )URI:([^,"]+)/.exec(certificate.subjectAltName ?? "") ?? [];
  const name = uri ?? commonName;
  if (name === undefined) return undefined;
  return { subject: { kind: "Client", name, fingerprint }, via: "ClientCertificate", id: fingerprint };
}
