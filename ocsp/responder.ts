import { setTimeout as delay } from "node:timers/promises";
import { HintListener } from "../adapters/postgres/hint-listener.ts";
import { PostgresOcspStore } from "../adapters/postgres/ocsp-store.ts";
import { PKI_CHANNEL } from "../adapters/postgres/outbox-hint.ts";
import { databaseOptions } from "../program/common-settings.ts";
import { HealthServer } from "../program/health.ts";
import type { Logger } from "../program/logging.ts";
import { followTls, readTls } from "../program/tls.ts";
import { Answers } from "./answers.ts";
import type { Config } from "./config.ts";
import { Documents } from "./documents.ts";
import { responderMetrics } from "./metrics.ts";
import { readiness } from "./readiness.ts";
import { Register } from "./register.ts";
import { ResponderKeys } from "./responder-keys.ts";
import { OcspServer } from "./server.ts";
import { Synchronisation } from "./synchronisation.ts";
import { newTraffic } from "./traffic.ts";

/** From one look at all answers to the next. */
const PREPARE_EVERY_MS = 5_000;
/** What is wrong with one answer is wrong with all. */
const FAULTS_APART_MS = 60_000;

/** Composes the responder and starts it; resolves with what ends it. */
export async function startResponder(config: Config, log: Logger): Promise<() => Promise<void>> {
  const now = Date.now;
  const register = new Register();
  const documents = new Documents();
  const traffic = newTraffic();
  const metrics = await responderMetrics({ register, traffic, tampered: () => synchronisation.tampered, now });
  const connection = {
    ...databaseOptions(config.database),
    applicationName: "mazevault-ocsp",
    onCall: metrics.databaseCall,
  };
  const store = new PostgresOcspStore(connection);
  const keys = new ResponderKeys({ store, log, now });
  const synchronisation = new Synchronisation({ store, register, documents, keys, log, now });
  let quietUntil = 0;
  const answers = new Answers({
    register,
    caughtUp: () => synchronisation.caughtUp(),
    onSigned: () => {
      traffic.signatures += 1;
    },
    onFaulty: (faults) => {
      traffic.faulty += 1;
      if (now() < quietUntil) return;
      quietUntil = now() + FAULTS_APART_MS;
      log.error({ faults }, "an answer that was signed is not given, because it has faults");
    },
    now,
  });
  const tls = readTls("http", config.http);
  const server = new OcspServer({
    ...config.http,
    ...(tls && { tls }),
    answers,
    documents,
    traffic,
    onError: (error) => log.error({ error }, "a request could not be answered"),
    now,
  });
  const hints = new HintListener({ connection, channel: PKI_CHANNEL, onHint: () => synchronisation.hint() });

  const health = new HealthServer({
    ...config.health,
    live: [{ name: "process", check: () => undefined }],
    ready: readiness(register),
    readyNotes: [
      {
        name: "answers",
        says: () => (synchronisation.problem === undefined ? "current" : "from memory, until they end"),
      },
    ],
    metrics: () => metrics.registry.metrics(),
  });

  const healthPort = await health.listen();
  const port = await server.listen();
  log.info({ port, healthPort, pid: process.pid, tls: tls !== undefined }, "Starting the OCSP responder of MazeVault");
  const stopTls =
    tls === undefined ? undefined : followTls("http", config.http, log, (context) => server.useTls(context));
  synchronisation.start();
  hints.start();
  const stopped = new AbortController();
  const prepared = prepareAgain(answers, stopped.signal, log);

  return async () => {
    stopped.abort();
    stopTls?.();
    await server.close();
    await hints.stop();
    await Promise.all([synchronisation.stop(), prepared]);
    await store.close();
    await health.close();
  };
}

async function prepareAgain(answers: Answers, signal: AbortSignal, log: Logger): Promise<void> {
  while (!signal.aborted) {
    await answers.prepare(signal).catch((error: unknown) => log.error({ error }, "answers could not be signed"));
    await delay(PREPARE_EVERY_MS, undefined, { signal }).catch(() => undefined);
  }
}
