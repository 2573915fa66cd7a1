/** A route of the channel as data; all of them take POST. */
import type { z } from "zod";
import type { ChannelAnswer } from "../../adapters/channel/server-session.ts";
import type { Member } from "../../core/fleet/member.ts";
import type { FleetServices } from "./services.ts";

export interface FleetCall<Body> {
  readonly services: FleetServices;
  readonly body: Body;
  readonly address: string;
  /** Aborted when the gateway does not wait any more. */
  readonly signal: AbortSignal;
}

/** A call with a certificate that is admitted. */
export interface MemberCall<Body> extends FleetCall<Body> {
  readonly member: Member;
  /** DER. */
  readonly certificate: Buffer;
}

/** By whether its caller needs a certificate; only registration does not. */
export type FleetRoute =
  | {
      readonly kind: "Stranger";
      readonly path: string;
      readonly body: z.ZodType;
      readonly handle: (call: FleetCall<never>) => Promise<ChannelAnswer>;
    }
  | {
      readonly kind: "Member";
      readonly path: string;
      readonly body: z.ZodType;
      readonly handle: (call: MemberCall<never>) => Promise<ChannelAnswer>;
    };

export const ofStranger = <Body>(
  path: string,
  body: z.ZodType<Body>,
  handle: (call: FleetCall<Body>) => Promise<ChannelAnswer>,
): FleetRoute => ({ kind: "Stranger", path, body, handle });

export const ofMember = <Body>(
  path: string,
  body: z.ZodType<Body>,
  handle: (call: MemberCall<Body>) => Promise<ChannelAnswer>,
): FleetRoute => ({ kind: "Member", path, body, handle });
