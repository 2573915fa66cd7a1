/** A client that writes secrets by REST, each value once, and repeats what was not answered under the same Idempotency-Key. */
import { randomUUID } from "node:crypto";
import { pause } from "../../../lab/poll.ts";
import type { RestAnswer, RestClient } from "../../rest-client.ts";

const PAUSE_MS = 250;
const AGAIN_MS = 200;
/** Nothing that is wrong here lasts that long, so it never comes to an end. */
const PATIENCE_MS = 300_000;
const KEY = "value";

/** Answers that a repetition under the same key may turn into another one. */
const AGAIN = new Set([401, 408, 409, 425, 429, 500, 502, 503, 504]);

/** A REST surface, and who asks there. */
export interface Surface {
  readonly rest: RestClient;
  readonly login: () => Promise<string>;
}

export interface WriterParts {
  /** Where it writes. */
  readonly to: Surface;
  /** Where all must have arrived in the end. */
  readonly from: Surface;
  readonly namespace: string;
  /** Of the secrets; a number follows. */
  readonly prefix: string;
  /** So many values each. */
  readonly versions: number;
  /** What a write says beside the value. */
  readonly body: object;
  /** More answers that become others by themselves. */
  readonly comesBack?: readonly number[];
}

/** `SIGKILL` may come between what happened and its answer; this says what happened. */
interface Acknowledged {
  readonly secret: string;
  /** In their order. */
  readonly values: string[];
}

export class Writer {
  readonly #parts: WriterParts;
  readonly #acknowledged: Acknowledged[] = [];
  readonly #tokens = new Map<Surface, string>();
  #made = 0;
  /** Requests that had no answer, or one that said to come again. */
  repetitions = 0;

  constructor(parts: WriterParts) {
    this.#parts = parts;
  }

  get count(): number {
    return this.#acknowledged.reduce((sum, { values }) => sum + values.length, 0);
  }

  /** One after the other until aborted. @throws what was answered to a write that can never succeed */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const last = this.#acknowledged.at(-1);
      if (last === undefined || last.values.length === this.#parts.versions) {
        this.#acknowledged.push({ secret: `${this.#parts.prefix}-${this.#acknowledged.length + 1}`, values: [] });
      }
      await this.#write();
      await pause(PAUSE_MS, signal);
    }
  }

  /** What is not there as it was acknowledged, one line each. */
  async faults(versionsOf: (secret: string) => Promise<number>): Promise<string[]> {
    const faults: string[] = [];
    for (const { secret, values } of this.#acknowledged) {
      const versions = await versionsOf(secret);
      if (versions !== values.length) faults.push(`${secret}: ${versions} versions of ${values.length} writes`);
      let answer = await this.#send(this.#parts.from, "GET", secret);
      // After ten minutes its session is over.
      if (answer.status === 401) answer = await this.#send(this.#parts.from, "GET", secret);
      const { status, body } = answer;
      const value = body?.values?.[KEY] as string | undefined;
      if (status !== 200 || value !== values.at(-1)) faults.push(`${secret}: ${status} ${value}, not ${values.at(-1)}`);
    }
    return faults;
  }

  /** Goes on until it is acknowledged, also when everything else has ended. */
  async #write(): Promise<void> {
    const written = this.#acknowledged.at(-1);
    if (written === undefined) return;
    this.#made += 1;
    const value = `${this.#parts.prefix}-value-${this.#made}`;
    let key = randomUUID();
    const { to } = this.#parts;
    const begun = performance.now();
    for (;;) {
      const answer = await this.#send(to, "PUT", written.secret, value, key).catch(() => undefined);
      // Whoever is told to look at what is there looks: a Secret may have been made, and died over before its value.
      const holds = answer?.body?.code === "OutcomeUnknown" ? await this.#holds(written.secret, value) : undefined;
      // What a gateway keeps for its primary is acknowledged as well.
      if (answer?.status === 200 || answer?.status === 202 || holds === true) {
        written.values.push(value);
        return;
      }
      if (holds === false) key = randomUUID();
      const again = answer === undefined || AGAIN.has(answer.status) || this.#parts.comesBack?.includes(answer.status);
      if (!again || performance.now() - begun > PATIENCE_MS)
        throw new Error(`${written.secret} cannot be written: ${answer?.status} ${answer?.text}`);
      this.repetitions += 1;
      await pause(AGAIN_MS);
    }
  }

  /** Undefined while nobody can tell. */
  async #holds(secret: string, value: string): Promise<boolean | undefined> {
    const answer = await this.#send(this.#parts.from, "GET", secret).catch(() => undefined);
    if (answer?.status === 200) return answer.body?.values?.[KEY] === value;
    return answer?.status === 404 ? false : undefined;
  }

  async #send(at: Surface, method: "GET" | "PUT", secret: string, value?: string, key?: string): Promise<RestAnswer> {
    const { namespace, body } = this.#parts;
    const token = this.#tokens.get(at) ?? (await at.login());
    this.#tokens.set(at, token);
    const answer = await at.rest.send(method, `/api/v1/namespaces/${namespace}/secrets/${secret}/values`, {
      token,
      ...(value !== undefined && { body: { ...body, values: { [KEY]: value } } }),
      ...(key !== undefined && { headers: { "idempotency-key": `"${key}"` } }),
    });
    if (answer.status === 401) this.#tokens.delete(at);
    return answer;
  }
}
