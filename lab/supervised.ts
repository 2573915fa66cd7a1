import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync, readFileSync, renameSync, statSync } from "node:fs";
import { errorMessage } from "./errors.ts";
import { descendants, identify, type ProcessIdentity, signal } from "./identity.ts";
import { pause, until } from "./poll.ts";

export interface ProcessSpec {
  readonly name: string;
  readonly command: string;
  readonly args: readonly string[];
  /** Added to the environment of the launcher. */
  readonly env?: Readonly<Record<string, string>>;
  readonly cwd?: string;
  /** Runs as this user; only root may choose one. */
  readonly user?: { readonly uid: number; readonly gid: number };
  /** Asked repeatedly after each start; an exception means not yet. */
  isReady(): Promise<boolean>;
  /** Runs before each start, restarts included; an exception counts as a failed start. */
  beforeStart?(): Promise<void>;
  /** How long the first start may take until ready, in milliseconds. Restarts wait as long as it takes. */
  readonly readyTimeoutMs?: number;
  readonly stopSignal?: NodeJS.Signals;
  /** After this time without an end, SIGKILL follows the stop signal. */
  readonly stopTimeoutMs?: number;
}

interface Observer {
  started(identity: ProcessIdentity): void;
  ended(): void;
  report(line: string): void;
}

interface Running {
  readonly pid: number;
  readonly exit: Promise<string>;
}

const firstBackoffMs = 100;
const longestBackoffMs = 5_000;
const attemptsAtFirstStart = 3;
const largestLogBytes = 16 * 1024 * 1024;

/** What can be stopped, started and killed. */
export type Part = Pick<SupervisedProcess, "isReady" | "stop" | "start" | "kill" | "ready">;

/** Several that make one part together, such as a primary of its operator and REST. */
export function asOne(...parts: readonly Part[]): Part {
  const each = async (act: (part: Part) => Promise<void>): Promise<void> => {
    await Promise.all(parts.map(act));
  };
  return {
    get isReady() {
      return parts.every(({ isReady }) => isReady);
    },
    stop: () => each((part) => part.stop()),
    start: () => each((part) => part.start()),
    kill: (name) => each((part) => part.kill(name)),
    ready: (timeoutMs) => each((part) => part.ready(timeoutMs)),
  };
}

/**
 * A child in a process group of its own that comes back when it dies unexpectedly.
 *
 *   stopped --start--> starting --isReady--> ready --dies--> backing off --> starting ...
 *      ^                                                                        |
 *      +------------------------------- stop -----------------------------------+
 */
export class SupervisedProcess {
  readonly name: string;
  readonly logFile: string;
  /** When false, a child that dies stays down until `start()`. */
  autoRestart = true;
  readonly #spec: ProcessSpec;
  readonly #observer: Observer;
  #running: Running | undefined;
  #ready = false;
  #restarts = 0;
  #lastEnd: string | undefined;
  #supervision: Promise<void> | undefined;
  #stopping = new AbortController();

  constructor(spec: ProcessSpec, logFile: string, observer: Observer) {
    this.name = spec.name;
    this.logFile = logFile;
    this.#spec = spec;
    this.#observer = observer;
  }

  /** undefined while it is down. */
  get pid(): number | undefined {
    return this.#running?.pid;
  }

  get isReady(): boolean {
    return this.#ready;
  }

  /** How it ended last: `died of SIGKILL`, `exited with 1`. */
  get lastEnd(): string | undefined {
    return this.#lastEnd;
  }

  /** How often it was started again after an unexpected end. */
  get restarts(): number {
    return this.#restarts;
  }

