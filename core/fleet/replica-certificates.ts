/** Certificates for replicas, with their chains and private keys: each is judged anew, and on record before its key leaves. */
import { X509Certificate } from "node:crypto";
import { Unavailable } from "../errors.ts";
import type { Authorities } from "../pki/authority.ts";
import { pem } from "../pki/pem.ts";
import type { Actor } from "../ports/audit-log.ts";
import { type CertificateRecord, PkiConflict, type PkiStore } from "../ports/pki-store.ts";
import { UNLED } from "../ports/vault-store.ts";
import type { ReplicaFeed } from "./replica-feed.ts";
import { CHAIN, PRIVATE_KEY, type ReplicatedCertificate, replicatedCertificate } from "./replica-item.ts";
import type { ReplicaValuesRequest, ValuesOfItem } from "./replica-protocol.ts";
import { type SelectionView, selectedCertificate, serialHex } from "./replica-selection.ts";

export interface ReplicaCertificatesParts {
  readonly view: SelectionView;
  readonly feed: Pick<ReplicaFeed, "item">;
  readonly pki: Pick<PkiStore, "authority" | "certificatesBySerial">;
  readonly authorities: Pick<Authorities, "judgeStatus" | "openKey">;
  /** One that its object tells of, and that cannot be handed out. */
  readonly onProblem: (certificate: ReplicatedCertificate, error: Error) => void;
}

export class ReplicaCertificates {
  readonly #parts: ReplicaCertificatesParts;

  constructor(parts: ReplicaCertificatesParts) {
    this.#parts = parts;
  }

  /** @throws Unavailable when the store does not answer, or the read could not be put on record */
  async handOut(
    environment: string,
    { key, digest }: ReplicaValuesRequest["items"][number],
    actor: Actor,
  ): Promise<ValuesOfItem> {
    const { feed, view } = this.#parts;
    const item = feed.item(environment, key);
    const told = item && replicatedCertificate.safeParse(JSON.parse(item.body)).data;
    const object = told && view.certificate(told.namespace, told.name);
    const may = object && selectedCertificate(view, object);
    if (may?.gatewayEnvironment !== environment) return { kind: "Gone" };
    if (item?.digest.toString("hex") !== digest || !may.item.digest.equals(item.digest)) return { kind: "Moved" };
    try {
      return { kind: "Values", values: await this.#opened(may.certificate, actor) };
    } catch (error) {
      if (!isOfIt(error)) throw error;
      this.#parts.onProblem(may.certificate, error);
      return { kind: "Unavailable" };
    }
  }

  async #opened(certificate: ReplicatedCertificate, actor: Actor): Promise<Record<string, string>> {
    const { pki, authorities } = this.#parts;
    const records = await pki.certificatesBySerial(certificate.uid, serialHex(certificate.serialNumber));
    const record = records.find((each) => isOf(each, certificate));
    const authority = record && (await pki.authority(record.authorityId));
    const generation = authority?.generations.find(({ number }) => number === record?.generation);
    if (record?.certificate === undefined || generation?.certificate === undefined)
      throw new PkiConflict(`the certificate that ${certificate.namespace}/${certificate.name} tells of`);
    authorities.judgeStatus(record);
    if (record.revocation !== undefined)
      throw new PkiConflict(`the status of the certificate of ${certificate.namespace}/${certificate.name}`);
    const chain = [record.certificate, generation.certificate, ...generation.chain];
    const text = chain.map((der) => pem("CERTIFICATE", der)).join("");
    const values: Record<string, string> = { [CHAIN]: Buffer.from(text).toString("base64") };
    // A key that was made elsewhere, or is kept no more, is missing at the gateway as it is here.
    if (!record.hasKey) return values;
    const privateKey = await authorities.openKey(UNLED, record, { actor, purpose: "Replica" });
    if (!new X509Certificate(record.certificate).checkPrivateKey(privateKey))
      throw new Unavailable("TamperDetected", "a certificate is not of its private key; see the runbook");
    const exported = Buffer.from(privateKey.export({ type: "pkcs8", format: "pem" }));
    values[PRIVATE_KEY] = exported.toString("base64");
    exported.fill(0);
    return values;
  }
}

/** The row's own word, beside the object's: another object's certificate, or one of before, does not go in its place. */
const isOf = (
  { requester, revision }: CertificateRecord,
  { uid, namespace, namespaceUid, name, revision: told }: ReplicatedCertificate,
): boolean =>
  requester.kind === "Certificate" &&
  requester.uid === uid &&
  requester.namespace === namespace &&
  requester.namespaceUid === namespaceUid &&
  requester.name === name &&
  revision === told;

/** Of this certificate alone, so all others are handed out. */
const isOfIt = (error: unknown): error is Error =>
  error instanceof PkiConflict || (error instanceof Unavailable && error.code === "TamperDetected");
