/** The API server over one keep-alive connection: thousands of small questions, no client library in between. */
import { readFile } from "node:fs/promises";
import { Agent, request } from "node:https";
import type { Lab } from "../../lab/lab.ts";
import { GROUP, VERSION } from "../common.ts";
import { kinds } from "../index.ts";
import type { Manifest } from "./valid.ts";

export interface Answer {
  readonly status: number;
  readonly message: string;
  /** What is wrong, by field; a key of a map stands as a field of its own. */
  readonly causes: readonly Cause[];
  readonly body: unknown;
}

interface Cause {
  readonly field: string;
  readonly message: string;
}

interface StatusBody {
  readonly message?: string;
  readonly details?: { readonly causes?: readonly Partial<Cause>[] };
}

export interface Call {
  readonly body?: object;
  readonly contentType?: string;
  /** Acts as this ServiceAccount instead of as admin. */
  readonly as?: { readonly namespace: string; readonly name: string };
}

export interface Api {
  call(method: string, path: string, call?: Call): Promise<Answer>;
  /** Asks whether the manifest would be created; nothing is stored. */
  tryCreate(manifest: Manifest): Promise<Answer>;
  close(): void;
}

export async function connect(lab: Lab): Promise<Api> {
  const admin = await lab.pki.issue("admission", {
    commonName: "admission",
    organizations: ["system:masters"],
    usage: "client",
  });
  const agent = new Agent({
    keepAlive: true,
    maxSockets: 1,
    ca: await readFile(lab.pki.caFile),
    cert: await readFile(admin.certFile),
    key: await readFile(admin.keyFile),
  });
  const call: Api["call"] = (method, path, { body, contentType = "application/json", as } = {}) =>
    new Promise((resolve, reject) => {
      const headers = { "content-type": contentType, ...(as === undefined ? {} : impersonation(as)) };
      const outgoing = request(`${lab.controlPlane.url}${path}`, { method, agent, headers }, (response) => {
        const chunks: Buffer[] = [];
        response.on("error", reject);
        response.on("data", (chunk: Buffer) => chunks.push(chunk));
        response.on("end", () => resolve(answer(response.statusCode ?? 0, Buffer.concat(chunks).toString("utf8"))));
      });
      outgoing.on("error", reject);
      outgoing.end(body === undefined ? undefined : JSON.stringify(body));
    });
  return {
    call,
    tryCreate: (manifest) =>
      call("POST", `${collection(manifest)}?dryRun=All&fieldValidation=Strict`, { body: manifest }),
    close: () => agent.destroy(),
  };
}

function impersonation({ namespace, name }: { namespace: string; name: string }): Record<string, string | string[]> {
  return {
    "impersonate-user": `system:serviceaccount:${namespace}:${name}`,
    "impersonate-group": ["system:serviceaccounts", `system:serviceaccounts:${namespace}`, "system:authenticated"],
  };
}

function answer(status: number, text: string): Answer {
  const body: StatusBody = JSON.parse(text);
  const causes = body.details?.causes ?? [];
  return {
    status,
    body,
    message: body.message ?? "",
    causes: causes.map(({ field = "", message = "" }) => ({
      field: field.replaceAll(/\[(\D[^\]]*)\]/g, ".$1"),
      message,
    })),
  };
}

/** Path of the collection that the manifest belongs to. */
export function collection({ kind, metadata }: Manifest): string {
  const plural = kinds.find((definition) => definition.kind === kind)?.plural;
  const namespace = metadata.namespace === undefined ? "" : `/namespaces/${metadata.namespace}`;
  return `/apis/${GROUP}/${VERSION}${namespace}/${plural}`;
}

/** undefined if the API server refused, named the field and said why; otherwise what it answered. */
export function notRefused(got: Answer, field: string, says: RegExp): string | undefined {
  const named = got.causes.some((cause) => cause.field === field && says.test(cause.message));
  // Strict decoding ends before validation and answers in one sentence.
  const inSentence = got.causes.length === 0 && got.message.includes(`"${field}"`) && says.test(got.message);
  if (got.status >= 400 && got.status < 500 && (named || inSentence)) return undefined;
  return `expected ${says} at ${field}, got ${got.status} ${got.message}`;
}
