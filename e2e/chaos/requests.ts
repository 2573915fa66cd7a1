/**
 * The signing requests of a run, what has to become of each, and the requesters and the person who says yes or no. Each
 * has a key and a name of its own, so that a certificate cannot be taken for another one's.
 */
import type { KeyObject } from "node:crypto";
import { createCsr } from "../../core/pki/csr.ts";
import { basicConstraints, subjectAltName } from "../../core/pki/extension.ts";
import { generateKey } from "../../core/pki/key.ts";
import { parseLiteralSubject } from "../../core/pki/name.ts";
import { LocalSigner } from "../../core/pki/signer.ts";
import type { CertificateRequestSpec } from "../../crds/certificaterequest.ts";
import type { Reason } from "../../crds/conditions.ts";
import type { World } from "../harness.ts";
import type { ApiClient } from "./api.ts";
import { NAMESPACE } from "./fleet.ts";
import { Lanes } from "./lanes.ts";

/** Signs what its policy allows; the other asks a person as well. Both are below the root. */
export const ISSUERS = ["services", "careful"] as const;
export const ROOT = "root";

interface Shape {
  readonly issuer: (typeof ISSUERS)[number];
  /** What a person says. */
  readonly word?: "Approved" | "Denied";
  /** Why it has to be refused; signed when absent. */
  readonly refusal?: Reason;
  readonly dnsName?: string;
  readonly ca?: boolean;
  readonly duration?: string;
}

const ACCEPTED: readonly Shape[] = [
  ...Array<Shape>(7).fill({ issuer: "services" }),
  { issuer: "careful", word: "Approved" },
];
const REFUSED: readonly Shape[] = [
  { issuer: "services", refusal: "PolicyViolated", dnsName: "orders.other.svc" },
  { issuer: "services", refusal: "PolicyViolated", duration: "2161h" },
  { issuer: "services", refusal: "RequestInvalid", ca: true },
  { issuer: "careful", refusal: "RequestDenied", word: "Denied" },
];
/** One that is to be refused after each so many that are to be signed. */
const REFUSED_EVERY = 5;

export class SigningRequest {
  readonly name: string;
  readonly shape: Shape;
  /** The requester's, once it is made. */
  key: KeyObject | undefined;

  constructor(index: number, shape: Shape) {
    this.name = `r${index.toString().padStart(4, "0")}`;
    this.shape = shape;
  }

  get dnsName(): string {
    return this.shape.dnsName ?? `${this.name}.${NAMESPACE}.svc`;
  }

  async manifest(): Promise<object> {
    const { issuer, ca, duration } = this.shape;
    this.key = await generateKey({ algorithm: "ECDSA", size: 256 });
    const names = subjectAltName([{ kind: "dns", value: this.dnsName }], false);
    const extensions = ca ? [names, basicConstraints({ ca: true })] : [names];
    const csr = await createCsr(
      parseLiteralSubject(`CN=${this.name}.${NAMESPACE}.svc`),
      extensions,
      new LocalSigner(this.key),
    );
    const spec: CertificateRequestSpec = {
      request: csr.toString("base64"),
      issuerRef: { kind: "ClusterIssuer", name: issuer },
      ...(duration !== undefined && { duration }),
    };
    return { ...this.identity, spec };
  }

  /** The person's word, as the status has it. */
  wordManifest(type: string): object {
    const at = "2026-01-01T00:00:00Z";
    const condition = { type, status: "True", reason: "Reviewed", message: "by Ada", lastTransitionTime: at };
    return { ...this.identity, status: { conditions: [condition] } };
  }

  get identity() {
    const metadata = { name: this.name, namespace: NAMESPACE };
    return { apiVersion: "mazevault.io/v1", kind: "CertificateRequest", metadata };
  }
}

export class SigningRequests {
  readonly all: readonly SigningRequest[];
  readonly #api: ApiClient;
  readonly #lanes = new Lanes();
  #released = 0;
  /** How many the person has looked at. */
  #reviewed = 0;

  /** `accepted` that are to be signed, and some that are to be refused among them. */
  constructor(accepted: number, api: ApiClient) {
    const shapes = Array.from({ length: accepted }, (_, index): Shape[] => {
      const good = ACCEPTED[index % ACCEPTED.length];
      const bad = index % REFUSED_EVERY === 0 ? REFUSED[(index / REFUSED_EVERY) % REFUSED.length] : undefined;
      return [good, bad].filter((shape) => shape !== undefined);
    });
    this.all = shapes.flat().map((shape, index) => new SigningRequest(index, shape));
    this.#api = api;
  }

  get accepted(): readonly SigningRequest[] {
    return this.all.filter(({ shape }) => shape.refusal === undefined);
  }

  /** Hands `count` requests to the lanes; before, the person's word on those that were released before. */
  release(count: number): void {
    this.#review();
    const until = Math.min(this.all.length, this.#released + count);
    for (const [index, request] of this.all.entries()) {
      if (index < this.#released || index >= until) continue;
      this.#lanes.enqueue(index, async () => this.#apply(request, "", await request.manifest()));
    }
    this.#released = until;
  }

  /** The rest of the requests, and of what the person has to say. */
  releaseRest(): void {
    this.release(this.all.length);
    this.#review();
  }

  /** Resolves when everything that was released is acknowledged. */
  acknowledged(): Promise<void> {
    return this.#lanes.done();
  }

  #review(): void {
    for (const [index, request] of this.all.entries()) {
      const { word } = request.shape;
      if (word === undefined || index < this.#reviewed || index >= this.#released) continue;
      this.#lanes.enqueue(index, () => this.#apply(request, "/status", request.wordManifest(word)));
    }
    this.#reviewed = this.#released;
  }

  async #apply({ name }: SigningRequest, subresource: string, manifest: object): Promise<void> {
    await this.#api.apply(`${REQUESTS}/${name}${subresource}`, manifest);
  }
}

export const REQUESTS = `/apis/mazevault.io/v1/namespaces/${NAMESPACE}/certificaterequests`;

export async function prepareIssuers(world: World): Promise<void> {
  const issuer = (name: string, spec: { readonly ca?: object; readonly [field: string]: unknown }): object => ({
    apiVersion: "mazevault.io/v1",
    kind: "ClusterIssuer",
    metadata: { name },
    spec: { ...spec, ca: { subject: { commonName: name }, ...spec.ca } },
  });
  const below = { ca: { parentRef: { kind: "ClusterIssuer", name: ROOT } }, namespaces: { names: [NAMESPACE] } };
  const policy = { profiles: ["Server"], maxDuration: "2160h", dnsNames: ["*.{namespace}.svc"] };
  await world.apply(
    issuer(ROOT, { policy: { allowSubordinates: {} } }),
    issuer("services", { ...below, policy }),
    issuer("careful", { ...below, policy: { ...policy, approval: "Manual" } }),
  );
  for (const name of [ROOT, ...ISSUERS]) await world.waitReady("clusterissuer.mazevault.io", name);
}
