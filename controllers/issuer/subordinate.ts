/** What a CA above allows of one below it. Pure. */
import type { NamespaceFacts } from "../../core/access/admission.ts";
import { newest } from "../../core/pki/authority.ts";
import { parseCertificate } from "../../core/pki/certificate.ts";
import { pathLengthLeft } from "../../core/pki/chain.ts";
import { type ConstrainedNames, type NameConstraints, nameConstraints } from "../../core/pki/general-name.ts";
import { MalformedInput } from "../../core/pki/malformed-input.ts";
import { parseName, type RdnSequence } from "../../core/pki/name.ts";
import {
  checkAgainstPolicy,
  profiles,
  type SubordinatePolicy,
  subordinateConstraints,
} from "../../core/pki/profile.ts";
import type { AuthorityRecord } from "../../core/ports/pki-store.ts";
import type { AnyIssuer, ClusterIssuer } from "../../crds/issuer.ts";
import { issuePolicy, listsNamespace, present } from "./spec.ts";

export interface WantedCa {
  readonly subject: RdnSequence;
  readonly durationMs: number;
  readonly nameConstraints: NameConstraints | undefined;
}

/** What the certificate of a CA says about those below it. */
export interface Limits {
  readonly pathLength: number;
  readonly nameConstraints: NameConstraints | undefined;
}

export type AllowedBelow = SubordinatePolicy & { readonly pathLength: number };
export type Refused = { readonly refusal: string };

/**
 * What a CA allows of those below it, or a sentence that says why there may be none.
 *
 * @param namespace of the CA below; undefined for one of the cluster
 */
export function allowedBelow(
  parent: AnyIssuer,
  authority: AuthorityRecord,
  namespace: NamespaceFacts | undefined,
): AllowedBelow | Refused {
  const name = `${parent.kind} ${parent.metadata.name}`;
  const allow = parent.spec.policy?.allowSubordinates;
  if (allow === undefined) {
    return { refusal: `${name} allows no CA below it; its owner can set policy.allowSubordinates` };
  }
  if (namespace !== undefined && parent.metadata.namespace === undefined && !listsNamespaceOfCas(parent, namespace)) {
    return {
      refusal:
        `${name} allows no CA in namespace ${namespace.name}; ` +
        "its owner can add it to policy.allowSubordinates.namespaces",
    };
  }
  const above = ownPathLength(authority);
  if (above === 0) return { refusal: `the certificate of ${name} has path length 0: it may sign no CA` };
  const pathLength = Math.min(allow.pathLength ?? 0, above === undefined ? Number.POSITIVE_INFINITY : above - 1);
  try {
    const limits = nameConstraints(
      placed(allow.nameConstraints, namespace?.name),
      "policy.allowSubordinates.nameConstraints",
    );
    return { pathLength, ...(limits && { nameConstraints: limits }) };
  } catch (error) {
    if (!(error instanceof MalformedInput)) throw error;
    return { refusal: `${name} cannot say what it allows: spec.${error.message}` };
  }
}

/**
 * What a CA with an object of its own may be below another one, or a sentence that says why it may not be.
 *
 * @param namespace of the CA below; undefined for one of the cluster
 */
export function limitsBelow(
  parent: AnyIssuer,
  authority: AuthorityRecord,
  wanted: WantedCa,
  namespace: NamespaceFacts | undefined,
): Limits | Refused {
  const allowed = allowedBelow(parent, authority, namespace);
  if ("refusal" in allowed) return { refusal: `spec.ca.parentRef: ${allowed.refusal}` };
  const { pathLength, nameConstraints: limits } = allowed;
  const requested = wanted.nameConstraints;
  const request = {
    subject: wanted.subject,
    subjectAltNames: [],
    durationMs: wanted.durationMs,
    profile: "CA",
    usages: profiles.CA,
    ca: { pathLength, ...(requested && { nameConstraints: requested }) },
  } as const;
  const policy = { ...issuePolicy(parent.spec), allowSubordinates: allowed, ownSubject: subjectOf(authority) };
  const [violation] = checkAgainstPolicy(request, policy, { namespace: namespace?.name ?? "" });
  if (violation !== undefined) return { refusal: `spec.ca.${violation.field}: ${violation.message}` };
  return { pathLength, nameConstraints: subordinateConstraints(requested, limits) };
}

export const subjectOf = (authority: AuthorityRecord): RdnSequence => parseName(newest(authority).subject);

const listsNamespaceOfCas = (parent: AnyIssuer, namespace: NamespaceFacts): boolean =>
  listsNamespace((parent as ClusterIssuer).spec.policy?.allowSubordinates?.namespaces, namespace);

function ownPathLength(authority: AuthorityRecord): number | undefined {
  const { certificate, chain } = newest(authority);
  return certificate === undefined ? undefined : pathLengthLeft([certificate, ...chain].map(parseCertificate));
}

type Subtrees = { readonly [K in keyof ConstrainedNames]?: ConstrainedNames[K] | undefined };
interface WrittenConstraints {
  readonly permitted?: Subtrees | undefined;
  readonly excluded?: Subtrees | undefined;
}

/** As the manifest has them, in the form that `core/pki` reads. */
export const writtenConstraints = (
  written: WrittenConstraints | undefined,
): { readonly permitted?: ConstrainedNames; readonly excluded?: ConstrainedNames } | undefined =>
  written && {
    ...(written.permitted && { permitted: present(written.permitted) as ConstrainedNames }),
    ...(written.excluded && { excluded: present(written.excluded) as ConstrainedNames }),
  };

/** With the namespace in its places; for a CA of the cluster there is none, and the placeholder is no name. */
function placed(written: WrittenConstraints | undefined, namespace: string | undefined) {
  if (written === undefined || namespace === undefined) return writtenConstraints(written);
  const side = (names: Subtrees | undefined): Subtrees | undefined =>
    names && {
      ...names,
      ...(names.dnsDomains && {
        dnsDomains: names.dnsDomains.map((domain) => domain.replaceAll("{namespace}", namespace)),
      }),
    };
  return writtenConstraints({ permitted: side(written.permitted), excluded: side(written.excluded) });
}
