/**
 * Objects of the cluster by the names that kubectl takes for their kinds, over one kept connection: tests apply hundreds of
 * them and wait by asking again and again, and a kubectl for each would keep the machine busier than the product does.
 */
import { readFileSync } from "node:fs";
import { Agent, request } from "node:https";
import { GROUP, type ObjectMeta } from "../crds/common.ts";
import { SYSTEM_NAMESPACE } from "../crds/installation.ts";
import { errorCode } from "../lab/errors.ts";
import type { Lab } from "../lab/lab.ts";
import { AUTHORS } from "./authors.ts";
import type { KubernetesObject } from "./harness.ts";

const TIMEOUT_MS = 30_000;
/** Everything that is served, in two answers. */
const DISCOVERY = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

interface Discovery {
  readonly items: readonly {
    readonly metadata?: { readonly name?: string };
    readonly versions: readonly { readonly version: string; readonly resources?: readonly Discovered[] }[];
  }[];
}

interface Discovered {
  readonly resource: string;
  readonly singularResource: string;
  readonly shortNames?: readonly string[];
  readonly scope: "Namespaced" | "Cluster";
}

interface Served {
  /** As they may be asked for. */
  readonly names: readonly string[];
  readonly group: string;
  /** Up to the version. */
  readonly root: string;
  readonly plural: string;
  readonly namespaced: boolean;
}

interface Stored extends KubernetesObject {
  readonly metadata: ObjectMeta & { managedFields?: unknown };
}

interface List {
  readonly apiVersion: string;
  readonly kind: string;
  readonly items: readonly Stored[];
}

/** Of what teams write; the rest is the platform's. */
const GROUPS_OF_TEAMS: ReadonlySet<string> = new Set(["", "apps", "batch", GROUP]);

interface Question {
  /** Absent: an administrator of the cluster. */
  readonly as?: "author";
  readonly method: "GET" | "PATCH";
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string;
}

export class Objects {
  readonly #url: string;
  readonly #agents: { readonly admin: Agent; readonly author: Agent };
  #served: readonly Served[] = [];

  private constructor(url: string, agents: { readonly admin: Agent; readonly author: Agent }) {
    this.#url = url;
    this.#agents = agents;
  }

  /** As an administrator of the cluster; what a team writes is applied by one of its authors (`authors.ts`). */
  static async connect({ pki, controlPlane }: Lab): Promise<Objects> {
    const agent = async (commonName: string, organization: string): Promise<Agent> => {
      const organizations = [organization];
      const { certFile, keyFile } = await pki.issue(commonName, { commonName, organizations, usage: "client" });
      const [ca, cert, key] = [pki.caFile, certFile, keyFile].map((file) => readFileSync(file));
      return new Agent({ keepAlive: true, ca, cert, key });
    };
    const agents = { admin: await agent("objects", "system:masters"), author: await agent("author", AUTHORS) };
    return new Objects(controlPlane.url, agents);
  }

