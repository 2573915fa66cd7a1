/** What the manifests of issuers and certificates mean to `core/pki`. Pure. */
import { type NamespaceFacts, selectorMatches } from "../../core/access/admission.ts";
import { durationMs } from "../../core/duration.ts";
import type { KeySpec } from "../../core/pki/key.ts";
import type { IssuePolicy } from "../../core/pki/profile.ts";
import type { ClusterIssuerSpec, NamespaceList } from "../../crds/issuer.ts";
import type { KEY_ALGORITHMS } from "../../crds/names.ts";

interface WrittenKey {
  readonly algorithm?: (typeof KEY_ALGORITHMS)[number] | undefined;
  readonly size?: number | undefined;
}

/** ECDSA with 256 bits when absent; RSA with 3072. */
export function keySpec({ algorithm = "ECDSA", size }: WrittenKey = {}): KeySpec {
  switch (algorithm) {
    case "RSA":
      return { algorithm, size: size ?? 3072 };
    case "ECDSA":
      return { algorithm, size: size === 384 || size === 521 ? size : 256 };
    case "Ed25519":
      return { algorithm };
  }
}

/** What an issuer allows in certificates that are not a CA's; one without a policy allows no name. */
export function issuePolicy({ policy = {} }: ClusterIssuerSpec): IssuePolicy {
  const { maxDuration, profiles, dnsNames, ipRanges, uris, emailDomains, otherNames, commonNames, subject } = policy;
  return {
    ...(profiles && { profiles }),
    ...(maxDuration !== undefined && { maxDurationMs: durationMs(maxDuration) }),
    ...(dnsNames && { dnsNames }),
    ...(ipRanges && { ipRanges }),
    ...(uris && { uris }),
    ...(emailDomains && { emailDomains }),
    ...(otherNames && { otherNames }),
    ...(commonNames && { commonNames }),
    ...(subject && { subject: present(subject) }),
  };
}

type Present<T> = { [K in keyof T]: Exclude<T[K], undefined> };

/** The fields that are set; a schema's type allows undefined for the others. */
export const present = <T extends object>(fields: T): Present<T> =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as Present<T>;

/** A missing list means nobody. */
export const listsNamespace = (list: NamespaceList | undefined, { name, labels }: NamespaceFacts): boolean =>
  list?.names?.includes(name) === true || (list?.selector !== undefined && selectorMatches(list.selector, labels));
