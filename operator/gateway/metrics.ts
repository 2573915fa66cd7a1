import type { Registry } from "prom-client";
import type { MembershipStatus } from "../../core/fleet/membership.ts";
import type { ReplicaFigures } from "../../core/fleet/replica.ts";
import type { BreakerState } from "../../core/ports/primary-link.ts";
import type { Gateway } from "./gateway.ts";

const BREAKER_STATES: readonly BreakerState[] = ["Closed", "Open", "HalfOpen"];

/** Figures of a gateway about itself; those of gateways at the primary are others. Asked at each scrape. */
export async function gatewayMetrics(
  registry: Registry,
  status: () => MembershipStatus | undefined,
  gateway: () => Pick<Gateway, "link" | "replica" | "writes"> | undefined,
): Promise<void> {
  const { Counter, Gauge } = (await import("prom-client")).default;
  const registers = [registry];
  new Gauge({
    name: "mazevault_gateway_circuit_breaker_state",
    help: "1 for the state of the circuit breaker to the primary, 0 for the others: Closed, Open, HalfOpen. Heartbeats go past it.",
    labelNames: ["state"] as const,
    registers,
    collect() {
      const now = gateway()?.link.state ?? "Closed";
      for (const state of BREAKER_STATES) this.set({ state }, state === now ? 1 : 0);
    },
  });
  new Gauge({
    name: "mazevault_gateway_replica_age_seconds",
    help: "Time since the primary last confirmed what the gateway holds of it, as it is stored; above gateway.offlineLimit nothing of it is served. Absent before the first time.",
    labelNames: ["environment"] as const,
    registers,
    async collect() {
      this.reset();
      const figures = await figuresOf(gateway());
      if (figures?.syncedAt !== undefined)
        this.set({ environment: figures.environment }, (Date.now() - figures.syncedAt.getTime()) / 1_000);
    },
  });
  new Gauge({
    name: "mazevault_gateway_replica_secrets",
    help: "Secrets of the primary that the gateway holds.",
    registers,
    async collect() {
      this.set((await figuresOf(gateway()))?.secrets ?? 0);
    },
  });
  new Counter({
    name: "mazevault_gateway_heartbeat_failures_total",
    help: "Heartbeats that the primary did not answer, counted by the leader since it started.",
    registers,
    collect() {
      this.reset();
      this.inc(status()?.heartbeats.failures ?? 0);
    },
  });
  new Gauge({
    name: "mazevault_gateway_heartbeat_consecutive_failures",
    help: "Heartbeats in a row that the primary did not answer; more than 3 ask for a look.",
    registers,
    collect() {
      this.set(status()?.heartbeats.consecutiveFailures ?? 0);
    },
  });
  new Gauge({
    name: "mazevault_gateway_registered",
    help: "1 while the primary has this gateway registered, 0 before and after.",
    registers,
    collect() {
      this.set(status()?.state === "Confirmed" ? 1 : 0);
    },
  });
  new Gauge({
    name: "mazevault_gateway_write_queue_length",
    help: "Writes that were accepted here and wait for the primary; more than 1000 ask for a look.",
    registers,
    collect() {
      this.set(gateway()?.writes.length.waiting ?? 0);
    },
  });
  new Gauge({
    name: "mazevault_gateway_write_queue_oldest_age_seconds",
    help: "For how long the write waits for the primary that was accepted first; 0 when none does.",
    registers,
    collect() {
      this.set((gateway()?.writes.length.oldestAgeMs ?? 0) / 1_000);
    },
  });
  new Gauge({
    name: "mazevault_gateway_certificate_expiry_seconds",
    help: "Time until the gateway's certificate ends; renewed when a third of its life is left. Absent before there is one.",
    // A gauge without labels would show 0, which means that it ends now.
    labelNames: ["gateway"] as const,
    registers,
    collect() {
      this.reset();
      const { certificateNotAfter: notAfter, identity } = status() ?? {};
      if (notAfter !== undefined && identity !== undefined)
        this.set({ gateway: identity.name }, (notAfter.getTime() - Date.now()) / 1_000);
    },
  });
}

/** Where it cannot be read, the last that was. */
async function figuresOf(gateway: Pick<Gateway, "replica"> | undefined): Promise<ReplicaFigures | undefined> {
  await gateway?.replica.look().catch(() => undefined);
  return gateway?.replica.figures;
}
