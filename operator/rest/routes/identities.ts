/** Local users and API keys. What gives access is told once, to who made it. */
import { z } from "zod";
import type { Target } from "../../../core/access/policy.ts";
import type { ApiKey } from "../../../core/identity/api-keys.ts";
import type { User } from "../../../core/identity/users.ts";
import { ROLE_NAMES, VERBS } from "../../../crds/access.ts";
import { cursorOf, keyOfCursor, pageOf, pageQuery } from "../page.ts";
import { Problem } from "../problem.ts";
import { type Call, type Input, route } from "../route.ts";

const TAG = "Identities";
const target = (): Target => ({ kind: "Identity" });
const byId = z.object({ id: z.uuid().meta({ description: "Its id." }) });

const user = z.strictObject({
  id: z.uuid(),
  email: z.string(),
  role: z
    .enum(ROLE_NAMES)
    .optional()
    .meta({ description: "In the whole installation; absent: what access policies grant." }),
  disabled: z.boolean(),
  createdAt: z.iso.datetime(),
});

const shownUser = ({ id, email, role, disabled, createdAt }: User): z.infer<typeof user> => ({
  id,
  email,
  ...(role !== undefined && { role }),
  disabled,
  createdAt: createdAt.toISOString(),
});

const apiKey = z.strictObject({
  id: z.uuid(),
  owner: z.uuid().meta({ description: "Id of the user whose rights bound it." }),
  name: z.string(),
  scopes: z.array(z.enum(VERBS)).meta({ description: "What it may do at most." }),
  createdAt: z.iso.datetime(),
  expiresAt: z.iso.datetime(),
  revokedAt: z.iso.datetime().optional(),
  lastUsedAt: z.iso.datetime().optional().meta({ description: "To the minute." }),
});

const shownKey = (key: ApiKey): z.infer<typeof apiKey> => ({
  id: key.id,
  owner: key.ownerId,
  name: key.name,
  scopes: [...key.scopes],
  createdAt: key.createdAt.toISOString(),
  expiresAt: key.expiresAt.toISOString(),
  ...(key.revokedAt !== undefined && { revokedAt: key.revokedAt.toISOString() }),
  ...(key.lastUsedAt !== undefined && { lastUsedAt: key.lastUsedAt.toISOString() }),
});

const password = z.string().min(1).max(1024).meta({ description: "Twelve characters at least.", format: "password" });

/** Keys belong to users: whoever came in otherwise has none. An API key makes no further ones. */
function ownUser({ who: { subject, via } }: Call<Input>): string {
  if (subject.kind === "LocalUser" && via !== "ApiKey") return subject.id;
  throw new Problem(403, "AccessDenied", "API keys belong to local users; log in as one");
}

