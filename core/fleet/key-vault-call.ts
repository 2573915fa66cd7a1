/** The task KeyVaultCall: one call of a `TargetVault` (`core/ports/target-vault.ts`), made by a gateway with its managed identity. */
import { z } from "zod";
import type {
  DeleteResult,
  EntryState,
  PurgeResult,
  SetResult,
  VaultEntryProperties,
  VaultVersion,
} from "../ports/target-vault.ts";
import { Sensitive } from "../sensitive.ts";
import type { TaskKind } from "./tasks.ts";

const date = z.iso.datetime().transform((told) => new Date(told));
const tags = z.record(z.string(), z.string());
const name = z.string().min(1).max(127);
const base64 = z.base64();

const vault = z.object({
  /** UID of the KeyVault at the primary. */
  uid: z.string().min(1).max(128),
  url: z.url().max(255),
  clientId: z.string().max(36).optional(),
  callsPer10Seconds: z.int().positive().optional(),
  priority: z.enum(["Change", "Look"]),
});
export type CalledVault = z.infer<typeof vault>;

const call = z.discriminatedUnion("operation", [
  /** The next pages of a list; the first call with a new id begins it. */
  z.object({ operation: z.literal("list"), list: z.uuid(), begin: z.boolean(), pages: z.int().min(1).max(64) }),
  z.object({ operation: z.literal("get"), name, version: z.string().max(64).optional() }),
  z.object({ operation: z.literal("listVersions"), name }),
  z.object({ operation: z.literal("set"), name, value: base64, tags, contentType: z.string().max(255).optional() }),
  z.object({ operation: z.literal("getDeleted"), name }),
  z.object({ operation: z.literal("delete"), name }),
  z.object({ operation: z.literal("recover"), name }),
  z.object({ operation: z.literal("purge"), name }),
]);
export type VaultCall = z.infer<typeof call>;
export type VaultOperation = VaultCall["operation"];

const body = z.object({ vault, call });
export type KeyVaultCall = z.infer<typeof body>;

const properties = z.object({
  name: z.string(),
  enabled: z.boolean(),
  updatedOn: date,
  contentType: z.string().optional(),
  tags,
}) as z.ZodType<VaultEntryProperties>;

const entryState = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("Absent"), asOf: date.optional() }),
  z.object({
    kind: z.literal("Present"),
    entry: z.object({
      name: z.string(),
      enabled: z.boolean(),
      updatedOn: date,
      contentType: z.string().optional(),
      tags,
      version: z.string(),
      value: base64.transform((told) => new Sensitive(Buffer.from(told, "base64"))),
      createdOn: date,
      asOf: date.optional(),
    }),
  }),
  z.object({ kind: z.literal("Disabled") }),
]) as z.ZodType<EntryState>;

const version = z.object({
  version: z.string(),
  createdOn: date,
  enabled: z.boolean(),
  tags,
}) as z.ZodType<VaultVersion>;

const setResult = z.discriminatedUnion("kind", [
  z.object({ kind: z.literal("Written"), version: z.string(), updatedOn: date }),
  z.object({ kind: z.literal("SoftDeleted") }),
  z.object({ kind: z.literal("InTransition") }),
]) as z.ZodType<SetResult>;

const deleteResult = z.object({ kind: z.enum(["Deleted", "Absent", "InTransition"]) }) as z.ZodType<DeleteResult>;
const purgeResult = z.enum(["Purged", "Refused", "InTransition"]) as z.ZodType<PurgeResult>;

const answer = z.discriminatedUnion("operation", [
  z.object({ operation: z.literal("list"), pages: z.array(z.array(properties)), done: z.boolean() }),
  z.object({ operation: z.literal("get"), state: entryState }),
  z.object({ operation: z.literal("listVersions"), versions: z.array(version) }),
  z.object({ operation: z.literal("set"), result: setResult }),
  z.object({ operation: z.literal("getDeleted"), entry: properties.optional() }),
  z.object({ operation: z.literal("delete"), result: deleteResult }),
  z.object({ operation: z.literal("recover") }),
  z.object({ operation: z.literal("purge"), result: purgeResult }),
]);
export type VaultAnswer = z.infer<typeof answer>;

export const keyVaultCall: TaskKind<KeyVaultCall, VaultAnswer> = {
  kind: "KeyVaultCall",
  body: body as z.ZodType<KeyVaultCall>,
  result: answer as z.ZodType<VaultAnswer>,
};

/** As the kind reads it at the other end; values are in base64, since `Sensitive` does not print. */
export function answerJson(answered: VaultAnswer): unknown {
  if (answered.operation !== "get" || answered.state.kind !== "Present") return answered;
  const { entry } = answered.state;
  const value = entry.value.reveal().toString("base64");
  return { ...answered, state: { kind: "Present", entry: { ...entry, value } } };
}
