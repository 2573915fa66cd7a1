/** The program's own registry; prom-client's default one would be shared with whatever else loads the library. */
import type { Registry } from "prom-client";
import type { SinkState } from "../controllers/auditsink/index.ts";
import { prometheusMetrics, type RuntimeMetrics } from "../controllers/runtime/metrics.ts";
import type { VaultState } from "../core/ports/target-vaults.ts";
import type { TracedCall, Tracer } from "../core/ports/tracer.ts";
import type { RotationProgress } from "../core/vault/rotation.ts";
import type { EnvironmentFigures } from "./environment-chores.ts";
import type { GatewayFigures } from "./gateway-chores.ts";
import { type CountedResources, resourceMetrics } from "./resource-metrics.ts";

export interface ProgramMetrics {
  /** Told of each call to another program, where it was made. */
  readonly onCall: (call: TracedCall) => void;
  readonly registry: Registry;
  readonly runtime: RuntimeMetrics;
  /** Told of each answer of the REST surface; the route is its path as documented, never what stood in it. */
  readonly restAnswered: (answer: RestAnswer) => void;
}

export interface RestAnswer {
  readonly method: string;
  readonly route: string;
  readonly status: number;
  readonly seconds: number;
}

/** Tenants choose the vaults: more than so many are counted, and not shown one by one. */
const MAX_VAULTS = 200;

const BREAKER_STATES: readonly VaultState["breaker"][] = ["Closed", "HalfOpen", "Open"];

/** Asked at each scrape, so that what is gone has vanished from the next one. */
interface States {
  readonly vaults: () => readonly VaultState[];
  readonly sinks: () => readonly SinkState[];
  /** CAs whose CRLs are not made, because rows that they are made from were tampered with. */
  readonly tamperedAuthorities: () => number;
  readonly rotation: () => RotationProgress;
  readonly tracesDropped: () => number;
  /** Undefined while they are not known. */
  readonly resources: () => CountedResources | undefined;
  readonly gateways?: () => readonly GatewayFigures[];
  readonly environments?: () => readonly EnvironmentFigures[];
}

/** @param tracer told of each call as well: what is measured is traced */
export async function programMetrics(
  { vaults, sinks, tamperedAuthorities, rotation, tracesDropped, resources, gateways, environments }: States,
  tracer?: Pick<Tracer, "called">,
): Promise<ProgramMetrics> {
  const { Counter, Gauge, Registry, collectDefaultMetrics } = (await import("prom-client")).default;
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  await vaultMetrics(registry, vaults);
  await sinkMetrics(registry, sinks);
  await resourceMetrics(registry, resources);
  if (gateways !== undefined) await gatewayMetrics(registry, gateways);
  if (environments !== undefined) await environmentMetrics(registry, environments);
  new Gauge({
    name: "mazevault_pki_tampered_authorities",
    help: "CAs whose CRLs are not made any more, because the status of a certificate was tampered with.",
    registers: [registry],
    collect() {
      this.set(tamperedAuthorities());
    },
  });
  new Gauge({
    name: "mazevault_key_rewraps_left",
    help: "Keys that are still to be wrapped by the newer version of the key that wraps them; told by the leader.",
    registers: [registry],
    collect() {
      this.set(rotation().left);
    },
  });
  new Gauge({
    name: "mazevault_key_rewraps_stuck",
    help: "Those among them that do not open: somebody changed them. What wraps them is not retired.",
    registers: [registry],
    collect() {
      this.set(rotation().stuck);
    },
  });
  new Counter({
    name: "mazevault_traces_dropped_total",
    help: "Spans that the receiver of traces did not get: it was away, refused them, or took them too slowly.",
    registers: [registry],
    collect() {
      this.reset();
      this.inc(tracesDropped());
    },
  });
  const measured = await prometheusMetrics(registry);
  const onCall = (call: TracedCall): void => {
    const { target, operation, code, seconds } = call;
    measured.externalCall(target, operation, code, seconds);
    tracer?.called(call);
  };
  return {
    registry,
    runtime: {
      ...measured,
      externalCall: (target, operation, code, seconds) => onCall({ target, operation, code, seconds }),
    },
    restAnswered: await restMetrics(registry),
    onCall,
  };
}