export const identityRoutes = [
  route({
    id: "listUsers",
    method: "get",
    path: "/api/v1/users",
    tag: TAG,
    summary: "Local users.",
    query: z.object(pageQuery),
    access: { kind: "Allowed", verb: "administer", target },
    answers: { 200: { description: "A page of them, by email.", schema: pageOf(user) } },
    handle: async ({ input, services }) => {
      const { limit, after } = input.query;
      const found = await services.identities.users.list(after === undefined ? undefined : keyOfCursor(after), limit);
      const last = found.length === limit ? found.at(-1) : undefined;
      return { status: 200, body: { items: found.map(shownUser), ...(last && { next: cursorOf(last.email) }) } };
    },
  }),
  route({
    id: "createUser",
    method: "post",
    path: "/api/v1/users",
    tag: TAG,
    summary: "Makes a local user.",
    body: z.strictObject({
      email: z
        .string()
        .min(3)
        .max(254)
        .meta({ description: "Never given to another user, also after this one is removed." }),
      password,
      role: z.enum(ROLE_NAMES).optional().meta({ description: "In the whole installation; none when absent." }),
    }),
    access: { kind: "Allowed", verb: "administer", target },
    answers: { 201: { description: "The user.", schema: user } },
    problems: [409, 422],
    handle: async ({ input, services, actor }) => {
      const { role, ...given } = input.body;
      const made = await services.identities.users.create(actor, { ...given, ...(role !== undefined && { role }) });
      return { status: 201, body: shownUser(made) };
    },
  }),
  route({
    id: "changeUser",
    method: "patch",
    path: "/api/v1/users/{id}",
    tag: TAG,
    summary: "Changes role, password or state of a local user.",
    description: "Another password, and being disabled, end every session of the user.",
    params: byId,
    body: z.strictObject({
      role: z.enum(ROLE_NAMES).nullable().optional().meta({ description: "null: none." }),
      password: password.optional(),
      disabled: z.boolean().optional().meta({ description: "Whether the user can log in." }),
    }),
    access: { kind: "Allowed", verb: "administer", target },
    answers: { 200: { description: "The user as it is now.", schema: user } },
    problems: [404, 409, 422],
    handle: async ({ input, services, actor }) => {
      const { role, password: next, disabled } = input.body;
      const changed = await services.identities.users.change(actor, input.params.id, {
        ...(role !== undefined && { role }),
        ...(next !== undefined && { password: next }),
        ...(disabled !== undefined && { disabled }),
      });
      return { status: 200, body: shownUser(changed) };
    },
  }),
  route({
    id: "removeUser",
    method: "delete",
    path: "/api/v1/users/{id}",
    tag: TAG,
    summary: "Removes a local user, with all sessions and API keys.",
    params: byId,
    access: { kind: "Allowed", verb: "administer", target },
    answers: { 204: { description: "The user is gone." } },
    problems: [404, 409],
    handle: async ({ input, services, actor }) => {
      await services.identities.users.remove(actor, input.params.id);
      return { status: 204 };
    },
  }),
  route({
    id: "changeOwnPassword",
    method: "post",
    path: "/api/v1/auth/password",
    tag: "Sessions",
    summary: "Changes the caller's own password, which ends all of the caller's sessions.",
    body: z.strictObject({ current: z.string().min(1).max(1024).meta({ format: "password" }), next: password }),
    access: { kind: "Authenticated" },
    answers: { 204: { description: "It is changed; log in again." } },
    problems: [422],
    handle: async ({ input, services, who, from }) => {
      await services.identities.changePassword(who, input.body, from);
      return { status: 204 };
    },
  }),
  route({
    id: "listApiKeys",
    method: "get",
    path: "/api/v1/api-keys",
    tag: TAG,
    summary: "The caller's API keys.",
    query: z.object(pageQuery),
    access: { kind: "Authenticated" },
    answers: { 200: { description: "A page of them.", schema: pageOf(apiKey) } },
    problems: [403],
    handle: async (call) => {
      const { limit, after } = call.input.query;
      const owner = ownUser(call as Call<Input>);
      const found = await call.services.identities.apiKeys.list(
        owner,
        after === undefined ? undefined : idOf(after),
        limit,
      );
      const last = found.length === limit ? found.at(-1) : undefined;
      return { status: 200, body: { items: found.map(shownKey), ...(last && { next: cursorOf(last.id) }) } };
    },
  }),
  route({
    id: "createApiKey",
    method: "post",
    path: "/api/v1/api-keys",
    tag: TAG,
    summary: "Makes an API key of the caller.",
    body: z.strictObject({
      name: z.string().min(1).max(128).meta({ description: "What it is for." }),
      scopes: z
        .array(z.enum(VERBS))
        .min(1)
        .max(VERBS.length)
        .meta({ description: "What it may do at most.", uniqueItems: true }),
      expiresAt: z.iso.datetime().optional().meta({ description: "Within 366 days; in 90 days when absent." }),
    }),
    access: { kind: "Authenticated" },
    answers: {
      201: {
        description: "The key; `secret` is shown this once.",
        schema: z.strictObject({
          ...apiKey.shape,
          secret: z.string().meta({ description: "Sent as Authorization: Bearer." }),
        }),
      },
    },
    problems: [403, 422],
    handle: async (call) => {
      const { name, scopes, expiresAt } = call.input.body;
      const ownerId = ownUser(call as Call<Input>);
      const { secret, ...made } = await call.services.identities.apiKeys.create(call.actor, {
        ownerId,
        name,
        scopes,
        ...(expiresAt !== undefined && { expiresAt: new Date(expiresAt) }),
      });
      return { status: 201, body: { ...shownKey(made), secret } };
    },
  }),
  route({
    id: "revokeApiKey",
    method: "delete",
    path: "/api/v1/api-keys/{id}",
    tag: TAG,
    summary: "Revokes an API key: of the caller, or of anybody for who administers identities.",
    params: byId,
    access: { kind: "Authenticated" },
    answers: { 204: { description: "It is refused within two seconds, everywhere." } },
    problems: [403, 404],
    handle: async (call) => {
      const { input, services, actor, may } = call;
      const administers = may("administer", target()).allowed;
      const owner = administers ? undefined : ownUser(call as Call<Input>);
      await services.identities.apiKeys.revoke(actor, input.params.id, owner);
      return { status: 204 };
    },
  }),
];

function idOf(after: string): string {
  const id = keyOfCursor(after);
  if (z.uuid().safeParse(id).success) return id;
  const errors = [{ field: "query.after", message: "must be what `next` of the page before said" }];
  throw new Problem(400, "InvalidRequest", "query.after: must be what `next` of the page before said", { errors });
}
