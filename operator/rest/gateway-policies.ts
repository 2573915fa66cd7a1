/** Access in mode gateway: to its own objects by the grants of its own cluster, to what is the primary's by those of the primary. */
import { AccessPolicies, type AccessSource, type Decision, type Target, type Verb } from "../../core/access/policy.ts";
import type { Authenticated } from "../../core/access/subject.ts";
import type { Replica } from "../../core/fleet/replica.ts";

export class GatewayPolicies extends AccessPolicies {
  readonly #replica: Pick<Replica, "decide" | "grantsNothing">;

  constructor(own: AccessSource, replica: Pick<Replica, "decide" | "grantsNothing">) {
    super(own);
    this.#replica = replica;
  }

  override grantsNothing(who: Authenticated): boolean {
    return super.grantsNothing(who) && this.#replica.grantsNothing(who);
  }

  override decide(who: Authenticated, verb: Verb, target: Target): Decision {
    return target.replicated === true ? this.#replica.decide(who, verb, target) : super.decide(who, verb, target);
  }
}
