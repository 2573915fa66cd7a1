import { errorMessage } from "./errors.ts";

const echoMs = 1_000;

/**
 * Ends the program in order on Ctrl-C and the like. A second Ctrl-C ends it at once: the children die by SIGKILL.
 * @param stop is called once; the exit code is 0 when it resolves
 */
export function stopOnSignals(stop: () => Promise<void>, report: (line: string) => void): void {
  let askedAt: number | undefined;
  const onSignal = (name: NodeJS.Signals) => {
    if (askedAt !== undefined) {
      // A terminal sends Ctrl-C to npm and to us, and npm passes its own on: one key press arrives twice.
      if (Date.now() - askedAt < echoMs) return;
      report(`${name} again: ending at once`);
      process.exit(1);
    }
    askedAt = Date.now();
    report(`${name}: stopping, once more to force`);
    stop().then(
      () => process.exit(0),
      (error: unknown) => {
        report(`stopping failed: ${errorMessage(error)}`);
        process.exit(1);
      },
    );
  };
  for (const name of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.on(name, onSignal);
}
