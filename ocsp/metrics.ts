import type { Registry } from "prom-client";
import type { DatabaseCall } from "../adapters/postgres/database.ts";
import type { Register } from "./register.ts";
import type { Traffic } from "./traffic.ts";

export interface MetricsSources {
  readonly register: Register;
  readonly traffic: Traffic;
  /** What the database says and the CAs' signatures contradict. */
  readonly tampered: () => number;
  readonly now: () => number;
}

export interface ResponderMetrics {
  readonly registry: Registry;
  databaseCall(call: DatabaseCall): void;
}

/** Gathered when somebody looks, so that answering costs no more than an addition. */
export async function responderMetrics({
  register,
  traffic,
  tampered,
  now,
}: MetricsSources): Promise<ResponderMetrics> {
  const { collectDefaultMetrics, Counter, Gauge, Registry } = (await import("prom-client")).default;
  const registry = new Registry();
  const registers = [registry];
  collectDefaultMetrics({ register: registry });

  const { signatures: _, faulty: __, ...results } = traffic;
  new Counter({
    name: "mazevault_ocsp_requests_total",
    help: "Requests by what became of them: kept and signedForOne are answers, documents are CRLs and CA certificates.",
    labelNames: ["result"] as const,
    registers,
    collect() {
      this.reset();
      for (const result of Object.keys(results) as (keyof typeof results)[]) this.inc({ result }, traffic[result]);
    },
  });
  new Counter({
    name: "mazevault_ocsp_signatures_total",
    help: "Responses signed, in advance or for one request.",
    registers,
    collect() {
      this.reset();
      this.inc(traffic.signatures);
    },
  });
  new Counter({
    name: "mazevault_ocsp_faulty_total",
    help: "Responses that were signed and are not given, because reading them again found fault with them.",
    registers,
    collect() {
      this.reset();
      this.inc(traffic.faulty);
    },
  });
  new Gauge({
    name: "mazevault_ocsp_tampered",
    help: "Certificates and CRLs of which the database says what the CA's signature contradicts; the signature is believed.",
    registers,
    collect() {
      this.set(tampered());
    },
  });
  new Gauge({
    name: "mazevault_ocsp_certificates",
    help: "Certificates that are answered for, by authority and generation of its key.",
    labelNames: ["authority", "generation"] as const,
    registers,
    collect() {
      this.reset();
      for (const { issuer, certificates } of register.authorities) {
        this.set({ authority: issuer.authorityId, generation: issuer.generation }, certificates.size);
      }
    },
  });
  new Gauge({
    name: "mazevault_ocsp_responder_not_after_timestamp_seconds",
    help: "End of the certificate that signs the answers; 0 while there is none and every answer is tryLater.",
    labelNames: ["authority", "generation"] as const,
    registers,
    collect() {
      this.reset();
      for (const { issuer, responder } of register.authorities) {
        const labels = { authority: issuer.authorityId, generation: issuer.generation };
        this.set(labels, (responder?.notAfter ?? 0) / 1000);
      }
    },
  });
  new Gauge({
    name: "mazevault_ocsp_behind_seconds",
    help: "How long ago the database was last read; answers go on until they have ended. -1 before the first time.",
    registers,
    collect() {
      this.set(register.syncedAt === undefined ? -1 : (now() - register.syncedAt) / 1000);
    },
  });
  const calls = new Counter({
    name: "mazevault_external_calls_total",
    help: "Calls to PostgreSQL; code is an SQLSTATE, ok or error.",
    labelNames: ["target", "operation", "code"] as const,
    registers,
  });
  return {
    registry,
    databaseCall: ({ target, operation, code }) => calls.inc({ target, operation, code }),
  };
}
