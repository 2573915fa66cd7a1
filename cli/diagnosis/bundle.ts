/** What goes into a support bundle: each part from where it can be had, and why where it cannot. */
import { redactResource } from "../../core/diagnosis/redaction.ts";
import { GROUP } from "../../crds/common.ts";
import { VERSION } from "../../program/version.ts";
import type { Context } from "../context.ts";
import { CommandError } from "../errors.ts";
import { resources } from "./cluster.ts";
import { examined } from "./examined.ts";
import { type KubeconfigOptions, type Kubectl, KubectlFailed, kubectlOf } from "./kubectl.ts";

export interface Part {
  readonly name: string;
  readonly content: string;
}

export interface Source {
  readonly title: string;
  /** Throws `CommandError` or `KubectlFailed` when it cannot be had. */
  readonly collect: () => Promise<readonly Part[]>;
}

const LOG_LINES = 5_000;

export function sources(context: Context, options: KubeconfigOptions): readonly Source[] {
  const { client, settings } = context;
  const kubectl = kubectlOf(options);
  const server: readonly Source[] = [
    { title: "health", collect: async () => [json("server/health.json", await health(context))] },
    { title: "facts of the server", collect: async () => serverFacts(await client.get("/api/v1/support")) },
  ];
  return [
    { title: "versions", collect: async () => [json("versions.json", versions())] },
    { title: "findings of doctor", collect: async () => [json("doctor.json", await examined(context, options))] },
    ...(settings.hasServer ? server : []),
    { title: "resources", collect: async () => [await allResources(context, kubectl)] },
    ...(kubectl === undefined ? [] : clusterSources(kubectl)),
  ];
}

/** From REST, which leaves out itself what may be secret; else from the cluster, and it is left out here. */
async function allResources({ client }: Context, kubectl: Kubectl | undefined): Promise<Part> {
  const name = "resources.ndjson";
  try {
    return { name, content: (await client.send("GET", "/api/v1/support/resources")).text };
  } catch (error) {
    if (kubectl === undefined) throw error;
    const all = await resources(kubectl);
    return { name, content: all.map((each) => `${JSON.stringify(redactResource(each))}\n`).join("") };
  }
}

const json = (name: string, data: unknown): Part => ({ name, content: `${JSON.stringify(data, null, 2)}\n` });

const versions = () => ({
  mazevault: VERSION,
  node: process.version,
  platform: `${process.platform} ${process.arch}`,
  at: new Date().toISOString(),
});

async function health({ client }: Context): Promise<unknown> {
  return JSON.parse((await client.send("GET", "/api/v1/health", { anonymous: true, accepts: [503] })).text) as unknown;
}

interface Facts {
  readonly configuration: unknown;
  readonly metrics: string;
  readonly database?: unknown;
}

const serverFacts = ({ configuration, metrics, database, ...about }: Facts): readonly Part[] => [
  json("server/about.json", about),
  json("server/configuration.json", configuration),
  ...(database === undefined ? [] : [json("server/database.json", database)]),
  { name: "server/metrics.txt", content: metrics },
];

interface Event {
  readonly metadata: { readonly namespace: string };
  readonly regarding?: { readonly apiVersion?: string; readonly kind?: string; readonly name?: string };
  readonly type?: string;
  readonly reason?: string;
  readonly note?: string;
  readonly eventTime?: string | null;
  readonly series?: { readonly count: number; readonly lastObservedTime: string };
}

function clusterSources(kubectl: Kubectl): readonly Source[] {
  const version = async () => json("cluster/version.json", await kubectl.json(["get", "--raw", "/version"]));
  const leases = async () =>
    json("cluster/leases.json", await kubectl.list(["-n", kubectl.namespace, "get", "leases"]));
  return [
    { title: "version of the cluster", collect: async () => [await version()] },
    { title: "leases", collect: async () => [await leases()] },
    { title: "Events", collect: async () => [json("cluster/events.json", await events(kubectl))] },
    { title: "logs", collect: () => logs(kubectl) },
  ];
}

/** About our own objects; the messages are ours too. */
async function events(kubectl: Kubectl): Promise<unknown> {
  const all = await kubectl.list<Event>(["get", "events.v1.events.k8s.io", "-A"]);
  return all
    .filter(({ regarding }) => regarding?.apiVersion?.startsWith(`${GROUP}/`))
    .map(({ metadata: { namespace }, regarding, type, reason, note, eventTime, series }) => ({
      object: `${regarding?.kind} ${namespace}/${regarding?.name}`,
      type,
      reason,
      note,
      at: eventTime,
      series,
    }));
}

async function logs(kubectl: Kubectl): Promise<readonly Part[]> {
  const pods = await kubectl.list<{ metadata: { name: string } }>(["-n", kubectl.namespace, "get", "pods"]);
  const parts: Part[] = [];
  for (const { metadata } of pods) {
    const args = ["-n", kubectl.namespace, "logs", metadata.name, "--all-containers", `--tail=${LOG_LINES}`];
    const content = await kubectl.text(args).catch((error: unknown) => `${why(error)}\n`);
    parts.push({ name: `logs/${metadata.name}.log`, content });
  }
  return parts;
}

/** Of what could not be had. */
export function why(error: unknown): string {
  if (error instanceof CommandError || error instanceof KubectlFailed) return error.message;
  throw error;
}
