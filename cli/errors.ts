/** What ends the command, and with which exit code: scripts decide by it. */
export const EXIT = {
  ok: 0,
  unavailable: 1,
  usage: 2,
  unauthenticated: 3,
  denied: 4,
  notFound: 5,
  conflict: 6,
  finding: 7,
} as const;

/** `mazevault --help` and the reference tell them. */
export const EXIT_MEANINGS: Readonly<Record<keyof typeof EXIT, string>> = {
  ok: "done",
  unavailable: "the server, or what it needs, cannot do it now; the same command may succeed later",
  usage: "the command line, or what it sends, is wrong",
  unauthenticated: "not logged in, or not any more",
  denied: "no grant",
  notFound: "there is no such thing",
  conflict: "somebody else changed it, or it cannot be done as things stand",
  finding: "something was found that should not be: a broken audit record, a failed check, what could not be converted",
};

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
