import { z } from "zod";
import { OPERATIONS } from "./vault/requests.ts";

const effect = z.discriminatedUnion("kind", [
  z.strictObject({
    kind: z.literal("status"),
    status: z.union([z.literal(403), z.literal(429), z.literal(500), z.literal(503)]),
    retryAfterSeconds: z.number().int().min(0).optional(),
  }),
  z.strictObject({ kind: z.literal("latency"), milliseconds: z.number().int().min(0).max(600_000) }),
  z.strictObject({ kind: z.literal("hang") }),
  z.strictObject({ kind: z.literal("drop") }),
  z.strictObject({ kind: z.literal("process-then-drop") }),
  z.strictObject({
    kind: z.literal("process-then-status"),
    status: z.union([z.literal(500), z.literal(503)]),
    retryAfterSeconds: z.number().int().min(0).optional(),
  }),
]);

export const faultRule = z.strictObject({
  target: z.enum(["vault", "entra", "instance-metadata"]).default("vault"),
  vault: z.string().optional().describe("every vault when absent"),
  operation: z.enum(OPERATIONS).optional().describe("every operation when absent"),
  name: z.string().optional().describe("secret name; * stands for any characters"),
  count: z.number().int().min(1).optional().describe("wears off after so many calls"),
  probability: z.number().gt(0).max(1).default(1),
  unauthenticated: z
    .boolean()
    .default(false)
    .describe("also hits the calls without a token that ask for the challenge"),
  effect,
});

/** What goes wrong, where and how often. Rules are tried in order; latency adds to the first other effect. */
export type FaultRule = z.input<typeof faultRule>;
export type FaultEffect = z.output<typeof effect>;
type Rule = z.output<typeof faultRule>;

export interface FaultSubject {
  readonly target: Rule["target"];
  readonly vault?: string;
  readonly operation?: string;
  readonly name?: string;
  readonly authenticated: boolean;
}

/** How a call is disturbed. */
export interface Disturbance {
  readonly latency: number;
  readonly effect: Exclude<FaultEffect, { kind: "latency" }> | undefined;
}

const NONE: Disturbance = { latency: 0, effect: undefined };

export class Faults {
  #rules: Rule[] = [];

  /** Replaces all rules. */
  set(rules: readonly Rule[]): void {
    this.#rules = rules.map((rule) => ({ ...rule }));
  }

  /** The rules that are still in force, with the calls left. */
  list(): readonly Rule[] {
    return this.#rules;
  }

  take(subject: FaultSubject): Disturbance {
    if (this.#rules.length === 0) {
      return NONE;
    }
    let latency = 0;
    for (const rule of this.#rules.filter((candidate) => matches(candidate, subject))) {
      this.#use(rule);
      if (rule.effect.kind !== "latency") {
        return { latency, effect: rule.effect };
      }
      latency += rule.effect.milliseconds;
    }
    return { latency, effect: undefined };
  }

  #use(rule: Rule): void {
    if (rule.count !== undefined) {
      rule.count--;
      this.#rules = this.#rules.filter((each) => each.count !== 0);
    }
  }
}

function matches(rule: Rule, subject: FaultSubject): boolean {
  return (
    rule.target === subject.target &&
    (subject.authenticated || rule.unauthenticated) &&
    (rule.vault === undefined || rule.vault.toLowerCase() === subject.vault?.toLowerCase()) &&
    (rule.operation === undefined || rule.operation === subject.operation) &&
    (rule.name === undefined || glob(rule.name).test(subject.name ?? "")) &&
    (rule.probability === 1 || Math.random() < rule.probability)
  );
}

function glob(pattern: string): RegExp {
  const literal = (text: string) => text.replace(/[^0-9a-zA-Z-]/g, "\\$&");
  return new RegExp(`^${pattern.split("*").map(literal).join(".*")}$`, "i");
}
