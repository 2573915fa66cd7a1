/** Who waits long is told a little later, and asks a fraction of the times. */
const OFTEN_FOR_MS = 1_000;
const SHARE = 0.1;
const LONGEST_MS = 500;

/**
 * Waits until a condition holds, asking again and again: each `intervalMs` at first, less often later, and at the deadline.
 * @param condition A falsy result means not yet; an exception too, and its message explains a time-out.
 * @returns the first truthy result
 * @throws when `timeoutMs` has passed or `signal` is aborted
 */
export async function until<T>(
  what: string,
  condition: () => T | Promise<T>,
  options: { timeoutMs: number; intervalMs?: number; signal?: AbortSignal },
): Promise<T> {
  const began = Date.now();
  const deadline = began + options.timeoutMs;
  for (;;) {
    options.signal?.throwIfAborted();
    let failure: unknown;
    try {
      const result = await condition();
      if (result) return result;
    } catch (error) {
      failure = error;
    }
    const now = Date.now();
    if (now >= deadline) {
      throw new Error(`${what}: not so after ${options.timeoutMs / 1000} s`, { cause: failure });
    }
    const later = Math.min((now - began - OFTEN_FOR_MS) * SHARE, LONGEST_MS);
    const intervalMs = Math.max(options.intervalMs ?? 50, later);
    await pause(Math.min(intervalMs, deadline - now), options.signal);
  }
}

/** Resolves after a time, or at once when the signal is aborted. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    if (signal?.aborted) done();
    else signal?.addEventListener("abort", done);
  });
}
