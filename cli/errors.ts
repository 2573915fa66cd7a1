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
  /** Something was found that should not be: a broken audit record, a failed check. */
  finding: 7,
} as const;

export class CommandError extends Error {
  readonly exitCode: number;
  constructor(exitCode: number, message: string, options?: { cause?: unknown }) {
    super(message, options);
    this.name = "CommandError";
    this.exitCode = exitCode;
  }
}

export class UsageError extends CommandError {
  constructor(message: string) {
    super(EXIT.usage, message);
    this.name = "UsageError";
  }
}
