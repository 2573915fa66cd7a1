/** The program's own registry; prom-client's default one would be shared with whatever else loads the library. */
import type { Registry } from "prom-client";
import { prometheusMetrics, type RuntimeMetrics } from "../controllers/runtime/metrics.ts";
import type { VaultState } from "../core/ports/target-vaults.ts";

export interface ProgramMetrics {
  readonly registry: Pick<Registry, "metrics">;
  readonly runtime: RuntimeMetrics;
}

/** Tenants choose the vaults: more than so many are counted, and not shown one by one. */
const MAX_VAULTS = 200;

const BREAKER_STATES: readonly VaultState["breaker"][] = ["Closed", "HalfOpen", "Open"];

export interface MetricsSources {
  /** Asked at each scrape, so that a vault which is gone has vanished from the next one. */
  readonly vaults: () => readonly VaultState[];
  /** CAs whose CRLs are not made, because rows that they are made from were tampered with. */
  readonly tamperedAuthorities: () => number;
}

export async function programMetrics({ vaults, tamperedAuthorities }: MetricsSources): Promise<ProgramMetrics> {
  const { Gauge, Registry, collectDefaultMetrics } = (await import("prom-client")).default;
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  await vaultMetrics(registry, vaults);
  new Gauge({
    name: "mazevault_pki_tampered_authorities",
    help: "CAs whose CRLs are not made any more, because the status of a certificate was tampered with.",
    registers: [registry],
    collect() {
      this.set(tamperedAuthorities());
    },
  });
  return { registry, runtime: await prometheusMetrics(registry) };
}

async function vaultMetrics(registry: Registry, vaults: () => readonly VaultState[]): Promise<void> {
  const { Gauge } = (await import("prom-client")).default;
  const registers = [registry];
  const shown = (): readonly VaultState[] => vaults().slice(0, MAX_VAULTS);
  const labelsOf = ({ url }: VaultState) => ({ vault: new URL(url).host });

  new Gauge({
    name: "mazevault_keyvault_vaults",
    help: `Vaults in use; the first ${MAX_VAULTS} have metrics of their own.`,
    registers,
    collect() {
      this.set(vaults().length);
    },
  });
  new Gauge({
    name: "mazevault_keyvault_breaker_state",
    help: "1 for the state that the vault's circuit breaker is in, 0 for the others.",
    labelNames: ["vault", "state"] as const,
    registers,
    collect() {
      this.reset();
      for (const each of shown()) {
        for (const state of BREAKER_STATES) this.set({ ...labelsOf(each), state }, each.breaker === state ? 1 : 0);
      }
    },
  });
  const figures: readonly { name: string; help: string; of: (state: VaultState) => number }[] = [
    { name: "budget_limit", help: "Calls that the vault may get in 10 seconds.", of: ({ limit }) => limit },
    {
      name: "budget_used",
      help: "Calls that count at this moment: under way, or ended in the last 10 seconds.",
      of: ({ callsInWindow }) => callsInWindow,
    },
    { name: "budget_waiting", help: "Calls that wait for their turn in the budget.", of: ({ waiting }) => waiting },
    {
      name: "paused_seconds",
      help: "Time until the vault wants to be called again; 0 when it did not ask for a pause.",
      of: ({ pausedMs }) => pausedMs / 1000,
    },
  ];
  for (const { name, help, of } of figures) {
    new Gauge({
      name: `mazevault_keyvault_${name}`,
      help,
      labelNames: ["vault"] as const,
      registers,
      collect() {
        this.reset();
        for (const each of shown()) this.set(labelsOf(each), of(each));
      },
    });
  }
}
