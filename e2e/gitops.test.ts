/** What Flux and Argo CD make of every kind, judged by kstatus and by the script as Argo CD runs it, on objects of the real API server. */
import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parse, parseAllDocuments } from "yaml";
import { failedStatus, settledStatus } from "../controllers/runtime/conditions.ts";
import type { Next, OwnedStatus } from "../controllers/runtime/controller.ts";
import type { Resource } from "../crds/common.ts";
import { kinds } from "../crds/index.ts";
import { type Api, collection, connect } from "../crds/testing/api.ts";
import { NAMESPACE, validManifests } from "../crds/testing/valid.ts";
import { judgeObjects } from "../lab/gitops/judge.ts";
import { until } from "../lab/poll.ts";
import { type KubernetesObject, startWorld, type World } from "./harness.ts";

const deploy = (file: string): string => fileURLToPath(new URL(`../deploy/${file}`, import.meta.url));
const script = readFileSync(deploy("argocd/health.lua"), "utf8");
const SETTLED: Next = { kind: "settled" };

let world: World;
let api: Api;

beforeAll(async () => {
  world = await startWorld();
  api = await connect(world.lab);
  await world.kubectl("create", "namespace", NAMESPACE);
});

afterAll(async () => {
  api?.close();
  await world?.stop();
});

const owned = (status: "True" | "False", reason: "Succeeded" | "SourceNotFound" | "Suspended"): OwnedStatus => ({
  conditions: [{ type: "Stored", status, reason, message: "What a person reads." }],
});

/** Each as the product's controllers write it, and what both tools then say. */
const situations: readonly (readonly [
  name: string,
  status: ((resource: Resource, now: Date) => object) | undefined,
  kstatus: string,
  health: string,
])[] = [
  ["nobody has looked at it yet", undefined, "InProgress", "Progressing"],
  ["it is ready", (of, now) => settledStatus(of, owned("True", "Succeeded"), SETTLED, now), "Current", "Healthy"],
  [
    "the manifest was changed since",
    (of, now) => settledStatus(generationBefore(of), owned("True", "Succeeded"), SETTLED, now),
    "InProgress",
    "Progressing",
  ],
  [
    "it waits for something that can come",
    (of, now) => settledStatus(of, owned("False", "SourceNotFound"), SETTLED, now),
    "InProgress",
    "Progressing",
  ],
  [
    "it is tried again",
    (of, now) =>
      failedStatus(of, undefined, { kind: "retrying", reason: "VaultUnreachable", message: "No.", known: false }, now),
    "InProgress",
    "Progressing",
  ],
  [
    "a person must change something",
    (of, now) =>
      settledStatus(of, owned("True", "Succeeded"), { kind: "stalled", reason: "ValueInvalid", message: "No." }, now),
    "Failed",
    "Degraded",
  ],
  [
    "it is suspended",
    (of, now) => settledStatus(of, owned("False", "Suspended"), SETTLED, now),
    "InProgress",
    "Suspended",
  ],
];

const generationBefore = (resource: Resource): Resource => ({
  ...resource,
  metadata: { ...resource.metadata, generation: (resource.metadata.generation ?? 0) - 1 },
});

async function called(method: string, path: string, body?: object, contentType?: string): Promise<KubernetesObject> {
  const answer = await api.call(method, path, { ...(body && { body }), ...(contentType && { contentType }) });
  if (answer.status >= 300) throw new Error(`${method} ${path}: ${answer.message}`);
  return answer.body as KubernetesObject;
}

test.each(kinds.map(({ kind }) => kind))("both tools see how %s stands", async (kind) => {
  const manifest = validManifests.find((each) => each.kind === kind);
  if (manifest === undefined) throw new Error(`there is no valid ${kind}`);
  const held = { ...manifest, metadata: { ...manifest.metadata, finalizers: ["example.com/held"] } };
  const path = `${collection(manifest)}/${manifest.metadata.name}`;
  const created = await called("POST", collection(manifest), held);
  // What the server adds would come back as a difference with every comparison.
  expect(created.spec).toEqual(manifest.spec);
  const seen: KubernetesObject[] = [];
  for (const [, statusOf] of situations) {
    if (statusOf !== undefined) {
      const status = statusOf(created as unknown as Resource, new Date());
      // What was there is replaced, as the controllers do.
      await called(
        "PATCH",
        `${path}/status`,
        [{ op: "add", path: "/status", value: status }],
        "application/json-patch+json",
      );
    }
    seen.push(await called("GET", path));
  }
  await called("DELETE", path);
  seen.push(await called("GET", path));
  await called("PATCH", path, { metadata: { finalizers: null } }, "application/merge-patch+json");

  const judged = await judgeObjects(seen, script);
  expect(
    judged.map(({ kstatus, health }, at) => [
      situations[at]?.[0] ?? "it is being deleted",
      kstatus.status,
      health.status,
    ]),
  ).toEqual([
    ...situations.map(([name, , kstatus, health]) => [name, kstatus, health]),
    ["it is being deleted", "Terminating", "Progressing"],
  ]);
  for (const { health } of judged) expect(health.message).toMatch(/^.{2,}$/);
});

