import { identity } from "../../../../core/ports/samples.ts";
import { HeldUids } from "../../../../core/recovery/home.ts";
import { KeptWorld } from "../../../../core/vault/testing/kept-world.ts";
import type { Secret, SecretEntry } from "../../../../crds/secret.ts";
import { problemOf } from "../../failure.ts";
import type { Answer } from "../../route.ts";
import { versionRoutes } from "./versions.ts";

const entries: readonly SecretEntry[] = [
  { key: "password", generate: { kind: "Password" } },
  { key: "host", external: {} },
];
const { project, environment, namespace, namespaceUid: uid, name } = identity("one");
const secret = {
  metadata: { namespace, name },
  spec: {
    projectRef: { name: project },
    environment,
    entries,
    rotation: { every: "24h", apply: { job: { cronJobRef: { name: "change" } } } },
  },
} as unknown as Secret;

let world: KeptWorld;

beforeEach(async () => {
  world = await KeptWorld.start();
});

async function ask(id: "rollBackSecret" | "rotateSecret", body: object) {
  const view = {
    secret: () => secret,
    held: new HeldUids(),
    namespace: () => ({ metadata: { name: namespace, uid } }),
    project: () => ({
      metadata: { name: project },
      spec: {
        environments: [{ name: environment }],
        namespaces: [{ name: namespace, environments: [environment] }],
      },
    }),
  };
  const input = { params: { namespace, name }, query: {}, body };
  const actor = { kind: "Controller", name: "test" };
  const call = { input, services: { view, vault: world.vault }, actor };
  const route = versionRoutes.find((each) => each.id === id) as { handle(of: object): Promise<Answer> } | undefined;
  if (route === undefined) throw new Error(`there is no route ${id}`);
  try {
    return await route.handle(call);
  } catch (error) {
    const { status, code, message } = problemOf(error);
    return { status, code, message };
  }
}

test("nothing is rolled back where values are applied, since nobody would apply the old ones", async () => {
  world.orchestrates = false;
  await world.apply(entries);
  const before = await world.put(entries, { host: "db" });
  expect(await ask("rollBackSecret", { version: 1 })).toEqual({
    status: 409,
    code: "NotRolledBack",
    message: expect.stringMatching(/spec\.rotation\.apply is set; rotate instead$/),
  });
  expect(await world.record()).toEqual(before);
  expect(await ask("rotateSecret", {})).toMatchObject({ status: 200, body: { requested: true } });
});

test("nothing is requested where a Key Vault has the values, since nothing would come of it; but rolled back", async () => {
  await world.apply(entries);
  await world.put(entries, { host: "db" });
  const before = await world.put(entries, { host: "other" });
  expect(await ask("rotateSecret", {})).toEqual({
    status: 409,
    code: "RotationInvalid",
    message: expect.stringMatching(/^spec\.rotation\.apply: .*leave out apply, or use a Project/),
  });
  expect(await world.record()).toEqual(before);
  expect(await ask("rollBackSecret", { version: 2 })).toMatchObject({ status: 200, body: { changed: ["host"] } });
});
