/** The OpenAPI 3.1 document of the routes: the schemas that judge requests are the ones that describe them. */
import { z } from "zod";
import { idempotencyKeyHeader } from "./idempotency-key.ts";
import { PROBLEM_TYPE, problemBody, TITLES } from "./problem.ts";
import { isAnonymous, problemsOf, type Route, takesIdempotencyKey } from "./route.ts";

type Json = Record<string, unknown>;

/** A request says nothing that its route does not know; an answer may say more than this version does, so it is not closed. */
const schemaOf = (schema: z.ZodType, io: "input" | "output"): Json => {
  const { $schema: _, ...body } = z.toJSONSchema(schema, {
    target: "draft-2020-12",
    io,
    reused: "inline",
    override: ({ jsonSchema }) => {
      if (io === "output" && jsonSchema.additionalProperties === false) delete jsonSchema.additionalProperties;
    },
  });
  return body;
};

function parametersOf(route: Route): Json[] {
  const { params, query } = route;
  const listed = (shape: z.ZodObject["shape"], place: "path" | "query"): Json[] =>
    Object.entries(shape).map(([name, schema]) => {
      const { description, ...rest } = schemaOf(schema as z.ZodType, "input");
      return {
        name,
        in: place,
        required: place === "path" || !(schema as z.ZodType).safeParse(undefined).success,
        ...(description !== undefined && { description }),
        schema: rest,
      };
    });
  const headers = takesIdempotencyKey(route) ? [idempotencyKeyHeader] : [];
  return [...listed(params.shape, "path"), ...listed(query.shape, "query"), ...headers];
}

function answersOf(route: Route): Json {
  const good = Object.entries(route.answers).map(
    ([status, { description, schema, type, otherTypes = [], headers }]) => [
      status,
      {
        description,
        ...(headers && {
          headers: Object.fromEntries(
            Object.entries(headers).map(([name, text]) => [name, { description: text, schema: { type: "string" } }]),
          ),
        }),
        ...(schema !== undefined && { content: { "application/json": { schema: schemaOf(schema, "output") } } }),
        ...(type !== undefined && {
          content: Object.fromEntries([type, ...otherTypes].map((each) => [each, { schema: { type: "string" } }])),
        }),
      },
    ],
  );
  const bad = problemsOf(route).map((status) => [
    String(status),
    {
      description: TITLES[status],
      content: { [PROBLEM_TYPE]: { schema: { $ref: "#/components/schemas/Problem" } } },
    },
  ]);
  return Object.fromEntries([...good, ...bad]);
}

const SECURITY: readonly Json[] = [{ bearer: [] }, { clientCertificate: [] }];

const accessNote = ({ access }: Route): string => {
  switch (access.kind) {
    case "Anyone":
      return "For anyone.";
    case "Optional":
      return "For anyone; who is known may see more.";
    case "EventToken":
      return "For who has a token for events.";
    case "Authenticated":
      return "For everybody who is logged in.";
    case "Allowed":
      return `Needs a grant of \`${access.verb}\`.`;
    case "Filtered":
      return `Shows what the caller has a grant of \`${access.verb}\` for.`;
  }
};

export function openApiDocument(routes: readonly Route[], version: string): Json {
  const paths: Record<string, Json> = {};
  for (const route of routes) {
    const { id, tag, summary, description, body, bodyTypes } = route;
    const operation = {
      operationId: id,
      tags: [tag],
      summary,
      description: [description, accessNote(route)].filter(Boolean).join(" "),
      parameters: parametersOf(route),
      ...(body !== undefined && {
        requestBody: {
          required: true,
          content: Object.fromEntries(bodyTypes.map((type) => [type, { schema: schemaOf(body, "input") }])),
        },
      }),
      responses: answersOf(route),
      ...(isAnonymous(route) && { security: [] }),
      ...(route.access.kind === "Optional" && { security: [{}, ...SECURITY] }),
    };
    paths[route.path] = { ...paths[route.path], [route.method]: operation };
  }
  return {
    openapi: "3.1.0",
    info: {
      title: "MazeVault",
      version,
      description: "Secrets, certificates, access and audit of a MazeVault installation.",
    },
    security: SECURITY,
    paths,
    components: {
      schemas: { Problem: schemaOf(problemBody, "output") },
      securitySchemes: {
        bearer: {
          type: "http",
          scheme: "bearer",
          description: "A token of /api/v1/auth/login, an API key, or a Kubernetes ServiceAccount token.",
        },
        clientCertificate: { type: "mutualTLS", description: "A client certificate of a configured CA." },
      },
    },
  };
}
