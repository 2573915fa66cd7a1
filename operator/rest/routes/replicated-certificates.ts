/** Certificates of the primary that a gateway serves: where its own cluster has none of that place, at the same paths. */
import { createPrivateKey } from "node:crypto";
import type { Target } from "../../../core/access/policy.ts";
import type { HeldCertificate } from "../../../core/fleet/replica-directory.ts";
import { serialHex } from "../../../core/fleet/replica-selection.ts";
import { parsePem } from "../../../core/pki/pem.ts";
import { reasons } from "../../../crds/conditions.ts";
import { Problem } from "../problem.ts";
import type { Call, Input } from "../route.ts";
import type { Services } from "../services.ts";

interface Place {
  readonly namespace: string;
  readonly name: string;
}

export async function replicatedCertificateAt(
  place: Place,
  { view, replica }: Pick<Services, "view" | "replica">,
): Promise<HeldCertificate | undefined> {
  return view.certificate(place.namespace, place.name) === undefined ? replica?.findCertificate(place) : undefined;
}

export const targetOfReplicated = ({ certificate: { namespace, namespaceUid, name } }: HeldCertificate): Target => ({
  kind: "Certificate",
  namespace,
  namespaceUid,
  name,
  replicated: true,
});

/** Of a certificate that is here or at the primary; for reading only. */
export async function readTarget({ params }: { params: Place }, services: Services): Promise<Target> {
  const held = await replicatedCertificateAt(params, services);
  return held === undefined ? { kind: "Certificate", ...params } : targetOfReplicated(held);
}

export const shownReplicated = ({ certificate, valued }: HeldCertificate) => {
  const { uid: _, namespaceUid: __, ...shown } = certificate;
  return {
    ...shown,
    ...(valued
      ? { ready: true, reason: "Succeeded", message: reasons.Succeeded }
      : { ready: false, reason: "SecretNotReplicated", message: reasons.SecretNotReplicated }),
    replicated: true as const,
  };
};

/** As the store of the primary has it. */
export const serialOf = ({ certificate }: HeldCertificate): string => serialHex(certificate.serialNumber);

const theReplica = ({ replica }: Services) => {
  if (replica === undefined) throw new TypeError("what is replicated has a replica");
  return replica;
};

export const replicatedChain = async (held: HeldCertificate, services: Services): Promise<string> =>
  (await theReplica(services).chain(held)).chain;

/** The chain in DER, the root last, and the private key. */
export async function replicatedMaterial(
  decided: HeldCertificate,
  purpose: string,
  { services, actor }: Pick<Call<Input>, "services" | "actor">,
) {
  const opened = await theReplica(services).openCertificate(decided, { actor, purpose });
  const { held, chain, privateKey } = opened;
  if (privateKey === undefined)
    throw new Problem(409, "KeyNotKept", "the private key is not kept at the primary any more, or never was");
  try {
    const serialNumber = serialOf(held);
    const ders = parsePem(chain, "chain").map(({ der }) => der);
    return { serialNumber, chain: ders, privateKey: createPrivateKey(privateKey.revealText()) };
  } finally {
    privateKey.dispose();
  }
}
