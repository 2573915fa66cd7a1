/** Reading values: they are on record before they leave. */
import type { SecretRecord } from "../../../../core/ports/vault-store.ts";
import type { Sensitive } from "../../../../core/sensitive.ts";
import { Problem } from "../../problem.ts";
import type { Call, Input } from "../../route.ts";
import { dispose } from "./secret.ts";

export function encoded(values: ReadonlyMap<string, Sensitive>, as: "utf8" | "base64"): Record<string, string> {
  const text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  return Object.fromEntries(
    [...values].map(([key, value]) => {
      if (as === "base64") return [key, value.reveal().toString("base64")];
      try {
        return [key, text.decode(value.reveal())];
      } catch {
        throw new Problem(409, "ValueIsNotText", `the value of ${key} is no text; ask for it with encoding=base64`);
      }
    }),
  );
}

/** Reads values for the caller; they are on record before this resolves. */
export async function read(
  record: SecretRecord,
  call: Call<Input>,
  wanted: { readonly version?: number | undefined; readonly keys?: readonly string[] | undefined },
  as: "utf8" | "base64",
): Promise<{ version: number; values: Record<string, string> }> {
  const { services, actor, grant } = call;
  const { version, values } = await services.vault.open(record, {
    actor,
    purpose: `REST: ${grant}`,
    ...(wanted.version !== undefined && { version: wanted.version }),
    ...(wanted.keys !== undefined && { keys: wanted.keys }),
  });
  try {
    return { version, values: encoded(values, as) };
  } finally {
    dispose(values);
  }
}
