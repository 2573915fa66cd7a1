import { renameSync, writeFileSync } from "node:fs";
import { errorMessage } from "../errors.ts";
import { pause } from "../poll.ts";

/** A token and when it stops being valid. */
export interface Token {
  readonly token: string;
  readonly expiresAt: Date;
}

/** A token file that is always fresh until `stop()`. */
export interface FreshToken {
  readonly tokenFile: string;
  stop(): void;
}

const longestSleepMs = 30_000;
const retryMs = 1_000;

/**
 * Keeps a token in a file as the kubelet does for a projected one: replaced atomically at half of its life.
 * @param request asks for a new token; while it fails, it is tried again each second
 * @throws what the first request throws
 */
export async function keepTokenFresh(
  file: string,
  request: () => Promise<Token>,
  report: (line: string) => void,
): Promise<FreshToken> {
  const stopped = new AbortController();
  const renew = async (): Promise<number> => {
    const { token, expiresAt } = await request();
    writeFileSync(`${file}.new`, token, { mode: 0o600 });
    renameSync(`${file}.new`, file);
    return Date.now() + (expiresAt.getTime() - Date.now()) / 2;
  };
  let renewAt = await renew();
  const run = async () => {
    while (!stopped.signal.aborted) {
      // Short sleeps, as a timer does not advance while the machine is suspended but the token ages.
      await pause(Math.max(0, Math.min(renewAt - Date.now(), longestSleepMs)), stopped.signal);
      if (stopped.signal.aborted || Date.now() < renewAt) continue;
      try {
        renewAt = await renew();
      } catch (error) {
        report(`token in ${file} not renewed: ${errorMessage(error)}`);
        renewAt = Date.now() + retryMs;
      }
    }
  };
  void run();
  return { tokenFile: file, stop: () => stopped.abort() };
}
