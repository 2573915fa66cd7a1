/** Expressions that several dashboards have. */
import type { Panel, Query } from "./panels.ts";

export const IN = 'namespace=~"$namespace"';

/** What every replica tells, or only the leader of them, counts once. */
export const once = (selector: string): string => `max without (instance, pod) (${selector})`;

export const quantile = (share: number, by: string, bucket: string, matchers = ""): string =>
  `histogram_quantile(${share}, sum by (${by}, le) (rate(${bucket}{${IN}${matchers}}[$__rate_interval])))`;

/** Of each series two lines: what half of it took at the most, and 99 of 100. */
export const latency = (by: string, bucket: string, matchers = ""): readonly Query[] => [
  { expr: quantile(0.5, by, bucket, matchers), legend: `{{${by}}}, half` },
  { expr: quantile(0.99, by, bucket, matchers), legend: `{{${by}}}, 99 of 100` },
];

export const notReady = (title: string, description: string, kinds: string, width?: number): Panel => ({
  title,
  description,
  as: "rows",
  queries: [
    {
      expr: `sum by (kind, ready, reason) (${once(`mazevault_resources{${IN}, ready!="True", kind=~"${kinds}"}`)}) > 0`,
    },
  ],
  ...(width !== undefined && { width }),
});
