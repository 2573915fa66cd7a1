import { judge, type Series } from "./promql.ts";

const known = new Map<string, Series>([
  ["calls_total", { type: "counter", labels: new Set(["target", "code"]) }],
  ["depth", { type: "gauge", labels: new Set(["queue"]) }],
  ["took_seconds_bucket", { type: "bucket", labels: new Set(["route", "le"]) }],
  ["took_seconds_count", { type: "counter", labels: new Set(["route"]) }],
]);

test.each([
  ['sum by (code) (rate(calls_total{target="a"}[5m])) > 0', ["code"]],
  ["histogram_quantile(0.9, sum by (route, le) (rate(took_seconds_bucket[5m])))", ["route"]],
  ["max without (instance, pod, namespace) (depth) or vector(0)", ["job", "queue"]],
  ["60 * sum(increase(took_seconds_count[1h]))", []],
  ["sum by (queue) (depth) and on (queue) sum by (queue, job) (depth)", ["queue"]],
  ["topk(3, sum by (queue) (depth))", ["queue"]],
  ["absent(calls_total)", ["code", "instance", "job", "namespace", "pod", "target"]],
  ["calls_total > 0 unless calls_total offset 1h", ["code", "instance", "job", "namespace", "pod", "target"]],
])("%s makes sense", (expr, labels) => {
  const judgement = judge(expr, known);
  expect(judgement.problems).toEqual([]);
  expect([...judgement.labels].toSorted()).toEqual(labels);
});

test.each([
  ["sum(rate(call_total[5m]))", "call_total is told by no program"],
  ['depth{target="a"}', "depth has no label target"],
  ["sum by (route) (depth)", "sum by (route) (depth) has no label route to group by"],
  ["max without (route) (depth)", "max without (route) (depth) has no label route to group by"],
  ["depth and on (code) calls_total", "depth and on (code) calls_total has no label code on both sides"],
  ["rate(depth[5m])", "depth is a gauge, so it has no rate"],
  ["sum(calls_total)", "calls_total is a counter, so its rate or increase counts"],
  ["max_over_time(calls_total[5m])", "calls_total is a counter, so its rate or increase counts"],
  ["sum(rate(took_seconds_bucket[5m]))", "took_seconds_bucket is a bucket, which only makes sense in a quantile"],
  [
    "histogram_quantile(0.9, sum by (route, le) (took_seconds_bucket))",
    "took_seconds_bucket is a bucket, so its rate or increase counts",
  ],
  [
    "histogram_quantile(0.9, sum by (route) (rate(took_seconds_bucket[5m])))",
    "histogram_quantile(0.9, sum by (route) (rate(took_seconds_bucket[5m]))) has no label le to make a quantile of",
  ],
  ["sum(depth", "it does not parse at 9: sum(depth"],
])("%s makes none", (expr, problem) => {
  expect(judge(expr, known).problems).toContain(problem);
});