  close(): void {
    for (const agent of Object.values(this.#agents)) agent.destroy();
  }

  /** `kind`: `secret`, `secrets.mazevault.io`, `mvs`. @throws when it is not there */
  async get(kind: string, name: string, namespace?: string): Promise<KubernetesObject> {
    const path = `${pathOf(await this.#find(kind), namespace ?? "default")}/${name}`;
    return withoutFieldOwners(await this.#read<Stored>(path));
  }

  /** `kinds`: one, or several with commas between them. Of every namespace when none is named. */
  async list(kinds: string, namespace?: string): Promise<readonly KubernetesObject[]> {
    const lists: KubernetesObject[] = [];
    for (const kind of kinds.split(",")) {
      const list = await this.#read<List>(pathOf(await this.#find(kind), namespace));
      const type = { apiVersion: list.apiVersion, kind: list.kind.replace(/List$/, "") };
      lists.push(...list.items.map((item) => ({ ...type, ...withoutFieldOwners(item) })));
    }
    return lists;
  }

  /** Server-side apply, over whatever others have set. @throws what the API server answers when it refuses */
  async apply(manifest: object): Promise<void> {
    const { apiVersion, kind, metadata } = manifest as KubernetesObject;
    const [group] = apiVersion.includes("/") ? apiVersion.split("/") : [];
    const served = await this.#find(group === undefined ? kind.toLowerCase() : `${kind.toLowerCase()}.${group}`);
    const path = `${pathOf(served, metadata.namespace ?? "default")}/${metadata.name}?fieldManager=e2e&force=true`;
    const headers = { "content-type": "application/apply-patch+yaml" };
    const ofTeam = served.namespaced && GROUPS_OF_TEAMS.has(served.group) && metadata.namespace !== SYSTEM_NAMESPACE;
    const { status = 0, text } = await this.#ask({
      ...(ofTeam && { as: "author" }),
      method: "PATCH",
      path,
      headers,
      body: JSON.stringify(manifest),
    });
    if (status >= 300) throw new Error(`apply ${kind} ${metadata.name}: ${status} ${text}`);
  }

  async #find(kind: string): Promise<Served> {
    const [name = "", ...group] = kind.split(".");
    const isMeant = (served: Served): boolean =>
      served.names.includes(name) && (group.length === 0 || served.group === group.join("."));
    // What has been installed in the meantime is asked for once more.
    const found = this.#served.find(isMeant) ?? (await this.#discover()).find(isMeant);
    if (found === undefined) throw new Error(`the server does not have a resource type ${kind}`);
    return found;
  }

  async #discover(): Promise<readonly Served[]> {
    const served: Served[] = [];
    // The core group comes first: "secret" means what it means to kubectl.
    for (const path of ["/api", "/apis"]) {
      const { items } = await this.#read<Discovery>(path, DISCOVERY);
      for (const { metadata: { name: group = "" } = {}, versions } of items) {
        for (const { version, resources = [] } of versions) {
          served.push(...resources.map((each) => servedAs(each, group, `${path}${group && `/${group}`}/${version}`)));
        }
      }
    }
    this.#served = served;
    return served;
  }

  async #read<T>(path: string, accept = "application/json"): Promise<T> {
    const { status, text } = await this.#ask({ method: "GET", path, headers: { accept } });
    if (status !== 200) throw new Error(`GET ${path}: ${status} ${text}`);
    return JSON.parse(text) as T;
  }

  #ask(question: Question): Promise<{ readonly status: number | undefined; readonly text: string }> {
    const { as = "admin", method, path, headers, body } = question;
    return new Promise((resolve, reject) => {
      const options = { method, headers, agent: this.#agents[as], signal: AbortSignal.timeout(TIMEOUT_MS) };
      const asked = request(this.#url + path, options, async (response) => {
        try {
          let text = "";
          for await (const chunk of response.setEncoding("utf8")) text += chunk;
          resolve({ status: response.statusCode, text });
        } catch (error) {
          reject(error);
        }
      });
      // The server may have closed a kept connection, which is noticed only when it is used; both may be asked twice.
      asked.on("error", (error) =>
        asked.reusedSocket && errorCode(error) === "ECONNRESET" ? resolve(this.#ask(question)) : reject(error),
      );
      asked.end(body);
    });
  }
}

function servedAs(discovered: Discovered, group: string, root: string): Served {
  const { resource: plural, singularResource, shortNames = [], scope } = discovered;
  return { names: [plural, singularResource, ...shortNames], group, root, plural, namespaced: scope === "Namespaced" };
}

/** Of every namespace when none is named. */
function pathOf({ root, plural, namespaced }: Served, namespace: string | undefined): string {
  return `${root}${namespaced && namespace !== undefined ? `/namespaces/${namespace}` : ""}/${plural}`;
}

/** As kubectl shows objects. */
function withoutFieldOwners({ metadata: { managedFields: _, ...metadata }, ...object }: Stored): KubernetesObject {
  return { ...object, metadata };
}
