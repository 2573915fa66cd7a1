/**
 * Waits until a condition holds, asking again and again.
 * @param condition A falsy result means not yet; an exception too, and its message explains a time-out.
 * @returns the first truthy result
 * @throws when `timeoutMs` has passed or `signal` is aborted
 */
export async function until<T>(
  what: string,
  condition: () => T | Promise<T>,
  options: { timeoutMs: number; intervalMs?: number; signal?: AbortSignal },
): Promise<T> {
  const deadline = Date.now() + options.timeoutMs;
  for (;;) {
    options.signal?.throwIfAborted();
    let failure: unknown;
    try {
      const result = await condition();
      if (result) return result;
    } catch (error) {
      failure = error;
    }
    if (Date.now() >= deadline) {
      throw new Error(`${what}: not so after ${options.timeoutMs / 1000} s`, { cause: failure });
    }
    await pause(options.intervalMs ?? 50, options.signal);
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
