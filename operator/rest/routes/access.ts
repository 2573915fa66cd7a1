/** Why something is allowed or not, and to whom it is. */
import { z } from "zod";
import type { Target } from "../../../core/access/policy.ts";
import { type Authenticated, describeAccessSubject, describeSubject } from "../../../core/access/subject.ts";
import type { Users } from "../../../core/identity/users.ts";
import { VERBS } from "../../../crds/access.ts";
import { labelName, objectName } from "../../../crds/common.ts";
import { Problem } from "../problem.ts";
import { type Call, type Input, route } from "../route.ts";

const KINDS = ["Secret", "Certificate", "Issuer", "SyncRule", "Project", "Gateway", "Audit", "Identity"] as const;

const question = {
  verb: z.enum(VERBS).meta({ description: "What is to be done." }),
  kind: z.enum(KINDS).default("Secret").meta({ description: "With what kind." }),
  namespace: labelName.optional().meta({ description: "Namespace of the object." }),
  name: objectName.optional().meta({ description: "Name of the object." }),
  project: objectName.optional().meta({ description: "Project; that of the Secret when absent." }),
  environment: labelName.optional().meta({ description: "Environment; that of the Secret when absent." }),
};
const questions = z.object(question);
type Question = z.infer<typeof questions>;

/** The target that is asked about; of a Secret that is there, project and environment are known. */
function targetOf({ kind, namespace, name, project, environment }: Question, { services }: Call<Input>): Target {
  const secret =
    kind === "Secret" && namespace !== undefined && name !== undefined
      ? services.view.secret(namespace, name)
      : undefined;
  const inProject = project ?? secret?.spec.projectRef.name;
  const inEnvironment = environment ?? secret?.spec.environment;
  return {
    kind,
    ...(inProject !== undefined && { project: inProject }),
    ...(inEnvironment !== undefined && { environment: inEnvironment }),
    ...(namespace !== undefined && { namespace }),
    ...(name !== undefined && { name }),
  };
}

/** Who reads the record may know who may do what; everybody may know it of themselves. */
const mayLookAtOthers = ({ may }: Call<Input>): boolean => may("audit", { kind: "Audit" }).allowed;

function asServiceAccount(place: string): Authenticated {
  const [namespace = "", name = ""] = place.split("/");
  return { subject: { kind: "ServiceAccount", namespace, name, uid: "" }, via: "ServiceAccountToken", id: "" };
}

/** Policies name users by id; people know the email. */
async function asUser(idOrEmail: string, users: Pick<Users, "find" | "findByEmail">): Promise<Authenticated> {
  const found = z.uuid().safeParse(idOrEmail).success
    ? await users.find(idOrEmail)
    : await users.findByEmail(idOrEmail);
  if (found === undefined) throw new Problem(404, "NotFound", `there is no local user ${idOrEmail}`);
  const { id, email, role } = found;
  return { subject: { kind: "LocalUser", id, email, ...(role !== undefined && { role }) }, via: "Token", id: "" };
}

export const accessRoutes = [
  route({
    id: "explainAccess",
    method: "get",
    path: "/api/v1/access/explain",
    tag: "Access",
    summary: "Whether the caller, a local user or a ServiceAccount may do something, and why.",
    query: z.object({
      ...question,
      serviceAccount: z
        .string()
        .max(317)
        .regex(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?\/[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/, "must be NAMESPACE/NAME")
        .optional()
        .meta({ description: "NAMESPACE/NAME of a ServiceAccount to ask about; the caller when absent." }),
      user: z
        .string()
        .min(1)
        .max(254)
        .optional()
        .meta({ description: "Id or email of a local user to ask about; the caller when absent." }),
    }),
    access: { kind: "Authenticated" },
    answers: {
      200: {
        description: "The decision, and each grant that was looked at.",
        schema: z.strictObject({
          subject: z.string(),
          allowed: z.boolean(),
          reason: z.string(),
          considered: z.array(z.strictObject({ grant: z.string(), counts: z.boolean(), reason: z.string() })),
        }),
      },
    },
    problems: [403, 404],
    handle: async (call) => {
      const { input, services, who } = call;
      const { serviceAccount, user, ...asked } = input.query;
      let asking = who;
      if (serviceAccount !== undefined || user !== undefined) {
        if (!mayLookAtOthers(call as Call<Input>)) throw new Problem(403, "AccessDenied", "no grant of audit on Audit");
        asking =
          user === undefined ? asServiceAccount(serviceAccount ?? "") : await asUser(user, services.identities.users);
      }
      const target = targetOf(asked, call as Call<Input>);
      const { allowed, reason } = services.policies.decide(asking, asked.verb, target);
      const considered = services.policies
        .explain(asking.subject, asked.verb, target)
        .map(({ grant, counts, reason: why }) => ({ grant, counts, reason: why }));
      return { status: 200, body: { subject: describeSubject(asking.subject), allowed, reason, considered } };
    },
  }),
  route({
    id: "whoCan",
    method: "get",
    path: "/api/v1/access/who-can",
    tag: "Access",
    summary: "The grants that let somebody do something.",
    description: "Roles of the installation come on top.",
    query: z.object(question),
    access: { kind: "Allowed", verb: "audit", target: () => ({ kind: "Audit" }) },
    answers: {
      200: {
        description: "Each grant with its subjects.",
        schema: z.strictObject({
          grants: z.array(z.strictObject({ grant: z.string(), subjects: z.array(z.string()) })),
        }),
      },
    },
    handle: async (call) => {
      const { input, services } = call;
      const grants = services.policies.whoCan(input.query.verb, targetOf(input.query, call as Call<Input>));
      return {
        status: 200,
        body: {
          grants: grants.map(({ id, subjects }) => ({
            grant: id,
            subjects: subjects.map(describeAccessSubject),
          })),
        },
      };
    },
  }),
];
