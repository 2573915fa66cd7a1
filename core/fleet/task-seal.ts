/**
 * Tasks at rest: bodies and results may hold values of secrets, so they are encrypted while somebody waits for them. Each opens
 * for its own task only: of a row whose addressee, environment or kind was changed nothing does.
 */
import { createSecretKey, hkdfSync, type KeyObject } from "node:crypto";
import { encodeFields } from "../canonical.ts";
import type { TaskName } from "../ports/task-store.ts";
import { KEY_BYTES, openOrTampered, seal } from "../vault/envelope.ts";
import type { KeyRing } from "../vault/keyring.ts";

export type TaskKeys = Pick<KeyRing, "installationId" | "tasks">;

/** What whoever sends a result says of the task. */
type ResultName = Pick<TaskName, "id" | "environment">;

/** @param body JSON */
export const sealBody = (keys: TaskKeys, task: TaskName, body: unknown): Buffer =>
  sealJson(keyOf(keys, task), body, bodyContext(keys, task));

/** @throws Unavailable TamperDetected */
export const openBody = (keys: TaskKeys, task: TaskName, sealed: Buffer): unknown =>
  openJson(keyOf(keys, task), sealed, bodyContext(keys, task), `the body of task ${task.id}`);

/** @param result JSON */
export const sealResult = (keys: TaskKeys, task: ResultName, result: unknown): Buffer =>
  sealJson(keyOf(keys, task), result, resultContext(keys, task));

/** @throws Unavailable TamperDetected */
export const openResult = (keys: TaskKeys, task: ResultName, sealed: Buffer): unknown =>
  openJson(keyOf(keys, task), sealed, resultContext(keys, task), `the result of task ${task.id}`);

/** One for each task, so that none seals more than twice (NIST SP 800-38D, section 8.3). */
const keyOf = ({ tasks }: TaskKeys, { id }: Pick<TaskName, "id">): KeyObject =>
  createSecretKey(Buffer.from(hkdfSync("sha256", tasks, Buffer.from(id), "mazevault task", KEY_BYTES)));

const bodyContext = ({ installationId }: TaskKeys, { id, addressee, environment, kind }: TaskName): Buffer =>
  encodeFields("mazevault task body", [installationId, id, addressee, environment, kind]);

const resultContext = ({ installationId }: TaskKeys, { id, environment }: ResultName): Buffer =>
  encodeFields("mazevault task result", [installationId, id, environment]);

function sealJson(key: KeyObject, value: unknown, context: Buffer): Buffer {
  const plaintext = Buffer.from(JSON.stringify(value));
  try {
    return seal(key, plaintext, context);
  } finally {
    plaintext.fill(0);
  }
}

function openJson(key: KeyObject, sealed: Buffer, context: Buffer, what: string): unknown {
  const plaintext = openOrTampered(key, sealed, context, what);
  try {
    return JSON.parse(plaintext.toString("utf8"));
  } finally {
    plaintext.fill(0);
  }
}
