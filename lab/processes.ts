import { mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import path from "node:path";
import { descendants, isAlive, type ProcessIdentity, signal } from "./identity.ts";
import { type Lock, tryLock } from "./lock.ts";
import { until } from "./poll.ts";
import { type ProcessSpec, SupervisedProcess } from "./supervised.ts";

interface ProcessRecord extends ProcessIdentity {
  readonly name: string;
  readonly stopSignal: NodeJS.Signals;
}

/** Short, as an API server without its launcher waits long for clients, and what runs here must survive SIGKILL. */
const leftoverTimeoutMs = 3_000;

/**
 * The long-running children of one launcher. What runs is recorded in a file, so that the next launcher on the same
 * directory ends what a launcher killed by `kill -9` has left behind.
 */
export class Supervisor {
  readonly #lock: Lock;
  readonly #stateFile: string;
  readonly #logDir: string;
  readonly #report: (line: string) => void;
  readonly #processes: SupervisedProcess[] = [];
  readonly #records = new Map<string, ProcessRecord>();
  readonly #onExit = () => this.#killAll();
  #stopped = false;

  private constructor(dir: string, lock: Lock, report: (line: string) => void) {
    this.#lock = lock;
    this.#stateFile = path.join(dir, "processes.json");
    this.#logDir = path.join(dir, "logs");
    this.#report = report;
    mkdirSync(this.#logDir, { recursive: true });
    process.on("exit", this.#onExit);
  }

  /**
   * Takes charge of a directory and ends the leftovers of its last launcher.
   * @param report receives one line for each restart of a child
   * @throws when another living launcher has the directory
   */
  static async open(dir: string, report: (line: string) => void = () => {}): Promise<Supervisor> {
    const lock = tryLock(path.join(dir, "launcher.lock"));
    if ("heldBy" in lock) {
      throw new Error(`${dir} is in use by the running process ${lock.heldBy.pid}; stop it first (Ctrl-C)`);
    }
    const supervisor = new Supervisor(dir, lock, report);
    try {
      await supervisor.#endLeftovers();
    } catch (error) {
      supervisor.#close();
      throw error;
    }
    return supervisor;
  }

  /** Starts a child and waits until it is ready. @throws with the end of its log when it does not get there */
  async run(spec: ProcessSpec): Promise<SupervisedProcess> {
    if (this.#stopped) throw new Error(`${spec.name} is not started, as everything is being stopped`);
    if (this.#processes.some(({ name }) => name === spec.name)) throw new Error(`${spec.name} runs already`);
    const child = new SupervisedProcess(spec, path.join(this.#logDir, `${spec.name}.log`), {
      started: (identity) =>
        this.#record(spec.name, { ...identity, name: spec.name, stopSignal: spec.stopSignal ?? "SIGTERM" }),
      ended: () => this.#record(spec.name, undefined),
      report: this.#report,
    });
    this.#processes.push(child);
    await child.start();
    return child;
  }

  /** Ends all children, the last started first, and gives the directory back. Never throws for a child that had crashed. */
  async stop(): Promise<void> {
    this.#stopped = true;
    for (const child of this.#processes.toReversed()) await child.stop();
    this.#close();
  }

  /** Ends all children at once with SIGKILL, without waiting for them. */
  #killAll(): void {
    for (const { pid } of this.#records.values()) {
      for (const member of descendants(pid)) signal(member, "SIGKILL");
      signal(-pid, "SIGKILL");
    }
  }

  #close(): void {
    process.off("exit", this.#onExit);
    this.#lock.release();
  }

  #record(name: string, record: ProcessRecord | undefined): void {
    if (record === undefined) this.#records.delete(name);
    else this.#records.set(name, record);
    const draft = `${this.#stateFile}.new`;
    writeFileSync(draft, JSON.stringify([...this.#records.values()], undefined, 2));
    renameSync(draft, this.#stateFile);
  }

  async #endLeftovers(): Promise<void> {
    const leftovers = this.#readRecords().filter(isAlive).toReversed();
    for (const { pid, stopSignal } of leftovers) {
      signal(pid, "SIGCONT");
      signal(pid, stopSignal);
    }
    try {
      await until("leftovers ended", () => !leftovers.some(isAlive), { timeoutMs: leftoverTimeoutMs });
    } catch {
      for (const leftover of leftovers.filter(isAlive)) {
        const tree = descendants(leftover.pid);
        signal(-leftover.pid, "SIGKILL");
        for (const pid of tree) signal(pid, "SIGKILL");
      }
      await until("killed leftovers ended", () => !leftovers.some(isAlive), { timeoutMs: leftoverTimeoutMs });
    }
    rmSync(this.#stateFile, { force: true });
  }

  #readRecords(): ProcessRecord[] {
    let text: string;
    try {
      text = readFileSync(this.#stateFile, "utf8");
    } catch {
      return [];
    }
    const records: ProcessRecord[] = JSON.parse(text);
    return records;
  }
}
