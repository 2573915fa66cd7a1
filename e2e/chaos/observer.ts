/** Follows what the product acknowledges: each status and each delivered core Secret, as a client sees them. */
import { conditionOf, decoded, type KubernetesObject } from "../harness.ts";
import type { ApiClient } from "./api.ts";
import { NAMESPACE } from "./fleet.ts";
import { REQUESTS } from "./requests.ts";

export const SECRETS = `/apis/mazevault.io/v1/namespaces/${NAMESPACE}/secrets`;
export const CORE_SECRETS = `/api/v1/namespaces/${NAMESPACE}/secrets`;

export const isReady = (object: KubernetesObject): boolean => {
  const condition = conditionOf(object, "Ready");
  return (
    condition?.status === "True" &&
    condition.observedGeneration === object.metadata.generation &&
    object.status?.observedGeneration === object.metadata.generation
  );
};

export class Observer {
  /** The highest version that each status acknowledged. */
  readonly versions = new Map<string, number>();
  /** What a client saw that it must never see. */
  readonly faults: string[] = [];
  statuses = 0;
  deliveries = 0;
  readonly #unready = new Set<string>();
  readonly #literals = new Map<string, number>();
  readonly #passwords = new Map<string, string>();
  /** What each request was answered with first. */
  readonly #certificates = new Map<string, unknown>();
  readonly #abort = new AbortController();
  readonly #watching: Promise<unknown>;

  constructor(api: ApiClient) {
    const { signal } = this.#abort;
    this.#watching = Promise.all([
      api.watch(SECRETS, signal, ({ object }) => this.#status(object)),
      api.watch(CORE_SECRETS, signal, ({ object }) => this.#delivery(object)),
      api.watch(REQUESTS, signal, ({ object }) => this.#request(object)),
    ]);
    // `stop` reports it.
    this.#watching.catch(() => {});
  }

  /** How many Secrets were not Ready when seen last. */
  get unready(): number {
    return this.#unready.size;
  }

  async stop(): Promise<void> {
    this.#abort.abort();
    await this.#watching;
  }

  #status(object: KubernetesObject): void {
    const { name } = object.metadata;
    if (isReady(object)) this.#unready.delete(name);
    else this.#unready.add(name);
    const version = object.status?.version;
    if (typeof version !== "number") return;
    this.statuses += 1;
    const before = this.versions.get(name) ?? 0;
    if (version < before) this.faults.push(`status of ${name} went from version ${before} back to ${version}`);
    this.versions.set(name, Math.max(before, version));
  }

  #request({ metadata: { name }, status }: KubernetesObject): void {
    if (status === undefined) return;
    this.statuses += 1;
    const before = this.#certificates.get(name);
    if (before === undefined) this.#certificates.set(name, status.certificate);
    else if (status.certificate !== before) this.faults.push(`request ${name} was answered with another certificate`);
  }

  #delivery(object: KubernetesObject): void {
    const { name, annotations } = object.metadata;
    if (annotations?.["mazevault.io/delivered-from"] !== name) return;
    this.deliveries += 1;
    const { literal = "", generated } = decoded(object);
    const revision = Number(literal.split("-").at(-1));
    const before = this.#literals.get(name) ?? 0;
    if (!(revision >= before)) this.faults.push(`core Secret ${name} went back from revision ${before} to ${literal}`);
    this.#literals.set(name, revision);
    if (generated === undefined) return;
    // Every change of the generator makes the value longer by one, so the length tells which generator made it.
    const made = `${name} with ${generated.length} characters`;
    const known = this.#passwords.get(made);
    if (known !== undefined && known !== generated) this.faults.push(`the generated value of ${made} changed`);
    this.#passwords.set(made, generated);
  }
}
