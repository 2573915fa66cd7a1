/** Logging in and out. */
import { z } from "zod";
import { describeSubject } from "../../../core/access/subject.ts";
import { route } from "../route.ts";

const session = z.strictObject({
  token: z.string().meta({ description: "Sent as Authorization: Bearer." }),
  expiresAt: z.iso.datetime(),
  refreshToken: z.string().meta({ description: "For the next token, once: each use gives another one." }),
  refreshExpiresAt: z.iso.datetime(),
});

interface Session {
  readonly token: string;
  readonly expiresAt: Date;
  readonly refreshToken: string;
  readonly refreshExpiresAt: Date;
}

const shown = ({ token, expiresAt, refreshToken, refreshExpiresAt }: Session): z.infer<typeof session> => ({
  token,
  expiresAt: expiresAt.toISOString(),
  refreshToken,
  refreshExpiresAt: refreshExpiresAt.toISOString(),
});

export const sessionRoutes = [
  route({
    id: "login",
    method: "post",
    path: "/api/v1/auth/login",
    tag: "Sessions",
    summary: "Logs a local user in.",
    body: z.strictObject({
      email: z.string().min(3).max(254).meta({ description: "Of the user." }),
      password: z.string().min(1).max(1024).meta({ description: "Of the user.", format: "password" }),
    }),
    access: { kind: "Anyone" },
    answers: { 200: { description: "A session.", schema: session } },
    problems: [401],
    handle: async ({ input, services, from }) => {
      const { email, password } = input.body;
      return { status: 200, body: shown(await services.identities.login(email, password, from)) };
    },
  }),
  route({
    id: "refresh",
    method: "post",
    path: "/api/v1/auth/refresh",
    tag: "Sessions",
    summary: "The next token of a session.",
    description: "A refresh token that was used before ends the session: somebody else has it.",
    body: z.strictObject({ refreshToken: z.string().min(1).max(512).meta({ description: "The last one." }) }),
    access: { kind: "Anyone" },
    answers: { 200: { description: "The session, with other tokens.", schema: session } },
    problems: [401],
    handle: async ({ input, services, from }) => ({
      status: 200,
      body: shown(await services.identities.refresh(input.body.refreshToken, from)),
    }),
  }),
  route({
    id: "logout",
    method: "post",
    path: "/api/v1/auth/logout",
    tag: "Sessions",
    summary: "Ends the session of the token.",
    access: { kind: "Authenticated" },
    answers: { 204: { description: "It is over." } },
    handle: async ({ services, who, from }) => {
      await services.identities.logout(who, { from });
      return { status: 204 };
    },
  }),
  route({
    id: "whoAmI",
    method: "get",
    path: "/api/v1/auth/me",
    tag: "Sessions",
    summary: "Whom the credentials stand for.",
    access: { kind: "Authenticated" },
    answers: {
      200: {
        description: "The subject, as access policies and the audit record know it.",
        schema: z.strictObject({
          kind: z.string(),
          subject: z.string(),
          via: z.string(),
          role: z.string().optional().meta({ description: "Of a local user, in the whole installation." }),
          scopes: z.array(z.string()).optional().meta({ description: "What an API key is limited to." }),
        }),
      },
    },
    handle: async ({ who: { subject, via, scopes } }) => ({
      status: 200,
      body: {
        kind: subject.kind,
        subject: describeSubject(subject),
        via,
        ...(subject.kind === "LocalUser" && subject.role !== undefined && { role: subject.role }),
        ...(scopes !== undefined && { scopes: [...scopes] }),
      },
    }),
  }),
];
