/**
 * A Key Vault in memory, for tests of what stands above the port. It keeps every version, so that a test can count
 * them, and it fails as it is told: `disturb` is asked before each call.
 */
import { Sensitive } from "../sensitive.ts";
import {
  Ambiguous,
  type DeleteResult,
  type EntryState,
  type PurgeResult,
  type SetRequest,
  type SetResult,
  type TargetVault,
  type VaultEntryProperties,
  type VaultVersion,
} from "./target-vault.ts";

export interface FakeVersion {
  readonly id: string;
  readonly value: string;
  readonly tags: Readonly<Record<string, string>>;
  readonly contentType?: string;
  readonly enabled: boolean;
  readonly createdOn: Date;
  readonly updatedOn: Date;
}

export type FakeOperation = "list" | "get" | "listVersions" | "set" | "getDeleted" | "recover" | "delete" | "purge";

/** `lost`: not carried out, and nobody knows. `carriedOut`: carried out, and nobody knows. An error is thrown as it is. */
export type Disturbance = "lost" | "carriedOut" | Error | undefined;

interface FakeEntry {
  readonly name: string;
  phase: "Active" | "Deleted" | "InTransition";
  /** Oldest first. */
  readonly versions: FakeVersion[];
}

const PAGE = 25;

export class FakeTargetVault implements TargetVault {
  readonly url: string;
  readonly #entries = new Map<string, FakeEntry>();
  #made = 0;
  calls = 0;
  disturb: (operation: FakeOperation, name: string) => Disturbance = () => undefined;
  now: () => number = Date.now;
  /** False: something on the way leaves out what its clock says. */
  tellsTime = true;
  purgeProtection = false;

  constructor(url = "https://fake.vault.azure.net/") {
    this.url = url;
  }

  // What a person or another program does.

  /** Makes a version with exactly these tags. */
  put(name: string, value: string, tags: Readonly<Record<string, string>> = {}, contentType?: string): FakeVersion {
    const entry = this.#entries.get(name.toLowerCase()) ?? { name, phase: "Active", versions: [] };
    this.#entries.set(name.toLowerCase(), entry);
    this.#made += 1;
    const version: FakeVersion = {
      id: this.#made.toString(16).padStart(32, "0"),
      value,
      tags: { ...tags },
      enabled: true,
      createdOn: this.#second(),
      updatedOn: this.#second(),
      ...(contentType !== undefined && { contentType }),
    };
    entry.versions.push(version);
    return version;
  }

