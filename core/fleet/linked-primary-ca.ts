import type { z } from "zod";
import { type Reason, reasons } from "../../crds/conditions.ts";
import { Unavailable, Waiting } from "../errors.ts";
import { failpoint } from "../failpoints.ts";
import { namedUuid } from "../named-uuid.ts";
import { MalformedInput } from "../pki/malformed-input.ts";
import { parsePem, pem } from "../pki/pem.ts";
import type { PrimaryCa, PrimarySigningRequest } from "../ports/primary-ca.ts";
import type { ChannelAnswer } from "../ports/primary-channel.ts";
import type { PrimaryLink } from "../ports/primary-link.ts";
import {
  issuerAnswer,
  issuerQuestion,
  revocationRequest,
  SIGNING_ROUTES,
  signingAnswer,
  signingRequest,
} from "./signing-protocol.ts";

/** The leader of the primary signs within moments, or the request is asked for again. */
const WITHIN_MS = 20_000;
const ASK_AGAIN_MS = 2_000;

/** The CAs of the primary, through the channel that the gateway's leading replica holds. */
export class LinkedPrimaryCa implements PrimaryCa {
  readonly #link: PrimaryLink;

  constructor(link: PrimaryLink) {
    this.#link = link;
  }

  async chainOf(name: string): Promise<readonly Buffer[]> {
    const question = { issuer: { kind: "ClusterIssuer", name } } satisfies z.infer<typeof issuerQuestion>;
    const answer = await this.#ask(SIGNING_ROUTES.issuer, issuerQuestion.parse(question));
    return certificatesOf(read(issuerAnswer, answer).certificates);
  }

  async sign(request: PrimarySigningRequest): Promise<readonly Buffer[]> {
    const { id, issuer: name, csr, profile, usages, durationMs, requester } = request;
    const body = signingRequest.parse({
      id,
      issuer: { kind: "ClusterIssuer", name },
      csr: pem("CERTIFICATE REQUEST", csr),
      profile,
      usages,
      durationSeconds: Math.floor(durationMs / 1_000),
      requester,
    });
    failpoint("signing.beforeAsking");
    const answer = await this.#ask(SIGNING_ROUTES.sign, body);
    return certificatesOf(read(signingAnswer, answer).certificates);
  }

  async revoke(serialNumber: string, reason: Parameters<PrimaryCa["revoke"]>[1], change: bigint): Promise<void> {
    const id = namedUuid("mazevault revocation at the primary", [serialNumber, reason, change]);
    const body = revocationRequest.parse({ id, serialNumber, reason });
    await this.#ask(SIGNING_ROUTES.revoke, body);
  }

  async #ask(path: string, body: unknown): Promise<ChannelAnswer> {
    const { signal } = new AbortController();
    const answer = await this.#link.ask(path, body, { signal, withinMs: WITHIN_MS });
    const { status } = answer;
    if (status === 200 || status === 204) return answer;
    if (status === 202) {
      throw new Waiting("SignatureAwaited", "the primary has taken the request and not signed it yet", ASK_AGAIN_MS);
    }
    throw refusal(answer);
  }
}

/** A refusal may become otherwise when somebody changes the issuer at the primary, of which nothing is told here. */
function refusal({ status, body }: ChannelAnswer): Unavailable {
  const { code, detail } = (body ?? {}) as { readonly code?: unknown; readonly detail?: unknown };
  const text = typeof detail === "string" ? detail.slice(0, MOST_DETAIL) : `it answered ${status}`;
  if (status === 429 || status >= 500)
    return new Unavailable("PrimaryUnreachable", `the primary cannot serve: ${text}`);
  if (status === 404)
    return new Unavailable("PrimaryAnswerInvalid", `the primary is too old to sign for gateways: ${text}`);
  const reason = typeof code === "string" && code in reasons ? (code as Reason) : "PrimaryAnswerInvalid";
  return new Unavailable(reason, `the primary refuses: ${text}`);
}

const MOST_DETAIL = 2_000;

function read<T>(schema: z.ZodType<T>, { body }: ChannelAnswer): T {
  const { success, data } = schema.safeParse(body);
  if (!success) throw notUnderstood();
  return data;
}

function certificatesOf(text: string): readonly Buffer[] {
  try {
    return parsePem(text, "certificates").map(({ der }) => der);
  } catch (error) {
    if (!(error instanceof MalformedInput)) throw error;
    throw notUnderstood();
  }
}

const notUnderstood = (): Unavailable =>
  new Unavailable(
    "PrimaryAnswerInvalid",
    "what the primary answered to a request for a certificate is not understood here",
  );
