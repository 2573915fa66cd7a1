/** What ends the command, and with which exit code: scripts decide by it. */
export const EXIT = {
  ok: 0,
  /** The server, or what it needs, cannot do it now; the same command may succeed later. */
  unavailable: 1,
  /** The command line is wrong. */
  usage: 2,
  /** Not logged in, or not any more. */
  unauthenticated: 3,
  /** No grant. */
  denied: 4,
  notFound: 5,
  /** Somebody else changed it, or it cannot be done as things stand. */
  conflict: 6,
  /** Something was found that should not be: a broken audit record, a failed check, what could not be converted. */
  finding: 7,
} as const;

export class CommandError extends Error {
  readonly exitCode: number;
  /** What is wrong, where the message goes on to say what to do. */
  readonly problem: string;
  readonly fix: string | undefined;
  constructor(exitCode: number, problem: string, { fix, ...options }: { fix?: string; cause?: unknown } = {}) {
    super(fix === undefined ? problem : `${problem}; ${fix}`, options);
    this.name = "CommandError";
    this.exitCode = exitCode;
    this.problem = problem;
    this.fix = fix;
  }
}

export class UsageError extends CommandError {
  constructor(problem: string, fix?: string) {
    super(EXIT.usage, problem, fix === undefined ? {} : { fix });
    this.name = "UsageError";
  }
}
