/** Changes that take something away all the same, each with its reason, until the next release is what is compared with. */
import { readFileSync } from "node:fs";
import path from "node:path";
import { parse } from "yaml";
import { z } from "zod";
import { type Break, sentence } from "./break.ts";
import { RELEASED } from "./surfaces.ts";

const FILE = "accepted.yaml";
/** By the name of the surface. */
const schema = z.record(
  z.enum(["kinds", "rights", "policies", "values", "settings", "rest", "fleet", "migrations", "database"]),
  z.array(z.strictObject({ change: z.string().min(1), reason: z.string().min(20) })).default([]),
);
export type Accepted = z.infer<typeof schema>;

export function readAccepted(file = path.join(RELEASED, FILE)): Accepted {
  const { data, error } = schema.safeParse(parse(readFileSync(file, "utf8")));
  if (error) throw new Error(`${FILE}: ${z.prettifyError(error)}`);
  return data;
}

/** What nobody has accepted, and what was accepted and is no change any more; a sentence for each. */
export function notAccepted(
  surface: keyof Accepted,
  breaks: readonly Break[],
  accepted: Accepted = readAccepted(),
): readonly string[] {
  const listed = accepted[surface].map(({ change }) => change);
  const found = breaks.map(sentence);
  return [
    ...breaks
      .filter((each) => !listed.includes(sentence(each)))
      .map(
        (each) =>
          `${sentence(each)}. It was otherwise in the last release: ${each.fix}. ` +
          `If it has to be, list it in released/${FILE} under ${surface}, with the reason`,
      ),
    ...listed
      .filter((change) => !found.includes(change))
      .map((change) => `released/${FILE} accepts what has not changed: ${change}`),
  ];
}
