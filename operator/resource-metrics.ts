import type { Registry } from "prom-client";
import type { Certificate } from "../crds/certificate.ts";
import type { Condition } from "../crds/common.ts";
import type { SyncRule } from "../crds/syncrule.ts";

/** What is counted; the caches of every replica have it. */
export interface CountedResources {
  everything(): Iterable<Counted>;
  certificates(): Iterable<Pick<Certificate, "metadata" | "status">>;
  syncRules(): Iterable<Pick<SyncRule, "spec" | "status">>;
}

interface Counted {
  readonly kind: string;
  readonly metadata: { readonly generation?: number | undefined };
  readonly status?: { readonly conditions?: readonly Condition[] | undefined } | undefined;
}

const DAY_MS = 86_400_000;
const DAYS = [1, 7, 30] as const;
const CERTIFICATE_STATES = ["Missing", "Valid", "RenewalDue", "Ended"] as const;
type CertificateState = (typeof CERTIFICATE_STATES)[number];

/** Counts, since a series for each of 10,000 resources would cost a Prometheus more than it tells. Counted at each scrape. */
export async function resourceMetrics(registry: Registry, resources: () => CountedResources | undefined) {
  const { Gauge } = (await import("prom-client")).default;
  const registers = [registry];
  new Gauge({
    name: "mazevault_resources",
    help: "Resources, by kind, status of their condition Ready and its reason; ready is Unknown and reason empty while nobody has looked at the manifest as it is.",
    labelNames: ["kind", "ready", "reason"] as const,
    registers,
    collect() {
      this.reset();
      for (const resource of resources()?.everything() ?? []) this.inc({ kind: resource.kind, ...readiness(resource) });
    },
  });
  new Gauge({
    name: "mazevault_certificates",
    help: "Certificates, by state: Missing (not issued yet), Valid, RenewalDue (valid, and its renewal is over an hour late) and Ended.",
    labelNames: ["state"] as const,
    registers,
    collect() {
      this.reset();
      const known = resources();
      if (known === undefined) return;
      for (const state of CERTIFICATE_STATES) this.set({ state }, 0);
      for (const certificate of known.certificates()) this.inc({ state: stateOf(certificate, Date.now()) });
    },
  });
  new Gauge({
    name: "mazevault_certificates_ending",
    help: `Certificates that are valid and end within so many days: ${DAYS.join(", ")}; each counts with the longer ones too.`,
    labelNames: ["days"] as const,
    registers,
    collect() {
      this.reset();
      const known = resources();
      if (known === undefined) return;
      for (const days of DAYS) this.set({ days }, 0);
      for (const { status } of known.certificates()) {
        const left = Date.parse(status?.notAfter ?? "") - Date.now();
        for (const days of DAYS) if (left > 0 && left <= days * DAY_MS) this.inc({ days });
      }
    },
  });
  new Gauge({
    name: "mazevault_sync_pending_entries",
    help: "Entries of SyncRules that are not in step, by direction of the rule.",
    labelNames: ["direction"] as const,
    registers,
    collect() {
      this.reset();
      for (const { spec, status } of resources()?.syncRules() ?? [])
        this.inc({ direction: spec.direction }, status?.pending ?? 0);
    },
  });
}

function readiness({ metadata, status }: Counted): { readonly ready: string; readonly reason: string } {
  const condition = status?.conditions?.find(({ type }) => type === "Ready");
  return condition === undefined || condition.observedGeneration !== metadata.generation
    ? { ready: "Unknown", reason: "" }
    : { ready: condition.status, reason: condition.reason };
}

/** A renewal begins when it is due and takes a moment, longer where a person approves. */
const RENEWAL_MS = 3_600_000;

function stateOf({ status }: Pick<Certificate, "status">, now: number): CertificateState {
  if (status?.notAfter === undefined) return "Missing";
  if (Date.parse(status.notAfter) <= now) return "Ended";
  return Date.parse(status.renewalTime ?? "") + RENEWAL_MS <= now ? "RenewalDue" : "Valid";
}
