/** The controller of `Gateway`: hands out tokens, tells who is in touch, and revokes what was deleted. */
import { Waiting } from "../../core/errors.ts";
import { gatewayEntry } from "../../core/fleet/audit-entries.ts";
import { FleetRefused } from "../../core/fleet/errors.ts";
import type { Registrations } from "../../core/fleet/registrations.ts";
import type { Actor } from "../../core/ports/audit-log.ts";
import type { FleetStore, GatewayRecord } from "../../core/ports/fleet-store.ts";
import type { GatewayCopyStore } from "../../core/ports/gateway-copy-store.ts";
import type { Writer } from "../../core/ports/vault-store.ts";
import { type Gateway, gatewayKind } from "../../crds/gateway.ts";
import { objectActor } from "../actor.ts";
import { isNotFound } from "../runtime/api-error.ts";
import type { Controller, OwnedConditionType } from "../runtime/controller.ts";
import { resourceType } from "../runtime/resource-type.ts";
import type { KubernetesApi } from "../runtime/transport.ts";
import { type Action, decide, LOOK_AGAIN_MS, type Observed, TOKEN_MS, type TokenSecret } from "./decide.ts";
import { TokenSecrets } from "./secret.ts";

export interface GatewayControllerDependencies {
  readonly api: Pick<KubernetesApi, "get" | "create" | "delete">;
  readonly store: Pick<FleetStore, "gateway" | "revoke">;
  readonly copies: Pick<GatewayCopyStore, "forgetGatewayCopies">;
  readonly registrations: Pick<Registrations, "issueToken">;
  /** Where tokens stand. */
  readonly systemNamespace: string;
  readonly writer: () => Writer;
  /** What the database knows of may have been made for an object of before, whose place this one takes. */
  readonly isRecovering?: () => boolean;
  readonly now?: () => Date;
}

type Outcome = Partial<Pick<Observed, "record" | "secret">>;
type Issue = Extract<Action, { kind: "IssueToken" }>;

/** It is not the object any more that acts. */
const ENDED: Actor = { kind: "Controller", name: "gateway" };

export class GatewayController implements Controller<Gateway, Observed, Action, Outcome> {
  readonly name = "gateway";
  readonly fieldManager = "mazevault-gateway";
  readonly resource = resourceType(gatewayKind);
  readonly #deps: GatewayControllerDependencies;
  readonly #secrets: TokenSecrets;

  constructor(deps: GatewayControllerDependencies) {
    this.#deps = deps;
    this.#secrets = new TokenSecrets(deps.api, deps.systemNamespace);
  }

  async observe({ metadata: { name } }: Gateway, signal: AbortSignal): Promise<Observed> {
    const [record, secret] = await Promise.all([this.#deps.store.gateway(name), this.#secrets.find(name, signal)]);
    const recovering = this.#deps.isRecovering?.() ?? false;
    return { record, secret, place: this.#secrets.placeOf(name), recovering };
  }

  decide = decide;

  async perform(action: Action, signal: AbortSignal): Promise<Outcome> {
    switch (action.kind) {
      case "EndFormer":
        await this.#end(action.name);
        return { record: await this.#deps.store.gateway(action.name) };
      case "DeleteSecret":
        await this.#secrets.delete(action.name, action.secret, signal);
        return { secret: undefined };
      case "IssueToken":
        return this.#issue(action, signal);
    }
  }

  learn(seen: Observed, _action: Action, outcome: Outcome): Observed {
    return { ...seen, ...outcome };
  }

  conditionFor(): OwnedConditionType {
    return "Registered";
  }

  /** Its certificates count for nothing any more, what rules delivered there is forgotten, and the core Secret goes also where nothing collects garbage. */
  async absent(name: string, signal: AbortSignal): Promise<void> {
    // A late attempt would end what was made anew under this name; of the former the object itself sees to.
    if (await this.#stands(name, signal)) return;
    await this.#end(name);
    const secret = await this.#secrets.find(name, signal);
    if (secret?.ownerUid !== undefined) await this.#secrets.delete(name, secret, signal);
  }

  /** Asked of the API server itself: a cache may not know yet what was made a moment ago. */
  async #stands(name: string, signal: AbortSignal): Promise<boolean> {
    try {
      const { metadata } = await this.#deps.api.get<Gateway>(this.resource, { name }, { metadataOnly: true, signal });
      return metadata.deletionTimestamp === undefined;
    } catch (error) {
      if (isNotFound(error, name)) return false;
      throw error;
    }
  }

  async #end(name: string): Promise<void> {
    await this.#revoke(name);
    await this.#deps.copies.forgetGatewayCopies(this.#deps.writer(), { gateway: name });
  }

  async #revoke(name: string): Promise<void> {
    const { store, writer, now = () => new Date() } = this.#deps;
    const record = await store.gateway(name);
    if (record === undefined || record.revokedAt !== undefined) return;
    const details = { reason: "the Gateway was deleted" };
    await store.revoke(writer(), record.id, now(), [gatewayEntry("GatewayRevoked", record, ENDED, details)]);
  }

  async #issue({ gateway, place, secret, knownEnd }: Issue, signal: AbortSignal): Promise<Outcome> {
    const { store, registrations, writer } = this.#deps;
    const { name } = gateway.metadata;
    // A new token ends the others, and somebody may just have been given one.
    const standing = await store.gateway(name);
    if (isNewer(standing, knownEnd)) return { record: standing };
    if (secret !== undefined) await this.#secrets.delete(name, secret, signal);
    let kept: TokenSecret | undefined;
    try {
      await registrations.issueToken(writer(), {
        name,
        place,
        validForMs: TOKEN_MS,
        actor: objectActor(this.resource, gateway),
        keep: async (token, expiresAt) => {
          kept = await this.#secrets.create(gateway, token, expiresAt, signal);
        },
      });
    } catch (error) {
      if (!(error instanceof FleetRefused)) throw error;
      throw new Waiting("PlaceDiffers", error.message, LOOK_AGAIN_MS, { cause: error });
    }
    return { record: await store.gateway(name), secret: kept };
  }
}

const isNewer = (record: GatewayRecord | undefined, knownEnd: Date | undefined): boolean =>
  record?.tokenExpiresAt !== undefined && record.tokenExpiresAt.getTime() !== knownEnd?.getTime();