  /**
   * Starts it and waits until it is ready; does nothing when it runs already.
   * @throws with the end of the log when it dies repeatedly or is not ready in time
   */
  async start(): Promise<void> {
    if (this.#supervision !== undefined) return this.ready();
    this.#stopping = new AbortController();
    rotate(this.logFile);
    for (let attempt = 1; ; attempt++) {
      const failure = await this.#launch(this.#spec.readyTimeoutMs ?? 60_000);
      if (failure === undefined) break;
      await this.#end();
      if (this.#stopping.signal.aborted || attempt === attemptsAtFirstStart || failure.final) {
        throw new Error(`${this.name} did not start: ${failure.reason}\n${logTail(this.logFile)}`);
      }
      await pause(firstBackoffMs * 2 ** attempt, this.#stopping.signal);
    }
    this.#supervision = this.#supervise();
  }

  /** Resolves when it is up and ready, after a restart too. */
  async ready(timeoutMs = 60_000): Promise<void> {
    await until(`${this.name} ready`, () => this.#ready, { timeoutMs });
  }

  /** Ends it gracefully, then by force. Resolves when nothing of it is left. */
  async stop(): Promise<void> {
    this.#stopping.abort();
    await this.#end();
    await this.#supervision;
    this.#supervision = undefined;
  }

  /** Stops and starts it. */
  async restart(): Promise<void> {
    await this.stop();
    await this.start();
  }

  /**
   * Sends a signal, SIGKILL by default, as an operator at a terminal would. After SIGKILL it resolves when the process
   * has died, so that a following `ready()` waits for the next one.
   */
  async kill(name: NodeJS.Signals = "SIGKILL"): Promise<void> {
    const running = this.#running;
    if (running === undefined) throw new Error(`${this.name} is not running`);
    signal(running.pid, name);
    if (name === "SIGKILL") await running.exit;
  }

  /** Freezes it and its descendants (SIGSTOP). */
  pause(): void {
    this.#signalTree("SIGSTOP");
  }

  /** Ends a pause (SIGCONT). */
  resume(): void {
    this.#signalTree("SIGCONT");
  }

  async #supervise(): Promise<void> {
    const { signal: stopping } = this.#stopping;
    const over = () => stopping.aborted || !this.autoRestart;
    for (let backoffMs = firstBackoffMs; ; ) {
      const reason = (await this.#running?.exit) ?? "could not be started";
      if (over()) break;
      this.#observer.report(`${this.name} ${reason}, starting it again in ${backoffMs / 1000} s`);
      await pause(backoffMs, stopping);
      if (over()) break;
      this.#restarts++;
      const failure = await this.#launch(Number.POSITIVE_INFINITY);
      backoffMs = failure === undefined ? firstBackoffMs : Math.min(backoffMs * 2, longestBackoffMs);
    }
    this.#supervision = undefined;
  }

  /** One start. Resolves with undefined when ready. */
  async #launch(readyTimeoutMs: number): Promise<{ reason: string; final: boolean } | undefined> {
    try {
      await this.#spec.beforeStart?.();
    } catch (error) {
      return { reason: errorMessage(error), final: false };
    }
    if (this.#stopping.signal.aborted) return { reason: "it was stopped", final: true };
    const ended = new AbortController();
    const child = this.#spawn();
    const { pid } = child;
    const exit = new Promise<string>((resolve) => {
      child.once("error", (error) => resolve(`failed: ${error.message}`));
      child.once("exit", (code, killedBy) =>
        resolve(killedBy === null ? `exited with ${code}` : `died of ${killedBy}`),
      );
    });
    if (pid === undefined) return { reason: await exit, final: true };
    const identity = identify(pid);
    if (identity !== undefined) this.#observer.started(identity);
    this.#running = {
      pid,
      exit: exit.then((reason) => {
        this.#ready = false;
        this.#running = undefined;
        this.#lastEnd = reason;
        // Members of its group must not outlive it, or the next start meets them.
        signal(-pid, "SIGKILL");
        this.#observer.ended();
        ended.abort(new Error(reason));
        return reason;
      }),
    };
    try {
      await until("readiness", () => this.#spec.isReady(), {
        timeoutMs: readyTimeoutMs,
        intervalMs: 50,
        signal: ended.signal,
      });
    } catch (error) {
      return { reason: errorMessage(error), final: !ended.signal.aborted };
    }
    if (ended.signal.aborted) return { reason: await exit, final: false };
    this.#ready = true;
    return undefined;
  }

  #spawn(): ChildProcess {
    const { command, args, env, cwd, user } = this.#spec;
    const log = openSync(this.logFile, "a");
    try {
      return spawn(command, args, {
        detached: true,
        stdio: ["ignore", log, log],
        env: { ...process.env, ...env },
        ...(cwd === undefined ? {} : { cwd }),
        ...user,
      });
    } finally {
      closeSync(log);
    }
  }

  async #end(): Promise<void> {
    const running = this.#running;
    if (running === undefined) return;
    // A frozen process cannot act on the stop signal.
    this.resume();
    signal(running.pid, this.#spec.stopSignal ?? "SIGTERM");
    const timer = setTimeout(() => this.#signalTree("SIGKILL"), this.#spec.stopTimeoutMs ?? 10_000);
    await running.exit;
    clearTimeout(timer);
  }

  #signalTree(name: NodeJS.Signals): void {
    const pid = this.#running?.pid;
    if (pid === undefined) return;
    // The parent first, so that a frozen tree cannot grow.
    signal(pid, name);
    for (const member of descendants(pid)) signal(member, name);
  }
}

function rotate(logFile: string): void {
  const size = statSync(logFile, { throwIfNoEntry: false })?.size ?? 0;
  if (size > largestLogBytes) renameSync(logFile, `${logFile}.1`);
}

function logTail(logFile: string): string {
  const lines = readFileSync(logFile, "utf8").trimEnd().split("\n");
  return [`The last lines of ${logFile}:`, ...lines.slice(-15)].join("\n");
}