  /** Changes the current version. */
  edit(name: string, change: Partial<Pick<FakeVersion, "enabled" | "tags" | "contentType">>): void {
    const { versions } = this.#known(name);
    const current = versions.pop();
    if (current !== undefined) versions.push({ ...current, ...change, updatedOn: this.#second() });
  }

  remove(name: string): void {
    this.#known(name).phase = "Deleted";
  }

  /** Leaves it in the middle of being deleted or recovered. */
  suspend(name: string): void {
    this.#known(name).phase = "InTransition";
  }

  resume(name: string): void {
    this.#known(name).phase = "Active";
  }

  erase(name: string): void {
    this.#entries.delete(name.toLowerCase());
  }

  /** It is another vault of that name from now on. */
  replace(): void {
    this.#entries.clear();
  }

  /** All versions, oldest first, whatever phase the entry is in. */
  versions(name: string): readonly FakeVersion[] {
    return this.#entries.get(name.toLowerCase())?.versions ?? [];
  }

  isDeleted(name: string): boolean {
    return this.#entries.get(name.toLowerCase())?.phase === "Deleted";
  }

  // The port.

  async *list(signal: AbortSignal): AsyncIterable<readonly VaultEntryProperties[]> {
    const all = [...this.#entries.values()].filter((entry) => entry.phase === "Active").map(currentProperties);
    for (let at = 0; at === 0 || at < all.length; at += PAGE) {
      await this.#arrive("list", "", signal);
      yield all.slice(at, at + PAGE);
    }
  }

  async get(name: string, signal: AbortSignal, version?: string): Promise<EntryState> {
    await this.#arrive("get", name, signal);
    const entry = this.#entries.get(name.toLowerCase());
    if (entry === undefined || entry.phase !== "Active") return { kind: "Absent", ...this.#asOf() };
    const found = version === undefined ? entry.versions.at(-1) : entry.versions.find((each) => each.id === version);
    if (found === undefined) return { kind: "Absent", ...this.#asOf() };
    if (!found.enabled) return { kind: "Disabled" };
    const value = new Sensitive(Buffer.from(found.value));
    const { id, createdOn } = found;
    return {
      kind: "Present",
      entry: { ...propertiesOf(entry.name, found), version: id, value, createdOn, ...this.#asOf() },
    };
  }

  async listVersions(name: string, signal: AbortSignal): Promise<readonly VaultVersion[]> {
    await this.#arrive("listVersions", name, signal);
    const entry = this.#entries.get(name.toLowerCase());
    if (entry === undefined || entry.phase !== "Active") return [];
    return entry.versions.map(({ id, createdOn, enabled, tags }) => ({ version: id, createdOn, enabled, tags }));
  }

  async set({ name, value, tags, contentType }: SetRequest, signal: AbortSignal): Promise<SetResult> {
    const text = value.reveal().toString("utf8");
    const fate = await this.#arrive("set", name, signal);
    if (fate === "lost") throw new Ambiguous("set", "lost");
    const phase = this.#entries.get(name.toLowerCase())?.phase;
    if (phase === "Deleted") return { kind: "SoftDeleted" };
    if (phase === "InTransition") return { kind: "InTransition" };
    const { id, updatedOn } = this.put(name, text, tags, contentType);
    if (fate === "carriedOut") throw new Ambiguous("set", "carried out");
    return { kind: "Written", version: id, updatedOn };
  }

  async getDeleted(name: string, signal: AbortSignal): Promise<VaultEntryProperties | undefined> {
    await this.#arrive("getDeleted", name, signal);
    const entry = this.#entries.get(name.toLowerCase());
    return entry?.phase === "Deleted" ? currentProperties(entry) : undefined;
  }

  async delete(name: string, signal: AbortSignal): Promise<DeleteResult> {
    await this.#arrive("delete", name, signal);
    const entry = this.#entries.get(name.toLowerCase());
    if (entry === undefined || entry.phase === "Deleted") return { kind: "Absent" };
    if (entry.phase === "InTransition") return { kind: "InTransition" };
    entry.phase = "Deleted";
    return { kind: "Deleted" };
  }

  async recover(name: string, signal: AbortSignal): Promise<void> {
    await this.#arrive("recover", name, signal);
    const entry = this.#entries.get(name.toLowerCase());
    if (entry?.phase === "Deleted") entry.phase = "Active";
  }

  async purge(name: string, signal: AbortSignal): Promise<PurgeResult> {
    await this.#arrive("purge", name, signal);
    if (this.purgeProtection) return "Refused";
    if (this.#entries.get(name.toLowerCase())?.phase === "InTransition") return "InTransition";
    if (this.isDeleted(name)) this.#entries.delete(name.toLowerCase());
    return "Purged";
  }

  async #arrive(operation: FakeOperation, name: string, signal: AbortSignal): Promise<Disturbance> {
    signal.throwIfAborted();
    this.calls += 1;
    // A real call takes a turn of the event loop; without it calls of several callers would never interleave.
    await new Promise(setImmediate);
    const fate = this.disturb(operation, name);
    if (fate instanceof Error) throw fate;
    return fate;
  }

  #known(name: string): FakeEntry {
    const entry = this.#entries.get(name.toLowerCase());
    if (entry === undefined) throw new Error(`no entry ${name}`);
    return entry;
  }

  #asOf(): { readonly asOf?: Date } {
    return this.tellsTime ? { asOf: this.#second() } : {};
  }

  #second(): Date {
    return new Date(Math.floor(this.now() / 1000) * 1000);
  }
}

function propertiesOf(name: string, version: FakeVersion): VaultEntryProperties {
  const { enabled, updatedOn, tags, contentType } = version;
  return { name, enabled, updatedOn, tags, ...(contentType !== undefined && { contentType }) };
}

function currentProperties(entry: FakeEntry): VaultEntryProperties {
  const current = entry.versions.at(-1);
  if (current === undefined) throw new Error(`entry ${entry.name} without a version`);
  return propertiesOf(entry.name, current);
}
