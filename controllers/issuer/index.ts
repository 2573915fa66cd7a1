/** The controllers of `Issuer` and `ClusterIssuer`: one implementation, as both are a CA. */
import { Unavailable } from "../../core/errors.ts";
import type { Authorities } from "../../core/pki/authority.ts";
import { newest } from "../../core/pki/authority.ts";
import { isRequestFor } from "../../core/pki/external-ca.ts";
import { pem } from "../../core/pki/pem.ts";
import type { Actor } from "../../core/ports/audit-log.ts";
import {
  type AuthorityIdentity,
  type AuthorityRecord,
  type CertificateRecord,
  PkiConflict,
  type PkiStore,
} from "../../core/ports/pki-store.ts";
import type { PrimaryCa } from "../../core/ports/primary-ca.ts";
import type { Writer } from "../../core/ports/vault-store.ts";
import { type AnyIssuer, type ClusterIssuer, clusterIssuerKind, type Issuer, issuerKind } from "../../crds/issuer.ts";
import { objectActor } from "../actor.ts";
import { type Cluster, servedNamespace } from "../cluster.ts";
import type { Controller, OwnedConditionType } from "../runtime/controller.ts";
import { resourceType } from "../runtime/resource-type.ts";
import { type Action, decide, type Observed, type ObservedParent } from "./decide.ts";
import type { ObservedPrimary } from "./primary.ts";
import { listedRevocations } from "./revocations.ts";

export interface IssuerControllerDependencies {
  readonly cluster: Cluster;
  readonly authorities: Pick<
    Authorities,
    "describe" | "ensure" | "ensureOfPrimary" | "change" | "certificateRequest" | "install" | "revoke" | "judgeStatus"
  >;
  /** Of a gateway. */
  readonly primaryCa?: Pick<PrimaryCa, "chainOf">;
  readonly store: Pick<PkiStore, "authoritiesNamed" | "certificate">;
  readonly writer: () => Writer;
  /** Why the CRLs of an authority are not made any more; undefined while they are. */
  readonly crlProblem: (authorityId: string) => Error | undefined;
  /** Below which CRLs, OCSP and CA certificates are published. */
  readonly publishedAt: string | undefined;
}

/** The primary publishes what it signs. */
const unpublishedHere = { publishedAt: undefined, unpublished: undefined } as const;

type Outcome = Partial<Observed> & { readonly revoked?: CertificateRecord };
type PlannedAction = Action & { readonly actor: Actor };

abstract class AuthorityController<R extends AnyIssuer> implements Controller<R, Observed, PlannedAction, Outcome> {
  readonly name: string;
  readonly fieldManager: string;
  readonly resource;
  readonly #kind: AuthorityIdentity["kind"];
  readonly #deps: IssuerControllerDependencies;

  constructor(kind: typeof issuerKind, deps: IssuerControllerDependencies) {
    this.name = kind.singular;
    this.fieldManager = `mazevault-${kind.singular}`;
    this.resource = resourceType(kind);
    this.#kind = kind.kind as AuthorityIdentity["kind"];
    this.#deps = deps;
  }