test("the example of a repository is applied as it stands, and everything of it becomes ready", async () => {
  await world.mazevault.startOperator();
  await world.kubectl("apply", "--server-side", "-k", deploy("gitops/platform"));
  const applied = await asTeam();
  const objects = [
    await world.waitReady("project.mazevault.io", "shop"),
    await world.waitReady("clusterissuer.mazevault.io", "example-root"),
    await world.waitReady("clusterissuer.mazevault.io", "shop-ca"),
    await world.waitReady("secret.mazevault.io", "database", "shop"),
    await world.waitReady("certificate.mazevault.io", "web", "shop"),
  ];
  const judged = await judgeObjects(objects, script);
  expect(judged.map(({ kstatus, health }) => [kstatus.status, health.status])).toEqual(
    objects.map(() => ["Current", "Healthy"]),
  );
  // A sync of what is there changes nothing, and needs no right to use anything.
  for (const folder of ["gitops/platform", "gitops/apps/shop"])
    expect(await world.kubectl("diff", "--server-side", "-k", deploy(folder))).toBe("");
  await world.kubectl("-n", "shop", "delete", "rolebinding", "edit", "uses-shop");
  await world.kubectl("delete", "clusterrole", "uses-shop");
  expect(await applied()).toMatchObject({ code: 0, stderr: "" });
});

/**
 * Applies the team's folder as a tool does that acts as the team's account: refused as long as that may not use the Project, and
 * accepted with what the guide gives it. @returns the same once more
 */
async function asTeam() {
  const guide = readFileSync(fileURLToPath(new URL("../docs/guides/gitops.md", import.meta.url)), "utf8");
  const rights = /^## Whose rights count\n[\s\S]*?^```yaml\n([\s\S]*?)^```$/m.exec(guide)?.[1] ?? "";
  const [account, ...rest] = parseAllDocuments(rights).map((each) => each.toJS() as KubernetesObject);
  const { name, namespace = "" } = account?.metadata ?? { name: "" };
  await world.kubectl("create", "namespace", namespace);
  const { kubectl, serviceAccountKubeconfig } = world.lab.controlPlane;
  const given = async (...objects: readonly unknown[]) => {
    const input = JSON.stringify({ apiVersion: "v1", kind: "List", items: objects });
    expect(await kubectl(["apply", "-f", "-"], { input })).toMatchObject({ code: 0 });
  };
  const uses = (object: KubernetesObject) => object.metadata.name.startsWith("uses-");
  await given(account, ...rest.filter((object) => !uses(object)));
  const kubeconfig = await serviceAccountKubeconfig({ namespace, name, dir: world.lab.dir });
  const applied = () =>
    kubectl(["apply", "--server-side", "--field-manager=flux", "-k", deploy("gitops/apps/shop")], { kubeconfig });
  const refused = /denied request: spec\.projectRef: you need the right to use Project shop in namespace shop\./;
  await until("it is refused", async () => refused.test((await applied()).stderr), { timeoutMs: 20_000 });
  await given(...rest.filter(uses));
  await until("it is accepted", async () => (await applied()).code === 0, { timeoutMs: 20_000 });
  return applied;
}

test("the settings of Argo CD have the script for each kind", () => {
  const { data } = parse(readFileSync(deploy("argocd/argocd-cm.yaml"), "utf8")) as { data: Record<string, string> };
  expect(data).toEqual(
    Object.fromEntries(kinds.map(({ kind }) => [`resource.customizations.health.mazevault.io_${kind}`, script])),
  );
});
