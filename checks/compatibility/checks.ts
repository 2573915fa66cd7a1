/** What `npm run verify` compares with the last release; the database is compared by `database.test.ts`, which has one. */
import { findPythonTool, squawk } from "../../lab/setup/python-tool.ts";
import { byProblems, type Check } from "../check.ts";
import { notAccepted } from "./accepted.ts";
import { surfaces, wrongMigrations } from "./surfaces.ts";

/** The checks that this machine has the programs for. */
export function compatibilityChecks(): readonly Check[] {
  const program = findPythonTool(squawk);
  return [
    ...surfaces().map(({ name, breaks }) =>
      byProblems(`${name} of the last release`, async () => notAccepted(name, await breaks())),
    ),
    ...(program === undefined
      ? []
      : [byProblems("migrations beside the last release", () => wrongMigrations(program))]),
  ];
}
