/**
 * Values in a Key Vault (storage Orchestrator): one entry for each key of a secret, owned by tags, never anybody else's.
 * Key Vault keeps every version under an id of its own, so a version of the secret is the ids that it names, whatever the
 * vault shows as current; PostgreSQL points at all of them at once.
 *
 * Order of effects: the write on record, look, set, commit of the version with the ids. What dies in between leaves the
 * vault ahead of the platform: `KeptSettlement` brings it back, unless the next attempt comes first.
 */
import { randomUUID } from "node:crypto";
import { Stalled, Unavailable, Waiting } from "../errors.ts";
import { failpoint } from "../failpoints.ts";
import type { Actor, AuditEntry, AuditLog } from "../ports/audit-log.ts";
import { EntryTaken, type EntryWrite, type KeptEntries } from "../ports/kept-entries.ts";
import type { TargetVault } from "../ports/target-vault.ts";
import type { SecretIdentity, Unled, Writer } from "../ports/vault-store.ts";
import type { Sensitive } from "../sensitive.ts";
import { foldName, label } from "../sync/entries.ts";
import { nameFailure, namer } from "../sync/names.ts";
import { mayBeOurs, ownerOf } from "../sync/ownership.ts";
import { changedThere, type EntryContext, KeptEntryWrite, recovering } from "./kept-entry-write.ts";
import type { MadeEntry } from "./material.ts";
import { type Place, placeOf, sealedPlace, unpacked, vaultText } from "./place.ts";
import type { NextValues, SealedValues, StoredValues, ValueStorage } from "./storage.ts";

export interface KeyVaultStorageParts {
  readonly vault: TargetVault;
  readonly entries: KeptEntries;
  readonly audit: Pick<AuditLog, "append">;
  /** Id of the installation; part of the tags by which entries are known as ours. */
  readonly installation: string;
  /** Throws `Fenced` when this process may no longer write as the leader. Asked before each request that changes the vault. */
  readonly assertLeading?: () => void;
}

/** A write that takes longer begins nothing more, and when nobody else may begin one has passed long after. */
const WRITE_MS = 40_000;
export const LEASE_MS = 75_000;
const READ_MS = 40_000;

const nameOf = namer({});

export class KeyVaultStorage implements ValueStorage {
  readonly #parts: KeyVaultStorageParts;
  readonly vaultUrl: string;

  constructor(parts: KeyVaultStorageParts) {
    this.#parts = parts;
    this.vaultUrl = parts.vault.url;
  }

  async store(writer: Writer | Unled, next: NextValues): Promise<StoredValues> {
    const { identity, versions } = next;
    const named = namesOf(identity, versions);
    for (const entry of versions.flat()) assertFits(entry);
    const id = named.size === 0 ? undefined : randomUUID();
    if (id === undefined)
      return { ...unwritten(versions), write: { id, vaultUrl: this.vaultUrl, versions: new Map() } };
    const places = await placesOf(next);
    const { entries } = this.#parts;
    const owner = ownerOf(identity);
    const names = [...named].map(([key, entryName]) => ({ key, entryName }));
    await this.#begin(writer, {
      id,
      secretId: next.id,
      identity,
      owner,
      vaultUrl: this.vaultUrl,
      entries: names,
      leaseMs: LEASE_MS,
    });
    failpoint("storage.afterBegin");
    const write = new KeptEntryWrite(this.#context(next.actor, writer, AbortSignal.timeout(WRITE_MS)), {
      id,
      secretId: next.id,
      secret: `${identity.namespace}/${identity.name}`,
      owner,
    });
    // What it was about is thrown anyway, and without PostgreSQL it is free again after its time.
    const release = async (): Promise<void> => {
      if (!write.underWay) await entries.release(id, write.touched).catch(() => undefined);
    };
    try {
      const stored = await this.#writeAll(write, named, places, next);
      return {
        ...stored,
        write: { id, vaultUrl: this.vaultUrl, versions: stored.current },
        audit: write.audit,
        release,
      };
    } catch (error) {
      await release();
      throw error;
    }
  }

  async #writeAll(
    write: KeptEntryWrite,
    named: ReadonlyMap<string, string>,
    known: ReadonlyMap<string, Known>,
    { versions }: NextValues,
  ): Promise<{ readonly versions: NextValues["versions"]; readonly current: ReadonlyMap<string, string> }> {
    const stored: (readonly MadeEntry[])[] = [];
    let before = known;
    for (const version of versions) {
      const places = new Map<string, Known>();
      for (const { key, fingerprint, value } of version) {
        const entryName = named.get(key) ?? "";
        const last = before.get(key) ?? known.get(key);
        // The vault shows as current what the platform has as current, so an older value is set again.
        const same = before.get(key)?.fingerprint === fingerprint ? before.get(key)?.place : undefined;
        const place = same ?? (await write.set({ key, entryName, value }, last?.place));
        places.set(key, { fingerprint, place });
      }
      stored.push(version.map((entry) => ({ ...entry, value: sealedPlace(placeIn(places, entry.key)) })));
      before = places;
    }
    return { versions: stored, current: new Map([...before].map(([key, { place }]) => [key, place.version])) };
  }

  async read({ record, digester, entries, sealed, actor }: SealedValues): Promise<ReadonlyMap<string, Sensitive>> {
    const signal = AbortSignal.timeout(READ_MS);
    const fingerprints = new Map(entries.map(({ key, fingerprint }) => [key, fingerprint]));
    const { identity, id: secretId } = record;
    const context = this.#context(actor ?? { kind: "Controller", name: "vault" }, { epoch: undefined }, signal);
    const source = { secretId, owner: ownerOf(identity), secret: `${identity.namespace}/${identity.name}` };
    const one = async ([key, place]: [string, Place]): Promise<[string, Sensitive]> => {
      const value = await this.#readOne(context, { ...source, key }, place);
      if (digester.fingerprint(key, value) === fingerprints.get(key)) return [key, value];
      value.dispose();
      throw new Unavailable(
        "TamperDetected",
        `entry ${key} of secret ${source.secret}: what Key Vault has as version ${place.version} of ${place.entryName} is not what was stored; see the runbook`,
      );
    };
    const places = [...sealed].map(([key, value]): [string, Place] => [key, placeOf(key, value)]);
    const settled = await Promise.allSettled(places.map(one));
    const failed = settled.find((each) => each.status === "rejected");
    if (failed === undefined)
      return new Map(settled.flatMap((each) => (each.status === "fulfilled" ? [each.value] : [])));
    for (const each of settled) if (each.status === "fulfilled") each.value[1].dispose();
    throw failed.reason;
  }

  async #readOne(context: EntryContext, source: Source, { entryName, version, form }: Place): Promise<Sensitive> {
    const state = await context.vault.get(entryName, context.signal, version);
    if (state.kind === "Present") return unpacked(state.entry.value, form);
    const what = `entry ${source.key} of secret ${source.secret}: version ${version} of ${entryName} in Key Vault ${context.vault.url}`;
    if (state.kind === "Disabled") {
      throw changedThere("TargetDisabled", `${what} was disabled by somebody; enable it`);
    }
    const deleted = await context.vault.getDeleted(entryName, context.signal);
    if (deleted !== undefined && mayBeOurs(deleted.tags, context.installation, source)) {
      throw await recovering(context, source, entryName);
    }
    // Also while the vault is deleting or recovering it, which ends by itself.
    throw new Waiting(
      "StoredValueMissing",
      `${what} is not there: somebody deleted or purged it; recover it or restore it from a backup of the vault, or purge the Secret (deletionPolicy: Purge) and apply it anew`,
      MISSING_MS,
    );
  }

  async #begin(writer: Writer | Unled, write: EntryWrite): Promise<void> {
    try {
      await this.#parts.entries.begin(writer, write);
    } catch (error) {
      if (!(error instanceof EntryTaken)) throw error;
      const { entryName, holder } = error;
      throw new Stalled(
        "TargetNameCollision",
        `the entry ${entryName} of Key Vault ${this.vaultUrl} has the value of another secret or key (id ${holder.secretId}, key ${holder.key}) until that is purged; give this Secret or its key another name`,
      );
    }
  }

  #context(actor: Actor, { epoch }: Writer | Unled, signal: AbortSignal): EntryContext {
    const { vault, audit, installation, assertLeading } = this.#parts;
    const assertMay = epoch === undefined ? () => {} : (assertLeading ?? (() => {}));
    return { vault, audit, installation, actor, assertLeading: assertMay, signal };
  }
}

