/** What both converters make: Secrets that take the core Secret over as it stands. */
import type { z } from "zod";
import { API_VERSION } from "../../crds/common.ts";
import { DELIVERABLE_TYPES, type DeliverSpec, type SecretEntry, secretSpec } from "../../crds/secret.ts";
import { fieldPath } from "./manifests.ts";
import type { Converted, Notes } from "./report.ts";
import type { Tenant } from "./tenancy.ts";

/** A core Secret of ours is never made immutable, and one that is cannot be kept up to date. */
export const IMMUTABLE =
  "the core Secret stays immutable, and a value that changes cannot be delivered; delete it once MazeVault delivers it, and it comes back as one that can";

export interface Template {
  readonly labels?: Readonly<Record<string, string>> | null | undefined;
  readonly annotations?: Readonly<Record<string, string>> | null | undefined;
  readonly type?: string | undefined;
}

/** Labels, annotations and type of the core Secret; what may not be set is told. `at`: the field of the template. */
export function deliverySettings({ labels, annotations, type }: Template, at: string, notes: Notes): DeliverSpec {
  const { shape } = secretSpec.shape.deliver.unwrap();
  const allowed = (field: "labels" | "annotations", given: Readonly<Record<string, string>> | null | undefined) => {
    const entries = Object.entries(given ?? {}).filter(([name, value]) => {
      const fits = shape[field].safeParse({ [name]: value }).success && !(field === "labels" && name === "owner");
      if (!fits) {
        notes.remark(
          `${at}.metadata.${field}`,
          `${name} stays on the core Secret as it is, and MazeVault does not set it: controllers may act on it`,
        );
      }
      return fits;
    });
    return entries.length === 0 ? {} : { [field]: Object.fromEntries(entries) };
  };
  const deliverable = DELIVERABLE_TYPES.find((each) => each === (type || "Opaque"));
  if (deliverable === undefined) {
    notes.block(`${at}.type`, `type ${type} cannot be delivered; those that can are ${DELIVERABLE_TYPES.join(", ")}`);
  }
  return {
    ...(deliverable !== undefined && deliverable !== "Opaque" && { type: deliverable }),
    ...allowed("labels", labels),
    ...allowed("annotations", annotations),
  };
}

export interface Parts extends Tenant {
  readonly namespace: string;
  readonly name: string;
  readonly entries: readonly SecretEntry[];
  /** Keys of the core Secret, each an entry of that key; none: nothing is delivered. */
  readonly delivered?: readonly string[];
  /** The name of the core Secret. */
  readonly secretName?: string;
  readonly settings?: DeliverSpec;
}

/** Undefined, and a note, where the API server would refuse it. */
export function secretOf(parts: Parts, notes: Notes): Converted | undefined {
  const { project, environment, namespace, name, entries, delivered, secretName = name, settings } = parts;
  const others = entries.filter(({ key }) => delivered?.includes(key) !== true);
  const spec = {
    projectRef: { name: project },
    environment,
    entries,
    ...(delivered !== undefined && {
      deliver: {
        ...(secretName !== name && { secretName }),
        ...settings,
        ...(others.length > 0 && { keys: delivered.map((key) => ({ from: key, to: key })) }),
        adopt: true,
      },
    }),
  };
  return object("Secret", { name, namespace }, spec, secretSpec, notes);
}

export function object(
  kind: string,
  metadata: Converted["metadata"],
  spec: object,
  schema: z.ZodType,
  notes: Notes,
): Converted | undefined {
  const { success, error } = schema.safeParse(spec);
  if (!success) {
    for (const { path, message } of error.issues) {
      notes.block("spec", `the ${kind} ${metadata.name} would be refused: ${fieldPath("spec", path)} ${message}`);
    }
    return undefined;
  }
  return { apiVersion: API_VERSION, kind, metadata, spec };
}

/** Names that an entry can have without meeting another one. */
export class EntryKeys {
  readonly #taken: Set<string>;

  constructor(delivered: Iterable<string>) {
    this.#taken = new Set(delivered);
  }

  /** Of an entry that is not delivered. */
  beside(wanted: string): string {
    let key = wanted;
    for (let n = 1; this.#taken.has(key); n += 1) key = `${wanted}-source${n === 1 ? "" : n}`;
    this.#taken.add(key);
    return key;
  }
}