async function restMetrics(registry: Registry): Promise<ProgramMetrics["restAnswered"]> {
  const { Histogram } = (await import("prom-client")).default;
  const duration = new Histogram({
    name: "mazevault_rest_request_duration_seconds",
    help: "Duration of REST requests, by the route's path as it is documented.",
    labelNames: ["method", "route", "status"] as const,
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10],
    registers: [registry],
  });
  return ({ method, route, status, seconds }) => duration.observe({ method, route, status }, seconds);
}

async function vaultMetrics(registry: Registry, vaults: () => readonly VaultState[]): Promise<void> {
  const { Counter, Gauge } = (await import("prom-client")).default;
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
  new Counter({
    name: "mazevault_keyvault_denied_total",
    help: "Calls that the vault refused with 403, for want of rights or by its firewall; the entry's own state is none.",
    labelNames: ["vault"] as const,
    registers,
    collect() {
      this.reset();
      for (const each of shown()) this.inc(labelsOf(each), each.denied);
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

async function sinkMetrics(registry: Registry, sinks: () => readonly SinkState[]): Promise<void> {
  const { Gauge } = (await import("prom-client")).default;
  const figures: readonly { name: string; help: string; of: (state: SinkState) => number }[] = [
    { name: "rows", help: "Audit rows that wait for the sink's receiver.", of: ({ rows }) => rows },
    {
      name: "seconds",
      help: "For how long the sink's receiver has not had every audit row; 0 when it has.",
      of: ({ seconds }) => seconds,
    },
  ];
  for (const { name, help, of } of figures) {
    new Gauge({
      name: `mazevault_audit_sink_lag_${name}`,
      help,
      labelNames: ["sink"] as const,
      registers: [registry],
      collect() {
        this.reset();
        for (const each of sinks()) this.set({ sink: each.name }, of(each));
      },
    });
  }
}

async function gatewayMetrics(registry: Registry, gateways: () => readonly GatewayFigures[]): Promise<void> {
  const { Gauge } = (await import("prom-client")).default;
  const figures: readonly { name: string; help: string; of: (figures: GatewayFigures) => number | undefined }[] = [
    { name: "health_score", help: "How well the gateway is, from 0.0 to 1.0.", of: ({ score }) => score },
    {
      name: "heartbeat_age_seconds",
      help: "Time since its last heartbeat, or since it registered while there is none.",
      of: ({ ageSeconds }) => ageSeconds,
    },
    {
      name: "certificate_expiry_seconds",
      help: "Time until its certificate ends, as it said last; negative after that.",
      of: ({ certificateSeconds }) => certificateSeconds,
    },
    {
      name: "write_queue_length",
      help: "Writes that wait there for the primary, as it said last.",
      of: ({ queueLength }) => queueLength,
    },
  ];
  for (const { name, help, of } of figures) {
    new Gauge({
      name: `mazevault_gateway_${name}`,
      help: `${help} Told by the leader.`,
      labelNames: ["gateway", "environment", "role"] as const,
      registers: [registry],
      collect() {
        this.reset();
        for (const each of gateways()) {
          const { name: gateway, environment, role } = each;
          const value = of(each);
          if (value !== undefined) this.set({ gateway, environment, role }, value);
        }
      },
    });
  }
}

async function environmentMetrics(
  registry: Registry,
  environments: () => readonly EnvironmentFigures[],
): Promise<void> {
  const { Gauge } = (await import("prom-client")).default;
  new Gauge({
    name: "mazevault_gateway_failover_active",
    help: "1 if DR is active for the environment. Told by the leader.",
    labelNames: ["environment"] as const,
    registers: [registry],
    collect() {
      this.reset();
      for (const { environment, failoverActive } of environments()) this.set({ environment }, failoverActive ? 1 : 0);
    },
  });
}
