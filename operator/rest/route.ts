/**
 * A route is data: what it takes, what it answers, who may call it, and what it does. The server, the OpenAPI document
 * and the access matrix are made of the same list, so that none of them can say something else.
 */
import { z } from "zod";
import type { Decision, Target, Verb } from "../../core/access/policy.ts";
import type { Authenticated } from "../../core/access/subject.ts";
import type { Origin } from "../../core/identity/actor.ts";
import type { Actor } from "../../core/ports/audit-log.ts";
import type { ProblemBody, ProblemStatus } from "./problem.ts";
import type { Services } from "./services.ts";

export type Method = "get" | "post" | "put" | "patch" | "delete" | "options";

/** What came in, judged by the route's schemas. */
export interface Input {
  readonly params: unknown;
  readonly query: unknown;
  readonly body: unknown;
}

/**
 * Who may call it.
 * - Anyone: without credentials.
 * - Optional: without credentials too; `may` allows nothing to who sends none.
 * - EventToken: who sends one of the tokens for events; it stands for nobody.
 * - Authenticated: everybody whose identity is known; what they see is their own.
 * - Allowed: whom a grant allows the verb on the target.
 * - Filtered: everybody whose identity is known, and each item is only shown to whom a grant allows the verb on it.
 */
export type Access<I extends Input> =
  | { readonly kind: "Anyone" }
  | { readonly kind: "Optional" }
  | { readonly kind: "EventToken" }
  | { readonly kind: "Authenticated" }
  | {
      readonly kind: "Allowed";
      readonly verb: Verb;
      readonly target: (input: I, services: Services) => Target | Promise<Target>;
    }
  | { readonly kind: "Filtered"; readonly verb: Verb };

/** One request on its way. */
export interface Call<I extends Input> {
  readonly input: I;
  readonly services: Services;
  /** Throws where the caller is not known. */
  readonly who: Authenticated;
  /** For the audit record. */
  readonly actor: Actor;
  /** The grant that let it in, for the audit record of a read. */
  readonly grant: string;
  readonly requestId: string;
  readonly from: Origin;
  /** Without the quotes: what the caller has seen (RFC 9110, section 13.1.1). */
  readonly ifMatch: string | undefined;
  readonly ifNoneMatch: string | undefined;
  /** See `idempotency-key.ts`. */
  readonly idempotencyKey: string | undefined;
  /** Who asks to be let in by the handshake of CloudEvents' webhooks. */
  readonly webhookOrigin: string | undefined;
  readonly signal: AbortSignal;
  /** Nothing is granted to the caller anywhere: a list need not be looked through. */
  readonly hasNoGrant: boolean;
  may(verb: Verb, target: Target): Decision;
  /** The grant; throws a `Problem` with 403 when there is none, once that is on record. */
  assertMay(verb: Verb, target: Target): Promise<string>;
  /** Puts on record that the caller has an object changed; the controller that acts on it sees only the object. */
  announce(operation: "Create" | "Change" | "Delete", target: Target): Promise<void>;
}

/** Text in pieces. */
export interface Stream {
  readonly type: string;
  readonly pieces: AsyncIterable<string | Buffer>;
  /**
   * The piece that says why there are no more, when they fail after the first has left as a good answer; the connection
   * breaks off behind it, so that nobody takes it for whole.
   */
  readonly told?: (problem: ProblemBody) => string;
}

export interface Answer {
  readonly status: number;
  /** Sent as JSON. */
  readonly body?: unknown;
  /** Instead of `body`. */
  readonly stream?: Stream;
  readonly headers?: Readonly<Record<string, string>>;
}

export interface DocumentedAnswer {
  readonly description: string;
  /** JSON when there is one. */
  readonly schema?: z.ZodType;
  /** Of an answer that is no JSON. */
  readonly type?: string;
  /** Where the caller chooses. */
  readonly otherTypes?: readonly string[];
  readonly headers?: Readonly<Record<string, string>>;
}

export interface Route<
  P extends z.ZodObject = z.ZodObject,
  Q extends z.ZodObject = z.ZodObject,
  B extends z.ZodType = z.ZodType,
> {
  /** The operationId. */
  readonly id: string;
  readonly method: Method;
  /** As OpenAPI writes it: `/api/v1/projects/{project}`. */
  readonly path: string;
  readonly tag: string;
  readonly summary: string;
  readonly description?: string;
  /** Changes nothing, whatever its method is (RFC 9110, section 9.2.1). */
  readonly safe: boolean;
  readonly params: P;
  readonly query: Q;
  readonly body: B | undefined;
  /** What the body may be; JSON in any case. */
  readonly bodyTypes: readonly string[];
  readonly access: Access<{ params: z.infer<P>; query: z.infer<Q>; body: z.infer<B> }>;
  readonly answers: Readonly<Record<number, DocumentedAnswer>>;
  /** Beyond those that every route of its kind can answer. */
  readonly problems: readonly ProblemStatus[];
  handle(call: Call<{ params: z.infer<P>; query: z.infer<Q>; body: z.infer<B> }>): Promise<Answer>;
}

const nothing = z.object({});

type Defined<P extends z.ZodObject, Q extends z.ZodObject, B extends z.ZodType> = Omit<
  Route<P, Q, B>,
  "safe" | "params" | "query" | "body" | "bodyTypes" | "problems"
> & {
  readonly safe?: boolean;
  readonly params?: P;
  readonly query?: Q;
  readonly body?: B;
  readonly bodyTypes?: readonly string[];
  readonly problems?: readonly ProblemStatus[];
};

/** A route, its types inferred from its schemas and then put aside: a list holds routes of all kinds. */
export function route<
  P extends z.ZodObject = z.ZodObject<Record<never, never>>,
  Q extends z.ZodObject = z.ZodObject<Record<never, never>>,
  B extends z.ZodType = z.ZodUndefined,
>(defined: Defined<P, Q, B>): Route {
  const { safe = defined.method === "get", params = nothing, query = nothing, body, problems = [] } = defined;
  const { bodyTypes = ["application/json"] } = defined;
  return { ...defined, safe, params, query: query.strict(), body, bodyTypes, problems } as unknown as Route;
}

/** Nobody's identity is asked for. */
export const isAnonymous = ({ access }: Pick<Route, "access">): boolean =>
  access.kind === "Anyone" || access.kind === "EventToken";

/** Whether it can be sent again without being done twice: what changes something for somebody who is known. */
export const takesIdempotencyKey = (route: Route): boolean => !route.safe && !isAnonymous(route);

/** The problems that a route can answer: its own, and those that follow from what it takes and who may call it. */
export function problemsOf(route: Route): readonly ProblemStatus[] {
  const { access, params, query, body, path, problems } = route;
  const takesKey = takesIdempotencyKey(route);
  const takes = takesKey || Object.keys(params.shape).length + Object.keys(query.shape).length > 0;
  const every: ProblemStatus[] = [
    ...(takesKey ? ([409, 422] as const) : []),
    ...(takes || body !== undefined ? ([400] as const) : []),
    ...(access.kind === "Anyone" ? [] : ([401] as const)),
    ...(access.kind === "Allowed" ? ([403] as const) : []),
    ...(body === undefined ? [] : ([413, 415] as const)),
    // A liveness probe must not be turned away by others' requests.
    ...(path === "/" ? [] : ([429, 503] as const)),
    ...problems,
  ];
  return [...new Set(every)].sort();
}
