/** JSON schemas of Kubernetes' own kinds, made of what an API server of the lab publishes of itself; kept in the user's cache. */
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";
import { cacheDir } from "../cache.ts";
import { obtainBinaries } from "../controlplane/binaries.ts";
import { startControlPlane } from "../controlplane/controlplane.ts";
import { kubernetesVersion } from "../controlplane/versions.ts";
import { waitForLock } from "../lock.ts";
import { LabPki } from "../pki.ts";
import { Ports } from "../ports.ts";
import { Supervisor } from "../processes.ts";
import { type Schema, strict } from "./strict.ts";

const DRAFT_PREFIX = ".new-";

/** kubeconform finds the schema of a kind by this name in a folder of schemas. A core kind's group is `v1`. */
export const schemaName = "{{.Group}}/{{.ResourceKind}}-{{.ResourceAPIVersion}}.json";

/** What `/openapi/v3/apis/GROUP/VERSION` answers, as far as it is read. */
export interface OpenApiDocument {
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> };
}

interface GroupVersionKind {
  readonly group: string;
  readonly version: string;
  readonly kind: string;
}

/** The folder, when this machine has it. Looks, and starts nothing. */
export function findKubernetesSchemas(): string | undefined {
  const dir = folder();
  return existsSync(dir) ? dir : undefined;
}

/** Finds it, or asks an API server that is started for it: some seconds. @throws with the reason, for a person */
export async function obtainKubernetesSchemas(report: (line: string) => void = () => {}): Promise<string> {
  const found = findKubernetesSchemas();
  if (found !== undefined) return found;
  const parent = path.dirname(folder());
  const lock = await waitForLock(path.join(parent, "lock"), ({ pid }) =>
    report(`waiting for process ${pid}, which is writing Kubernetes' schemas already`),
  );
  try {
    return findKubernetesSchemas() ?? (await make(parent, report));
  } finally {
    lock.release();
  }
}

async function make(parent: string, report: (line: string) => void): Promise<string> {
  // Of a holder of the lock that was killed.
  for (const name of readdirSync(parent).filter((each) => each.startsWith(DRAFT_PREFIX)))
    rmSync(path.join(parent, name), { recursive: true });
  const draft = mkdtempSync(path.join(parent, DRAFT_PREFIX));
  try {
    report(`asking an API server of Kubernetes ${kubernetesVersion} for its schemas (they are kept)`);
    for (const [name, document] of await published(report)) {
      for (const [file, schema] of filesOf(name, document)) {
        mkdirSync(path.dirname(path.join(draft, file)), { recursive: true });
        writeFileSync(path.join(draft, file), JSON.stringify(schema));
      }
    }
    renameSync(draft, folder());
    return folder();
  } finally {
    rmSync(draft, { recursive: true, force: true });
  }
}

/**
 * A file with every schema of the document, strict, and for each kind of this group and version one that refers to it.
 * @param name of the document, for example `apis/apps/v1`
 */
export function* filesOf(name: string, { components }: OpenApiDocument): Generator<readonly [string, object]> {
  const all = `${name.replaceAll("/", ".")}.json`;
  const schemas = Object.fromEntries(
    Object.entries(components.schemas).map(([each, schema]) => [each, strict(schema)]),
  );
  yield [all, { components: { schemas } }];
  for (const [each, schema] of Object.entries(components.schemas)) {
    const served = (schema["x-kubernetes-group-version-kind"] ?? []) as readonly GroupVersionKind[];
    for (const { group, version, kind } of served) {
      // DeleteOptions and its like are listed for every group.
      if (name !== (group === "" ? `api/${version}` : `apis/${group}/${version}`)) continue;
      const file = `${group === "" ? version : group}/${kind.toLowerCase()}-${version}.json`;
      yield [file, { $ref: `../${all}#/components/schemas/${each}` }];
    }
  }
}

/** Documents by their names. */
async function published(report: (line: string) => void): Promise<ReadonlyMap<string, OpenApiDocument>> {
  const binaries = await obtainBinaries(report);
  const dir = mkdtempSync(path.join(tmpdir(), "mazevault-schemas-"));
  const supervisor = await Supervisor.open(dir);
  try {
    const controlPlane = await startControlPlane({
      dir: path.join(dir, "controlplane"),
      supervisor,
      ports: new Ports(path.join(dir, "ports.json")),
      pki: await LabPki.open(path.join(dir, "pki")),
      binaries,
      durable: false,
      report,
    });
    const ask = async (url: string): Promise<string> => {
      const { code, stdout, stderr } = await controlPlane.kubectl(["get", "--raw", url]);
      if (code !== 0) throw new Error(`GET ${url}: ${stderr.trim()}`);
      return stdout;
    };
    const { groups } = JSON.parse(await ask("/apis")) as { groups: { versions: { groupVersion: string }[] }[] };
    const served = ["api/v1", ...groups.flatMap(({ versions }) => versions.map((each) => `apis/${each.groupVersion}`))];
    const { paths } = JSON.parse(await ask("/openapi/v3")) as { paths: Record<string, { serverRelativeURL: string }> };
    const documents = new Map<string, OpenApiDocument>();
    for (const name of served) {
      const document = paths[name];
      if (document === undefined) throw new Error(`the API server serves ${name}, and publishes nothing of it`);
      documents.set(name, JSON.parse(await ask(document.serverRelativeURL)));
    }
    controlPlane.stop();
    return documents;
  } finally {
    await supervisor.stop();
    rmSync(dir, { recursive: true, force: true });
  }
}

/** Another version of Kubernetes or of this conversion is another folder. */
function folder(): string {
  const code = [import.meta.filename, path.join(import.meta.dirname, "strict.ts")];
  const hash = createHash("sha256");
  for (const file of code) hash.update(readFileSync(file));
  return cacheDir("kubernetes-schemas", `${kubernetesVersion}-${hash.digest("hex").slice(0, 12)}`);
}
