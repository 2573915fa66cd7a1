/** A thread of its own for what takes a processor for long: Node hashes many ways in its own threads, bcrypt is not among them. */
import { parentPort } from "node:worker_threads";
import { hashSync } from "bcryptjs";

export interface Question {
  readonly id: number;
  readonly text: string;
  readonly cost: number;
}

export interface Answer {
  readonly id: number;
  readonly hash: string;
}

parentPort?.on("message", ({ id, text, cost }: Question) => {
  parentPort?.postMessage({ id, hash: hashSync(text, cost) } satisfies Answer);
});
