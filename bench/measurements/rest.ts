/** REST reads: TLS, a token of a session, a grant, decryption, and the audit row that is durable before the value leaves. */
import { readFileSync } from "node:fs";
import { scrape, total } from "../../e2e/harness.ts";
import { firstAdmin, RestClient } from "../../e2e/rest-client.ts";
import type { Rest } from "../../lab/mazevault.ts";
import { httpLoad } from "../http-load.ts";
import { secretName } from "../manifests.ts";
import { profiling, summarizeProfile } from "../profile.ts";
import type { Result } from "../result.ts";
import { type Stage, TENANT } from "../stage.ts";

const CONNECTIONS = 32;
const LOAD_MS = 10_000;
const WARM_UP_MS = 2_000;
/** Else the limits would be measured. */
const UNLIMITED = { requestsPerAddress: 1_000_000, requestsPerSubject: 1_000_000 };

export async function rest(stage: Stage): Promise<Result> {
  const { some } = stage.sizes;
  const figures = await stage.withRest({ config: { rest: UNLIMITED } }, async (rest) => {
    const watch = await stage.watchDelivery(TENANT, 0, some);
    await stage.applySecrets(TENANT, 0, some);
    await watch.delivered();
    return read(stage, rest);
  });
  stage.report("the same under the profiler");
  const { dir, nodeArgs } = profiling(`rest-${some}`);
  await stage.withRest({ config: { rest: UNLIMITED }, nodeArgs }, (rest) => read(stage, rest));
  return { name: `rest-${some}`, figures, details: { profile: summarizeProfile(dir) } };
}

async function read(stage: Stage, rest: Rest): Promise<Result["figures"]> {
  const { world } = stage;
  const { some } = stage.sizes;
  const client = RestClient.of(world, rest);
  const { email, password } = await firstAdmin(world);
  const token = await client.login(email, password);
  await client.close();
  const { port } = new URL(rest.restUrl);
  let turn = 0;
  const next = (): Buffer => {
    turn = (turn + 1) % some;
    const path = `/api/v1/namespaces/${TENANT}/secrets/${secretName(turn)}/values`;
    return Buffer.from(`GET ${path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer ${token}\r\n\r\n`);
  };
  const load = (milliseconds: number) =>
    httpLoad({
      port: Number(port),
      ca: readFileSync(world.lab.pki.caFile),
      connections: CONNECTIONS,
      milliseconds,
      next,
      isRight: (body) => body.includes('"values"'),
    });
  stage.report("reading values by REST");
  await load(WARM_UP_MS);
  const cpu = async () => total(await scrape(rest), "process_cpu_seconds_total");
  const rows = async () =>
    Number((await world.sql<{ n: string }>("SELECT count(*) AS n FROM audit WHERE action = 'SecretRead'"))[0]?.n);
  const [cpuBefore, rowsBefore] = [await cpu(), await rows()];
  const { perSecond, p50Ms, p99Ms, wrong } = await load(LOAD_MS);
  const cpuSeconds = (await cpu()) - cpuBefore;
  const reads = Math.round(perSecond * (LOAD_MS / 1_000));
  if (wrong > 0) throw new Error(`${wrong} reads were not answered`);
  if ((await rows()) - rowsBefore < reads * 0.99) throw new Error("some reads are not on record");
  return [
    {
      what: `reads of a secret, ${CONNECTIONS} connections`,
      value: perSecond,
      unit: "/s",
      aim: { atLeast: 1_500 },
    },
    { what: "p50", value: p50Ms, unit: "ms" },
    { what: "p99", value: p99Ms, unit: "ms", aim: { atMost: 30 } },
    { what: "CPU of REST for each", value: (cpuSeconds * 1_000) / reads, unit: "ms" },
  ];
}
