/** Runs checks side by side, none for longer than it may: what is frozen must not keep the others from being told. */
import { SafeError } from "../errors.ts";
import { type Check, type Finding, failing, fine } from "./finding.ts";

/** In the order of the checks. */
export async function examine(checks: readonly Check[], withinMs: number): Promise<readonly Finding[]> {
  return (await Promise.all(checks.map((check) => bounded(check, withinMs)))).flat();
}

async function bounded({ name, examine: look, otherwise }: Check, withinMs: number): Promise<readonly Finding[]> {
  const abort = new AbortController();
  const silence = Promise.withResolvers<readonly Finding[]>();
  const timer = setTimeout(() => {
    const problem = `there was no answer within ${withinMs / 1000} s`;
    silence.resolve([failing(name, { problem, fix: otherwise })]);
    abort.abort();
  }, withinMs);
  try {
    const looking = look(abort.signal);
    // It may fail after nobody waits for it any more.
    looking.catch(() => {});
    const findings = await Promise.race([looking, silence.promise]);
    return findings.length === 0 ? [fine(name)] : findings;
  } catch (error) {
    return [failing(name, { problem: told(error), fix: otherwise })];
  } finally {
    clearTimeout(timer);
  }
}

/** The message of a foreign error may quote what it was given. */
const told = (error: unknown): string =>
  error instanceof SafeError ? error.message : `the check itself failed (${(error as Error).name})`;
