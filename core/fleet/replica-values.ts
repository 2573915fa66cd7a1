/** Values for replicas: each is judged anew, and on record before it leaves. Those of protection EndToEnd pass as they were sealed. */
import type { Actor } from "../ports/audit-log.ts";
import type { SecretIdentity, SecretRecord } from "../ports/vault-store.ts";
import type { Sensitive } from "../sensitive.ts";
import type { Vault } from "../vault/vault.ts";
import { gatewayActor } from "./audit-entries.ts";
import type { Member } from "./member.ts";
import type { ReplicaCertificates } from "./replica-certificates.ts";
import type { ReplicaFeed } from "./replica-feed.ts";
import { isCertificateKey, replicatedSecret } from "./replica-item.ts";
import type { ReplicaValuesRequest, ValuesOfItem } from "./replica-protocol.ts";
import { headOf, type SelectionView, secretItem, selected } from "./replica-selection.ts";

export interface ReplicaValuesParts {
  readonly view: SelectionView;
  readonly feed: Pick<ReplicaFeed, "item">;
  readonly vault: Pick<Vault, "describeAllToOpen" | "openAll">;
  readonly certificates: Pick<ReplicaCertificates, "handOut">;
  /** A value that cannot be opened. */
  readonly onProblem: (secret: SecretIdentity, error: Error) => void;
}

/** Of ciphertexts, in one answer: its text is larger by a third. */
const MOST_BYTES = 8 * 1024 * 1024;

/** What was asked for, as far as it is this gateway's. */
interface Wanted {
  readonly id: string;
  readonly identity: SecretIdentity;
  readonly secret: Parameters<typeof secretItem>[0];
  readonly digest: string;
}

type Refusal = Exclude<ValuesOfItem["kind"], "Values">;

export class ReplicaValues {
  readonly #parts: ReplicaValuesParts;

  constructor(parts: ReplicaValuesParts) {
    this.#parts = parts;
  }

  /** @throws Unavailable when the store does not answer, or the reads could not be put on record */
  async handOut(member: Member, address: string, { items }: ReplicaValuesRequest): Promise<readonly ValuesOfItem[]> {
    const actor = gatewayActor(member.name, member.serialNumber, address);
    const secrets = items.filter(({ key }) => !isCertificateKey(key));
    const ofSecrets = (await this.#secrets(member, actor, secrets)).values();
    const told: ValuesOfItem[] = [];
    for (const item of items) {
      if (isCertificateKey(item.key))
        told.push(await this.#parts.certificates.handOut(member.environment, item, actor));
      else told.push(ofSecrets.next().value ?? { kind: "Gone" });
    }
    return told;
  }

  async #secrets(member: Member, actor: Actor, items: ReplicaValuesRequest["items"]): Promise<readonly ValuesOfItem[]> {
    const wanted = items.map(({ key, digest }) => this.#wanted(member.environment, key, digest));
    const ids = wanted.flatMap((each) => (typeof each === "string" ? [] : each.id));
    const { vault } = this.#parts;
    const described = ids.length === 0 ? new Map<string, SecretRecord | Error>() : await vault.describeAllToOpen(ids);
    let bytes = 0;
    const judged = wanted.map((each) => {
      if (typeof each === "string") return each;
      const record = this.#judged(member.environment, each, described.get(each.id));
      if (typeof record === "string") return record;
      const size = sizeOf(record);
      if (bytes > 0 && bytes + size > MOST_BYTES) return "Later";
      bytes += size;
      return record;
    });
    const records = judged.flatMap((each) => (typeof each === "string" ? [] : each));
    const opened = await vault.openAll(records, { actor, purpose: "Replica" });
    return judged.map((each): ValuesOfItem => {
      if (typeof each === "string") return { kind: each };
      const told = opened.get(each.id);
      if (told === undefined || told instanceof Error) return { kind: this.#failed(each.identity, told) };
      return { kind: "Values", values: encoded(told.values) };
    });
  }

  #wanted(environment: string, key: string, digest: string): Wanted | Refusal {
    const { feed, view } = this.#parts;
    const item = feed.item(environment, key);
    const body = item && replicatedSecret.safeParse(JSON.parse(item.body)).data;
    if (item === undefined || body === undefined) return "Gone";
    if (item.digest.toString("hex") !== digest) return "Moved";
    const secret = view.secret(body.namespace, body.name);
    const may = secret && selected(view, secret);
    if (secret === undefined || may?.gatewayEnvironment !== environment) return "Gone";
    return { id: body.id, identity: may.identity, secret, digest };
  }

  #judged(environment: string, wanted: Wanted, record: SecretRecord | Error | undefined): SecretRecord | Refusal {
    if (record === undefined) return "Gone";
    if (record instanceof Error) return this.#failed(wanted.identity, record);
    if (record.state !== "Active" || !sameIdentity(record.identity, wanted.identity)) return "Gone";
    if (secretItem(wanted.secret, headOf(record)).digest.toString("hex") !== wanted.digest) return "Moved";
    // Once more by what the record itself says, whose MAC was verified.
    const named = this.#parts.view.project(record.identity.project)?.spec.environments;
    const of = named?.find(({ name }) => name === record.identity.environment);
    return of?.gatewayEnvironment === environment ? record : "Gone";
  }

  #failed(secret: SecretIdentity, error: Error | undefined): "Unavailable" {
    if (error !== undefined) this.#parts.onProblem(secret, error);
    return "Unavailable";
  }
}

function encoded(values: ReadonlyMap<string, Sensitive>): Record<string, string> {
  try {
    return Object.fromEntries([...values].map(([key, value]) => [key, value.reveal().toString("base64")]));
  } finally {
    for (const value of values.values()) value.dispose();
  }
}

const sizeOf = ({ sealed }: SecretRecord): number =>
  (sealed?.entries ?? []).reduce((sum, { ciphertext }) => sum + ciphertext.length, 0);

const sameIdentity = (one: SecretIdentity, other: SecretIdentity): boolean =>
  one.project === other.project &&
  one.environment === other.environment &&
  one.namespace === other.namespace &&
  one.namespaceUid === other.namespaceUid &&
  one.name === other.name;
