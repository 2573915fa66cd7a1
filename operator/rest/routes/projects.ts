import { z } from "zod";
import { namesOf, whyInvalid } from "../../../core/naming/convention.ts";
import { labelName } from "../../../crds/common.ts";
import { namedType } from "../../../crds/naming.ts";
import type { Project } from "../../../crds/project.ts";
import { pageOf, pageQuery, visiblePage } from "../page.ts";
import { Problem } from "../problem.ts";
import { route } from "../route.ts";
import { name, readiness, readinessOf } from "./names.ts";

const project = z.strictObject({
  name: z.string(),
  uid: z.string().meta({ description: "UID of the object: `project_id` of an agent." }),
  environments: z.array(z.strictObject({ name: z.string() })),
  ...readiness,
});

const sealingKey = z.strictObject({
  kind: z.literal("SealingKey"),
  id: z
    .uuid()
    .meta({ description: "Sealed values name it, so that they still open when the project has a newer one." }),
  publicKey: z.string().meta({ description: "X25519 (RFC 7748), base64url." }),
  project: z.string(),
  installation: z.string(),
  signedBy: z
    .string()
    .meta({ description: "The installation's public key (Ed25519, RFC 8032), base64url: to be pinned." }),
  signature: z.string(),
});

const shown = (found: Project): z.infer<typeof project> => ({
  name: found.metadata.name,
  uid: found.metadata.uid,
  environments: found.spec.environments.map(({ name: environment }) => ({ name: environment })),
  ...readinessOf(found),
});

const namesQuery = z.object({
  environment: labelName.optional().meta({ description: "Only of this environment." }),
  number: z.coerce.number().int().min(1).max(99).default(1).meta({ description: "The number in the names." }),
});

const named = z.strictObject({
  environment: z.string(),
  type: namedType,
  name: z.string(),
  invalid: z.string().optional().meta({ description: "Why Azure would not accept the name." }),
});

const nameOf = ({ metadata }: Project): string => metadata.name;

export const projectRoutes = [
  route({
    id: "listProjects",
    method: "get",
    path: "/api/v1/projects",
    tag: "Projects",
    summary: "Projects.",
    query: z.object(pageQuery),
    access: { kind: "Filtered", verb: "list" },
    answers: { 200: { description: "A page of them, by name.", schema: pageOf(project) } },
    handle: async ({ input, services, may, hasNoGrant }) => {
      // Whoever may look into one of its environments sees the project.
      const mayShow = ({ metadata: { name: project }, spec }: Project) =>
        spec.environments.some(
          ({ name: environment }) => may("list", { kind: "Project", project, environment }).allowed,
        );
      const projects = hasNoGrant ? [] : services.view.projects();
      return { status: 200, body: await visiblePage(projects, nameOf, input.query, mayShow, shown) };
    },
  }),
  route({
    id: "getProject",
    method: "get",
    path: "/api/v1/projects/{name}",
    tag: "Projects",
    summary: "One project.",
    params: z.object({ name }),
    access: {
      kind: "Allowed",
      verb: "list",
      target: ({ params }) => ({ kind: "Project", project: params.name, name: params.name }),
    },
    answers: { 200: { description: "The project.", schema: project } },
    problems: [404],
    handle: async ({ input, services }) => {
      const found = services.view.project(input.params.name);
      if (found === undefined) throw new Problem(404, "NotFound", `there is no Project ${input.params.name}`);
      return { status: 200, body: shown(found) };
    },
  }),
  route({
    id: "listProjectNames",
    method: "get",
    path: "/api/v1/projects/{name}/names",
    tag: "Projects",
    summary: "Names in Azure by the project's naming convention.",
    params: z.object({ name }),
    query: namesQuery,
    access: {
      kind: "Allowed",
      verb: "list",
      target: ({ params }) => ({ kind: "Project", project: params.name, name: params.name }),
    },
    answers: {
      200: { description: "All of them.", schema: z.strictObject({ items: z.array(named) }) },
    },
    problems: [404],
    handle: async ({ input: { params, query }, services }) => {
      const spec = services.view.project(params.name)?.spec;
      if (spec === undefined) throw new Problem(404, "NotFound", `there is no Project ${params.name}`);
      if (spec.naming === undefined) {
        throw new Problem(404, "NotFound", `Project ${params.name} has no convention; set spec.naming`);
      }
      const environments = spec.environments.map((each) => each.name);
      if (query.environment !== undefined && !environments.includes(query.environment)) {
        throw new Problem(404, "NotFound", `Project ${params.name} has no environment ${query.environment}`);
      }
      const wanted = query.environment === undefined ? environments : [query.environment];
      const items = namesOf(spec.naming, wanted, query.number).map((each) => {
        const invalid = whyInvalid(each.type, each.name);
        return { ...each, ...(invalid !== undefined && { invalid }) };
      });
      return { status: 200, body: { items } };
    },
  }),
  route({
    id: "getSealingKey",
    method: "get",
    path: "/api/v1/projects/{name}/sealing-key",
    tag: "Projects",
    summary: "The public key that values for Git are sealed to, as a file to commit.",
    params: z.object({ name }),
    access: {
      kind: "Allowed",
      verb: "list",
      target: ({ params }) => ({ kind: "Project", project: params.name, name: params.name }),
    },
    answers: { 200: { description: "The key, signed by the installation.", schema: sealingKey } },
    problems: [404],
    handle: async ({ input, services }) => {
      const key = await services.vault.sealingKey(input.params.name);
      if (key === undefined) {
        throw new Problem(404, "NotFound", `Project ${input.params.name} has no sealing key yet; its status says why`);
      }
      return { status: 200, body: { kind: "SealingKey" as const, ...key } };
    },
  }),
];
