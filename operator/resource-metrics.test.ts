import { Registry } from "prom-client";
import type { Condition } from "../crds/common.ts";
import { type CountedResources, resourceMetrics } from "./resource-metrics.ts";

const HOUR = 3_600_000;
const DAY = 24 * HOUR;
const at = (ms: number): string => new Date(Date.now() + ms).toISOString();

const ready = (status: Condition["status"], reason: string, observedGeneration = 1): readonly Condition[] => [
  { type: "Stored", status: "True", reason: "Succeeded", message: "", lastTransitionTime: at(0), observedGeneration },
  { type: "Ready", status, reason, message: "", lastTransitionTime: at(0), observedGeneration },
];

const object = (kind: string, conditions?: readonly Condition[]) => ({
  kind,
  metadata: { generation: 1 },
  status: { conditions },
});

const certificate = (status?: { notAfter: string; renewalTime: string }) =>
  ({ metadata: { name: "a" }, ...(status && { status }) }) as never;
const rule = (direction: string, pending?: number) => ({ spec: { direction }, status: { pending } }) as never;

const known: CountedResources = {
  everything: () => [
    object("Secret", ready("True", "Succeeded")),
    object("Secret", ready("True", "Succeeded")),
    object("Secret", ready("False", "SourceNotFound")),
    object("Secret", ready("True", "Succeeded", 0)),
    object("Gateway"),
  ],
  certificates: () => [
    certificate(),
    certificate({ notAfter: at(-1), renewalTime: at(-DAY) }),
    certificate({ notAfter: at(12 * HOUR), renewalTime: at(-2 * HOUR) }),
    certificate({ notAfter: at(12 * HOUR), renewalTime: at(-HOUR / 2) }),
    certificate({ notAfter: at(20 * DAY), renewalTime: at(DAY) }),
    certificate({ notAfter: at(90 * DAY), renewalTime: at(60 * DAY) }),
  ],
  syncRules: () => [rule("Push", 3), rule("Push", 4), rule("Pull"), rule("Bidirectional", 0)],
};

async function told(resources: () => CountedResources | undefined): Promise<readonly string[]> {
  const registry = new Registry();
  await resourceMetrics(registry, resources);
  return (await registry.metrics()).split("\n").filter((line) => line.startsWith("mazevault_"));
}

test("resources are counted, and what nobody has looked at as it is counts as Unknown", async () => {
  expect(await told(() => known)).toEqual([
    'mazevault_resources{kind="Secret",ready="True",reason="Succeeded"} 2',
    'mazevault_resources{kind="Secret",ready="False",reason="SourceNotFound"} 1',
    'mazevault_resources{kind="Secret",ready="Unknown",reason=""} 1',
    'mazevault_resources{kind="Gateway",ready="Unknown",reason=""} 1',
    'mazevault_certificates{state="Missing"} 1',
    'mazevault_certificates{state="Valid"} 3',
    'mazevault_certificates{state="RenewalDue"} 1',
    'mazevault_certificates{state="Ended"} 1',
    'mazevault_certificates_ending{days="1"} 2',
    'mazevault_certificates_ending{days="7"} 2',
    'mazevault_certificates_ending{days="30"} 3',
    'mazevault_sync_pending_entries{direction="Push"} 7',
    'mazevault_sync_pending_entries{direction="Pull"} 0',
    'mazevault_sync_pending_entries{direction="Bidirectional"} 0',
  ]);
});

test("what is not known is not told as none", async () => {
  expect(await told(() => undefined)).toEqual([]);
});
