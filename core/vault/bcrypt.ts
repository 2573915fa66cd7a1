import { Worker } from "node:worker_threads";
import type { Answer, Question } from "./bcrypt-worker.ts";

/** What bcrypt reads of a text, in bytes of UTF-8. */
export const LONGEST_BCRYPT_TEXT = 72;

interface Waiter {
  resolve(hash: string): void;
  reject(error: Error): void;
}

interface Thread {
  readonly worker: Worker;
  readonly waiting: Map<number, Waiter>;
}

/** One for all, so that however many hashes are wanted, no more than one processor is busy with them. */
let thread: Thread | undefined;
let questions = 0;

/** In a bundle the worker is a program beside the others. */
const program = new URL(
  import.meta.url.endsWith(".ts") ? "./bcrypt-worker.ts" : "./bcrypt-worker.mjs",
  import.meta.url,
);

/** The hash with a fresh salt, `$2b$`; in another thread, which ends when nothing is left to do. @param cost 4 to 31, logarithm of the rounds */
export function bcryptHash(text: string, cost: number): Promise<string> {
  thread ??= start();
  const { worker, waiting } = thread;
  questions += 1;
  const question: Question = { id: questions, text, cost };
  return new Promise((resolve, reject) => {
    waiting.set(question.id, { resolve, reject });
    worker.postMessage(question);
  });
}

function start(): Thread {
  const started: Thread = { worker: new Worker(program), waiting: new Map() };
  const { worker, waiting } = started;
  const end = () => {
    if (thread === started) thread = undefined;
  };
  worker.on("message", ({ id, hash }: Answer) => {
    const waiter = waiting.get(id);
    waiting.delete(id);
    if (waiting.size === 0) {
      end();
      void worker.terminate();
    }
    waiter?.resolve(hash);
  });
  worker.on("error", (error) => {
    end();
    for (const { reject } of waiting.values()) reject(new Error("the thread for bcrypt failed", { cause: error }));
    waiting.clear();
  });
  return started;
}
