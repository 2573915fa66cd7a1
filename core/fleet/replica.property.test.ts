/**
 * Whatever happens at the primary and between it and its gateways: each comes to hold exactly what its environment may have, and at
 * no moment anything that was never of its environment.
 */
import { setTimeout as delay } from "node:timers/promises";
import fc from "fast-check";
import { until } from "../../lab/poll.ts";
import { GatewayWithReplica, type Loss, memberOf, PrimaryOfReplicas } from "./testing/replica-world.ts";

const NAMES = ["a", "b", "c", "d"];
const ENVIRONMENTS = ["dev", "live"];
const GATEWAYS = ["NPR", "PRO"];

type Step =
  | { readonly kind: "put" | "remove"; readonly name: string; readonly environment: string }
  | { readonly kind: "issue"; readonly name: string; readonly of: string | undefined }
  | { readonly kind: "removeCertificate"; readonly name: string }
  | { readonly kind: "project"; readonly dev: string | undefined; readonly live: string | undefined }
  | { readonly kind: "admission"; readonly environments: readonly string[] }
  | { readonly kind: "turn" | "restartGateway"; readonly gateway: number }
  | { readonly kind: "lose"; readonly gateway: number; readonly losses: readonly Loss[] }
  | { readonly kind: "restartPrimary" | "pass" }
  | { readonly kind: "restore"; readonly part: number };

const name = fc.constantFrom(...NAMES);
const environment = fc.constantFrom(...ENVIRONMENTS);
const mapped = fc.constantFrom("NPR", "PRO", undefined);
const gateway = fc.nat({ max: 1 });
const loss: fc.Arbitrary<Loss> = fc.constantFrom("question", "answer", undefined);

const step: fc.Arbitrary<Step> = fc.oneof(
  { weight: 6, arbitrary: fc.record({ kind: fc.constantFrom("put", "put", "remove"), name, environment }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("issue"), name, of: mapped }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("removeCertificate"), name }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("project"), dev: mapped, live: mapped }) },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("admission"), environments: fc.subarray(ENVIRONMENTS) }) },
  { weight: 4, arbitrary: fc.record({ kind: fc.constantFrom("turn", "turn", "restartGateway"), gateway }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("lose"), gateway, losses: fc.array(loss, { maxLength: 4 }) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constantFrom("restartPrimary", "pass", "pass", "pass") }) },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant("restore"), part: fc.double({ min: 0, max: 1, noNaN: true }) }),
  },
) as fc.Arbitrary<Step>;

/** Longer than changes are gathered. */
const SETTLED_MS = 40;

test("replicas converge to exactly what they may have", async () => {
  await fc.assert(
    fc.asyncProperty(fc.array(step, { minLength: 5, maxLength: 40 }), async (steps) => {
      const primary = await PrimaryOfReplicas.start();
      primary.setNamespace("shop");
      let mapping: Record<string, string | undefined> = { dev: "NPR", live: "PRO" };
      let admitted: readonly string[] = ENVIRONMENTS;
      const apply = () =>
        primary.setProject("shop", mapping, { namespaces: [{ name: "shop", environments: [...admitted] }] });
      apply();
      const gateways = await Promise.all(GATEWAYS.map((of) => GatewayWithReplica.start(primary, memberOf(of))));
      /** Private keys of certificates by name, and whose gateways they name. */
      const issued = new Map<string, { readonly of: string | undefined; readonly key: string }>();
      const allowedKeys = (of: string): Readonly<Record<string, string>> => {
        const isAdmitted = admitted.some((each) => mapping[each] === of);
        const named = [...issued].filter(([, certificate]) => isAdmitted && certificate.of === of);
        return Object.fromEntries(named.map(([each, { key }]) => [`shop/${each}`, key]));
      };
      // By gateway: values and private keys that were ever of its environment.
      const ever = GATEWAYS.map(() => new Set<string>());
      const note = () =>
        Promise.all(
          GATEWAYS.map(async (of, at) => {
            for (const value of Object.values(await primary.allowed(of))) ever[at]?.add(value);
            for (const key of Object.values(allowedKeys(of))) ever[at]?.add(key);
          }),
        );
      let values = 0;
      let revision = 0;
      for (const each of steps) {
        switch (each.kind) {
          case "put":
            await primary.put("shop", each.name, "shop", each.environment, `value ${values++}`);
            break;
          case "remove":
            primary.remove("shop", each.name);
            break;
          case "issue":
            revision += 1;
            issued.set(each.name, { of: each.of, key: await primary.issue("shop", each.name, each.of, revision) });
            break;
          case "removeCertificate":
            primary.removeCertificate("shop", each.name);
            issued.delete(each.name);
            break;
          case "project":
            mapping = { dev: each.dev, live: each.live };
            apply();
            break;
          case "admission":
            admitted = each.environments;
            apply();
            break;
          case "turn":
            await gateways[each.gateway]?.turn();
            break;
          case "restartGateway":
            gateways[each.gateway]?.restart();
            break;
          case "lose":
            gateways[each.gateway]?.losses.push(...each.losses);
            break;
          case "restartPrimary":
            await primary.restart();
            break;
          case "pass":
            await delay(SETTLED_MS);
            break;
          case "restore":
            await primary.restoreDatabase(Math.floor(each.part * primary.store.committed.length));
            break;
        }
        await note();
      }
      for (const [at, of] of GATEWAYS.entries()) {
        const one = gateways[at];
        if (one === undefined) throw new Error("there are two");
        one.losses.length = 0;
        const allowed = await primary.allowed(of);
        const converged = async () => {
          await one.settle();
          expect(await one.held()).toEqual(allowed);
          expect(await one.keysHeld()).toEqual(allowedKeys(of));
          return true;
        };
        // The primary gathers changes for a moment before it tells them.
        await until(`the gateway of ${of} holds what it may`, converged, { timeoutMs: 10_000, intervalMs: 5 });
        for (const { answer } of one.asked) {
          const { items = [] } = answer.body as { items?: readonly { values?: { password?: string; key?: string } }[] };
          for (const { values: { password, key } = {} } of items) {
            for (const told of [password, key]) {
              if (told !== undefined) expect([...(ever[at] ?? [])]).toContain(Buffer.from(told, "base64").toString());
            }
          }
        }
        // Whoever starts anew finds the same.
        one.restart();
        expect(await one.held()).toEqual(allowed);
        expect(await one.keysHeld()).toEqual(allowedKeys(of));
      }
      await primary.feed.stop();
    }),
    { numRuns: 60 },
  );
}, 60_000);
