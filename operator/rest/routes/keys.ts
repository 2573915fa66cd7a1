/** The keys that wrap others: their versions, and their rotation. What they are is told to nobody. */
import { z } from "zod";
import type { Target } from "../../../core/access/policy.ts";
import { UNLED } from "../../../core/ports/vault-store.ts";
import type { RotatedKey } from "../../../core/vault/rotation.ts";
import { cursorOf, keyOfCursor, pageOf, pageQuery } from "../page.ts";
import { Problem } from "../problem.ts";
import { route } from "../route.ts";
import type { Services } from "../services.ts";
import { name } from "./names.ts";

const TAG = "Keys";

const version = z.strictObject({
  version: z.int(),
  id: z.uuid(),
  createdAt: z.iso.datetime(),
  uses: z.int().meta({ description: "How often it has wrapped another key, counted in blocks of 65,536." }),
  wrappedBy: z
    .string()
    .meta({ description: "Id of the key that wraps it: of the root key, or of an installation key." }),
  left: z
    .int()
    .optional()
    .meta({ description: "Of a version that was replaced: how many keys it still wraps. It is retired at none." }),
});

const key = z.strictObject({
  project: z.string().optional().meta({ description: "Absent: the installation's." }),
  state: z.enum(["Settled", "Rotating"]),
  versions: z.array(version).meta({ description: "Those in use, the newest last. It wraps whatever is new." }),
});

const rotation = z.strictObject({
  started: z.boolean().meta({ description: "False: a rotation is under way already." }),
  key,
});

const shown = ({ project, versions }: RotatedKey): z.infer<typeof key> => ({
  ...(project !== undefined && { project }),
  state: versions.length > 1 ? "Rotating" : "Settled",
  versions: versions.map(({ version: number, id, createdAt, uses, wrappedBy, left }) => ({
    version: number,
    id,
    createdAt: createdAt.toISOString(),
    uses: Number(uses),
    wrappedBy,
    ...(left !== undefined && { left }),
  })),
});

async function found({ rotation: keys }: Services, project?: string): Promise<RotatedKey> {
  const standing = await keys.find(project);
  if (standing !== undefined) return standing;
  throw new Problem(404, "NotFound", `Project ${project} has no key: it is made when the Project is applied`);
}

const installation = (): Target => ({ kind: "Identity" });
const ofProject = ({ params }: { readonly params: { readonly name: string } }): Target => ({
  kind: "Project",
  project: params.name,
  name: params.name,
});

export const keyRoutes = [
  route({
    id: "listKeys",
    method: "get",
    path: "/api/v1/keys",
    tag: TAG,
    summary: "The keys that wrap others, and what is left of their rotation.",
    query: z.object(pageQuery),
    access: { kind: "Allowed", verb: "administer", target: installation },
    answers: {
      200: {
        description: "The root key, the installation's key, and a page of the projects' keys, by project.",
        schema: pageOf(key).extend({
          rootKey: z.strictObject({
            id: z.string().meta({ description: "Of the one in use." }),
            complete: z.boolean().meta({ description: "False: the root key before, keys.previous, is still needed." }),
          }),
          installation: key,
        }),
      },
    },
    handle: async ({ input, services }) => {
      const { limit, after } = input.query;
      const [rootKey, own, keys] = await Promise.all([
        services.rotation.root(),
        found(services),
        services.rotation.list(after === undefined ? undefined : keyOfCursor(after), limit),
      ]);
      const last = keys.length === limit ? keys.at(-1)?.project : undefined;
      return {
        status: 200,
        body: {
          rootKey: { ...rootKey },
          installation: shown(own),
          items: keys.map(shown),
          ...(last !== undefined && { next: cursorOf(last) }),
        },
      };
    },
  }),
  route({
    id: "rotateInstallationKey",
    method: "post",
    path: "/api/v1/keys/installation/rotate",
    tag: TAG,
    summary: "Replaces the installation's key.",
    description:
      "It wraps whatever is new from now on. What the version before wraps is wrapped anew, and then that one is retired.",
    access: { kind: "Allowed", verb: "administer", target: installation },
    answers: { 202: { description: "The key as it is now.", schema: rotation } },
    handle: async ({ services, actor }) => {
      const started = await services.rotation.rotate(UNLED, undefined, actor);
      return { status: 202, body: { started, key: shown(await found(services)) } };
    },
  }),
  route({
    id: "getProjectKey",
    method: "get",
    path: "/api/v1/projects/{name}/key",
    tag: TAG,
    summary: "The key that wraps the data keys of a project's secrets.",
    params: z.object({ name }),
    access: { kind: "Allowed", verb: "administer", target: ofProject },
    answers: { 200: { description: "Its versions.", schema: key } },
    problems: [404],
    handle: async ({ input, services }) => ({ status: 200, body: shown(await found(services, input.params.name)) }),
  }),
  route({
    id: "rotateProjectKey",
    method: "post",
    path: "/api/v1/projects/{name}/key/rotate",
    tag: TAG,
    summary: "Replaces the key of a project.",
    description: "As that of the installation. No value is decrypted for it, and no secret gets a new version.",
    params: z.object({ name }),
    access: { kind: "Allowed", verb: "administer", target: ofProject },
    answers: { 202: { description: "The key as it is now.", schema: rotation } },
    problems: [404],
    handle: async ({ input, services, actor }) => {
      const project = input.params.name;
      await found(services, project);
      const started = await services.rotation.rotate(UNLED, project, actor);
      return { status: 202, body: { started, key: shown(await found(services, project)) } };
    },
  }),
];