const MISSING_MS = 5_000;

interface Source {
  readonly secretId: string;
  readonly owner: string;
  /** Namespace and name, for messages. */
  readonly secret: string;
  readonly key: string;
}

/** A value of the version before. */
interface Known {
  readonly fingerprint: string;
  readonly place: Place;
}

const unwritten = (versions: NextValues["versions"]): Omit<StoredValues, "write"> => ({
  versions,
  audit: [] as readonly AuditEntry[],
  release: async () => {},
});

async function placesOf({ seen, sealed }: NextValues): Promise<ReadonlyMap<string, Known>> {
  const values = await sealed();
  return new Map(
    (seen?.entries ?? []).flatMap(({ key, fingerprint }): [string, Known][] => {
      const value = values.get(key);
      return value === undefined ? [] : [[key, { fingerprint, place: placeOf(key, value) }]];
    }),
  );
}

function placeIn(places: ReadonlyMap<string, Known>, key: string): Place {
  const known = places.get(key);
  if (known === undefined) throw new Error(`entry ${key} was not written`);
  return known.place;
}

function assertFits({ key, value }: MadeEntry): void {
  const { text } = vaultText(key, value);
  if (text !== value) text.dispose();
}

/**
 * The name of each key's entry.
 *
 * @throws Stalled TargetNameInvalid, TargetNameCollision
 */
export function namesOf(
  { name: secretName }: SecretIdentity,
  versions: readonly (readonly Pick<MadeEntry, "key">[])[],
): ReadonlyMap<string, string> {
  const names = new Map<string, string>();
  const keys = new Map<string, string>();
  for (const { key } of versions.flat()) {
    if (names.has(key)) continue;
    const entryName = nameOf({ secretName, key });
    const place = { secretName, key, entryName };
    if (nameFailure(place) !== undefined) {
      throw new Stalled(
        "TargetNameInvalid",
        `the entry for ${label(place)} in the project's Key Vault would be named "${entryName.slice(0, 130)}", and Key Vault takes 1 to 127 letters, digits and dashes; give the Secret or the key another name`,
      );
    }
    const other = keys.get(foldName(entryName));
    if (other !== undefined) {
      throw new Stalled(
        "TargetNameCollision",
        `keys ${other} and ${key} would both be the entry ${entryName} in the project's Key Vault, which ignores case and has dashes for dots and underscores; give one of them another name`,
      );
    }
    keys.set(foldName(entryName), key);
    names.set(key, entryName);
  }
  return names;
}