  async observe(issuer: R): Promise<Observed> {
    const { cluster, authorities, publishedAt, crlProblem } = this.#deps;
    const namespace = this.#kind === "Issuer" ? servedNamespace(cluster, issuer) : undefined;
    const { name } = issuer.metadata;
    const identity: AuthorityIdentity = {
      kind: this.#kind,
      namespace: namespace?.name ?? "",
      namespaceUid: namespace?.uid ?? "",
      name,
    };
    const authority = await authorities.describe(identity);
    const primary = await this.#primary(issuer);
    if (primary !== undefined) {
      return { identity, namespace, authority, primary, parent: undefined, request: undefined, ...unpublishedHere };
    }
    const certified = authority !== undefined && newest(authority).certificate !== undefined;
    const parent = certified ? undefined : await this.#parent(issuer, identity);
    const standing = issuer.status?.certificateSigningRequest;
    const request =
      issuer.spec.ca?.external !== undefined &&
      authority !== undefined &&
      standing !== undefined &&
      isRequestFor(standing, newest(authority))
        ? standing
        : undefined;
    const unpublished = authority && crlProblem(authority.id)?.message;
    const revocations = await listedRevocations(issuer, authority, this.#deps);
    return { identity, namespace, authority, parent, request, publishedAt, unpublished, revocations };
  }

  decide(issuer: R, seen: Observed, now: Date) {
    const plan = decide(issuer, seen, now);
    const actor = objectActor(this.resource, issuer);
    return { ...plan, actions: plan.actions.map((action) => ({ ...action, actor })) };
  }

  async perform(action: PlannedAction): Promise<Outcome> {
    const { authorities, store, writer } = this.#deps;
    const { actor } = action;
    switch (action.kind) {
      case "Ensure":
        return { authority: await authorities.ensure(writer(), { ...action.spec, actor }) };
      case "EnsureOfPrimary":
        return { authority: await authorities.ensureOfPrimary(writer(), action) };
      case "Request": {
        const request = await authorities.certificateRequest(writer(), action.authority, actor);
        return { request: pem("CERTIFICATE REQUEST", request) };
      }
      case "Install":
        return { authority: await authorities.install(writer(), action.authority, action.certificate, actor) };
      case "Revoke": {
        const { record, reason } = action;
        await authorities.revoke(writer(), record, { reason }, actor);
        const changed = await store.certificate(record.authorityId, record.serialNumber);
        if (changed === undefined) throw new PkiConflict(`certificate ${record.serialNumber}`);
        return { revoked: changed };
      }
    }
  }

  learn(seen: Observed, _action: PlannedAction, { revoked, ...learned }: Outcome): Observed {
    if (revoked === undefined) return { ...seen, ...learned, parent: undefined };
    const { serialNumber } = revoked;
    const revocations = seen.revocations?.map((each) =>
      each.record?.serialNumber === serialNumber ? { ...each, record: revoked } : each,
    );
    return { ...seen, ...(revocations && { revocations }) };
  }

  conditionFor(action: PlannedAction | undefined): OwnedConditionType {
    return action?.kind === "Revoke" ? "Revoked" : "Issued";
  }

  /** Its CA is retired: it issues no more, its CRLs and OCSP go on, and the object finds it when it is applied again. */
  async absent(key: string): Promise<void> {
    const { authorities, store, writer } = this.#deps;
    const slash = key.indexOf("/");
    const [namespace, name] = [key.slice(0, Math.max(slash, 0)), key.slice(slash + 1)];
    for (const authority of await store.authoritiesNamed(this.#kind, namespace, name)) {
      if (this.stands(authority)) continue;
      await authorities.change(writer(), authority, { state: "Retired" }, { kind: "Controller", name: this.name });
    }
  }

  /** Whether the CA's object is there. */
  stands({ identity: { namespace, namespaceUid, name } }: AuthorityRecord): boolean {
    const { cluster } = this.#deps;
    return this.#kind === "ClusterIssuer"
      ? cluster.clusterIssuer(name) !== undefined
      : cluster.issuer(namespace, name) !== undefined && cluster.namespace(namespace)?.metadata.uid === namespaceUid;
  }

  async #primary({ spec }: R): Promise<ObservedPrimary | undefined> {
    if (spec.primary === undefined) return undefined;
    if (this.#kind === "Issuer") return { kind: "NotOfCluster" };
    const { primaryCa } = this.#deps;
    if (primaryCa === undefined) return { kind: "NotAGateway" };
    try {
      return { kind: "Told", chain: await primaryCa.chainOf(spec.primary.issuerRef.name) };
    } catch (error) {
      if (!(error instanceof Unavailable)) throw error;
      return { kind: "Failed", reason: error.code, message: error.message };
    }
  }

  async #parent({ spec }: R, { namespace, namespaceUid }: AuthorityIdentity): Promise<ObservedParent | undefined> {
    const { cluster, authorities } = this.#deps;
    const { parentRef } = spec.ca ?? {};
    if (parentRef === undefined) return undefined;
    const { kind, name } = parentRef;
    return kind === "ClusterIssuer"
      ? {
          issuer: cluster.clusterIssuer(name),
          authority: await authorities.describe({ kind, namespace: "", namespaceUid: "", name }),
        }
      : {
          issuer: cluster.issuer(namespace, name),
          authority: await authorities.describe({ kind, namespace, namespaceUid, name }),
        };
  }
}

export class IssuerController extends AuthorityController<Issuer> {
  constructor(deps: IssuerControllerDependencies) {
    super(issuerKind, deps);
  }
}

export class ClusterIssuerController extends AuthorityController<ClusterIssuer> {
  constructor(deps: IssuerControllerDependencies) {
    super(clusterIssuerKind, deps);
  }
}
