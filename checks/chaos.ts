/**
 * `npm run test:chaos`: the whole of what `npm test` has a bounded part of. It ends at the first that fails, and says how to go on there:
 * `-- --from N`.
 */
import { spawnSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { obtainBinaries } from "../lab/controlplane/binaries.ts";
import { obtainNeeds } from "../lab/setup/needs.ts";

interface Run {
  readonly what: string;
  readonly env?: Readonly<Record<string, string>>;
  readonly command: readonly string[];
}

const e2e = (...files: readonly string[]): readonly string[] => ["npm", "run", "test:e2e", "--", ...files];

const runs: readonly Run[] = [
  { what: "kill -9 of every part under load", command: ["node", "e2e/chaos/main.ts"] },
  {
    what: "every failpoint; 50 rotations of a database's roles",
    env: { CHAOS_FAILPOINTS: "all", ROTATIONS: "50" },
    command: e2e(
      "failpoints",
      "e2e/pki-issuers",
      "e2e/sync-namespaces",
      "e2e/sync-deletion",
      "e2e/orchestrator",
      "e2e/secret-apply",
    ),
  },
  {
    what: "10,000 interleavings of the model of both sides of a vault",
    env: { INTERLEAVINGS: "10000" },
    command: ["npm", "run", "test:unit", "--", "--testTimeout=3600000", "core/sync/exchange.property"],
  },
  {
    what: "200 interleavings of both sides of a vault",
    env: { INTERLEAVINGS: "200" },
    command: e2e("e2e/chaos/both-sides"),
  },
  {
    what: "ten minutes of everything that can go wrong between a gateway and its primary",
    env: { CHANNEL_SECONDS: "600" },
    command: e2e("e2e/chaos/gateway-channel"),
  },
  {
    what: "1,000 sessions with a changed bit, through a proxy that ends TLS",
    env: { FLIPPED_SESSIONS: "1000" },
    command: e2e("e2e/gateway-intercepted"),
  },
  {
    what: "fifty gateways whose primary is killed",
    env: { RECONNECTS: "all" },
    command: e2e("e2e/gateway-reconnects"),
  },
  { what: "200 renewals under watch", env: { RENEWALS: "200" }, command: e2e("e2e/pki-certificates") },
  { what: "a minute of 429 from a Key Vault", env: { STORM_SECONDS: "60" }, command: e2e("e2e/vault-cost") },
  { what: "an upgrade of 1,000 resources from the commit before", command: ["npm", "run", "test:upgrade"] },
  {
    what: "a million mutated OCSP requests, 100,000 mutated CSRs",
    env: { FUZZ_CSRS: "100000", FUZZ_OCSP_REQUESTS: "1000000" },
    command: ["npm", "run", "test:unit", "--", "core/pki/testing/fuzz"],
  },
];

const { values } = parseArgs({ options: { from: { type: "string", default: "1" } } });
const first = Number(values.from);
if (!Number.isInteger(first) || first < 1 || first > runs.length) {
  console.error(`chaos: --from ${values.from}: give a number from 1 to ${runs.length}`);
  process.exit(2);
}

const cwd = fileURLToPath(new URL("..", import.meta.url));
const report = (line: string): void => console.log(line);
// A test whose program this machine cannot have is not found below, which fails there.
for (const line of await obtainNeeds(report)) report(line);
await obtainBinaries(report);
for (const [index, { what, env = {}, command }] of runs.entries()) {
  const number = index + 1;
  if (number < first) continue;
  report(`chaos ${number} of ${runs.length}: ${what}`);
  const [program = "", ...args] = command;
  const { status } = spawnSync(program, args, { cwd, env: { ...process.env, ...env }, stdio: "inherit" });
  if (status !== 0) {
    console.error(`chaos: failed: ${what}; npm run test:chaos -- --from ${number} begins with it`);
    process.exit(1);
  }
}
