/**
 * Benchmarks on a lab of their own: `npm run bench [-- --only NAME,...] [--secrets N] [--quick]`. Figures are no tests:
 * they are printed and stored, with what they were measured on, and compared as ratios to the raw rates of the same run.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { errorMessage } from "../lab/errors.ts";
import { stopOnSignals } from "../lab/signals.ts";
import { formatTable } from "../lab/table.ts";
import { describeMachine, load, type Machine } from "./machine.ts";
import { access } from "./measurements/access.ts";
import { apply } from "./measurements/apply.ts";
import { audit } from "./measurements/audit.ts";
import { authority } from "./measurements/authority.ts";
import { backup } from "./measurements/backup.ts";
import { certificates } from "./measurements/certificates.ts";
import { change } from "./measurements/change.ts";
import { deliver } from "./measurements/deliver.ts";
import { gateways } from "./measurements/gateways.ts";
import { ocsp } from "./measurements/ocsp.ts";
import { probe, raw } from "./measurements/raw.ts";
import { rest } from "./measurements/rest.ts";
import { restart } from "./measurements/restart.ts";
import { rotation } from "./measurements/rotation.ts";
import { start } from "./measurements/start.ts";
import { sync } from "./measurements/sync.ts";
import { vaultIdle } from "./measurements/vault-idle.ts";
import { type Result, row } from "./result.ts";
import { type Sizes, Stage } from "./stage.ts";

/** In the order in which they run: the many secrets of `deliver` stay for the two that follow. */
const measurements: Readonly<Record<string, (stage: Stage) => Promise<Result>>> = {
  raw,
  start,
  apply,
  "vault-idle": vaultIdle,
  sync,
  deliver,
  change,
  restart,
  rest,
  authority,
  ocsp,
  certificates,
  access,
  audit,
  rotation,
  backup,
  gateways,
};

const results = fileURLToPath(new URL("results", import.meta.url));
const report = (line: string): void => console.error(`bench: ${line}`);

interface Order {
  readonly names: readonly string[];
  readonly sizes: Sizes;
}

function readOrder(args: readonly string[]): Order {
  const { values } = parseArgs({
    args: [...args],
    options: { only: { type: "string" }, secrets: { type: "string" }, quick: { type: "boolean" } },
  });
  const wanted = values.only?.split(",");
  const unknown = wanted?.filter((name) => !(name in measurements)) ?? [];
  if (unknown.length > 0) {
    throw new Error(`there is no measurement ${unknown.join(", ")}; there are ${Object.keys(measurements).join(", ")}`);
  }
  const many = Number(values.secrets ?? (values.quick ? 1_000 : 10_000));
  if (!Number.isInteger(many) || many < 1) throw new Error("--secrets takes a number from 1 on");
  return {
    names: Object.keys(measurements).filter((name) => wanted?.includes(name) ?? true),
    sizes: { some: Math.min(1_000, many), many, changes: Math.min(200, many) },
  };
}

async function main(): Promise<void> {
  const { names, sizes } = readOrder(process.argv.slice(2));
  report("starting a lab");
  const stage = await Stage.open(sizes, report);
  stopOnSignals(() => stage.close(), report);
  try {
    const machine = await describeMachine(stage);
    console.log(
      Object.entries(machine)
        .map(([what, value]) => `${what}: ${value}`)
        .join("\n"),
    );
    for (const name of names) await measure(stage, machine, name);
  } finally {
    await stage.close();
  }
}

async function measure(stage: Stage, machine: Machine, name: string): Promise<void> {
  const run = measurements[name];
  if (run === undefined) return;
  const context = { at: new Date().toISOString(), load: load(), rawWritesPerSecond: Math.round(await probe(stage)) };
  report(`${name}; the API server takes ${context.rawWritesPerSecond} writes/s now`);
  const result = await run(stage);
  const rows = result.figures.map((figure) => row(result.name, figure));
  console.log(`\n${formatTable(["measurement", "what", "value", "aim", ""], rows)}`);
  mkdirSync(results, { recursive: true });
  const file = path.join(results, `${context.at.slice(0, 10)}-${result.name}.json`);
  writeFileSync(file, `${JSON.stringify({ ...context, machine, ...result }, undefined, 2)}\n`);
}

main().catch((error: unknown) => {
  console.error(`\n${errorMessage(error)}\n`);
  process.exit(1);
});
