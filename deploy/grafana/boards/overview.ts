/** Is it well, and which part is not: for whoever is on call. */
import { IN, latency, notReady, once, quantile } from "../expressions.ts";
import type { Board } from "../panels.ts";

export const overview: Board = {
  uid: "mazevault-overview",
  title: "MazeVault / Overview",
  description:
    "Is MazeVault well, and if not: is it leadership, the database, the API server, the queue or the resources themselves?",
  rows: [
    {
      title: "Now",
      panels: [
        {
          title: "Replicas that lead",
          description:
            "One for each installation. None: nothing is delivered, rotated, synchronised or signed. For some seconds it is none while another one takes over.",
          as: "figure",
          queries: [{ expr: `sum(mazevault_leader{${IN}})` }],
          limits: { critical: 1, below: true },
          alerts: ["MazeVaultNoLeader"],
        },
        {
          title: "Replicas without a database",
          description:
            "Those of which no call to PostgreSQL succeeds. REST answers 503 there; what is delivered stays.",
          as: "figure",
          queries: [
            {
              expr: `count((sum by (namespace, instance) (rate(mazevault_external_calls_total{${IN}, target="postgres", code!="ok"}[$__rate_interval])) > 0) unless (sum by (namespace, instance) (rate(mazevault_external_calls_total{${IN}, target="postgres", code="ok"}[$__rate_interval])) > 0)) or vector(0)`,
            },
          ],
          limits: { critical: 1 },
          alerts: ["MazeVaultDatabaseAway"],
        },
        {
          title: "Resources that are not Ready",
          description:
            "Of all kinds. Some wait for a person for days, so what has grown counts; which ones they are stands below.",
          as: "figure",
          queries: [{ expr: `sum(${once(`mazevault_resources{${IN}, ready!="True"}`)}) or vector(0)` }],
          limits: { warning: 1 },
        },
        {
          title: "Caches that are cut off",
          description:
            "Caches of resource types that are not complete, or whose watch is not alive: the API server does not answer, or a right is missing.",
          as: "figure",
          queries: [{ expr: `count(mazevault_informer_synced{${IN}} == 0) or vector(0)` }],
          limits: { warning: 1 },
        },
        {
          title: "Audit record behind",
          description:
            "For how long the slowest receiver of the audit record has not had every row. Rows wait in PostgreSQL until it has.",
          as: "figure",
          unit: "s",
          queries: [{ expr: `max(mazevault_audit_sink_lag_seconds{${IN}})` }],
          limits: { warning: 900 },
          alerts: ["MazeVaultAuditSinkBehind"],
        },
        {
          title: "Keys that do not open",
          description: "Wrapped keys whose rows somebody has changed. The key that wraps them cannot be retired.",
          as: "figure",
          queries: [{ expr: `max(mazevault_key_rewraps_stuck{${IN}})` }],
          limits: { critical: 1 },
          alerts: ["MazeVaultKeyRewrapsStuck"],
        },
        {
          title: "Alerts that are told",
          description:
            "Of MazeVault, in any namespace: an alert about what is absent has none. Each has a runbook in docs/runbooks.",
          as: "rows",
          queries: [{ expr: 'ALERTS{alertname=~"MazeVault.*", alertstate="firing"}' }],
          width: 12,
        },
        notReady(
          "What is not Ready, and why",
          "By kind and reason; Unknown: nobody has looked at the manifest as it is. `mazevault doctor` names each of them and says what to do.",
          ".+",
          12,
        ),
      ],
    },
    {
      title: "Resources and reconciles",
      panels: [
        {
          title: "Not Ready, by kind",
          description: "A step after a change of manifests passes; one that stays is worth a look at the table above.",
          as: "graph",
          queries: [
            { expr: `sum by (kind) (${once(`mazevault_resources{${IN}, ready!="True"}`)}) > 0`, legend: "{{kind}}" },
          ],
        },
        {
          title: "Reconciles",
          description:
            "By what came of them. `error` backs off and tries again, `stalled` waits for a change of a manifest, `waiting` looks again later.",
          as: "graph",
          unit: "ops",
          queries: [
            {
              expr: `sum by (outcome) (rate(mazevault_reconcile_duration_seconds_count{${IN}}[$__rate_interval]))`,
              legend: "{{outcome}}",
            },
          ],
        },
        {
          title: "Errors, by reason",
          description:
            "Reconciles that failed, with the reason that the resource's status shows. The reference of conditions says what each means.",
          as: "graph",
          unit: "ops",
          queries: [
            {
              expr: `sum by (controller, reason) (rate(mazevault_reconcile_errors_total{${IN}}[$__rate_interval])) > 0`,
              legend: "{{controller}}: {{reason}}",
            },
          ],
        },
        {
          title: "Duration of a reconcile",
          description: "99 of 100 are faster, by controller. What is slow outside shows in the row below.",
          as: "graph",
          unit: "s",
          queries: [
            {
              expr: quantile(0.99, "controller", "mazevault_reconcile_duration_seconds_bucket"),
              legend: "{{controller}}",
            },
          ],
        },
        {
          title: "Queue",
          description:
            "Keys that are due and wait for a free worker. It fills after a start; one that only grows has workers that are held up.",
          as: "graph",
          queries: [{ expr: `sum by (queue) (mazevault_queue_depth{${IN}})`, legend: "{{queue}}" }],
        },
        {
          title: "Time in the queue",
          description: "From due to begun: 99 of 100 wait less. Users feel this, in what is delivered late.",
          as: "graph",
          unit: "s",
          queries: [{ expr: quantile(0.99, "queue", "mazevault_queue_latency_seconds_bucket"), legend: "{{queue}}" }],
        },
      ],
    },
    {
      title: "Leadership and what is called",
      panels: [
        {
          title: "Leadership",
          description:
            "1 for the replica that leads. Many changes: leases are lost, since the API server or the machine is too slow.",
          as: "graph",
          queries: [{ expr: `mazevault_leader{${IN}}`, legend: "{{instance}}" }],
          alerts: ["MazeVaultNoLeader"],
        },
        {
          title: "Calls, by target",
          description: "Calls to PostgreSQL, Kubernetes, Key Vault and other things outside.",
          as: "graph",
          unit: "reqps",
          queries: [
            {
              expr: `sum by (target) (rate(mazevault_external_calls_total{${IN}}[$__rate_interval]))`,
              legend: "{{target}}",
            },
          ],
        },
        {
          title: "Calls that fail",
          description:
            "By target and code: an SQLSTATE of PostgreSQL, a status of HTTP, or `error` where no answer came. 404 and 409 of Kubernetes are part of the work.",
          as: "graph",
          unit: "reqps",
          queries: [
            {
              expr: `sum by (target, code) (rate(mazevault_external_calls_total{${IN}, code!~"ok|[123]..|404|409"}[$__rate_interval])) > 0`,
              legend: "{{target}}: {{code}}",
            },
          ],
          alerts: ["MazeVaultDatabaseAway"],
        },
        {
          title: "Duration of calls",
          description: "Half, and 99 of 100, of the calls to each target are faster.",
          as: "graph",
          unit: "s",
          queries: latency("target", "mazevault_external_call_duration_seconds_bucket"),
        },
        {
          title: "Caches",
          description: "Caches whose watch is not alive; what they hold may be old.",
          as: "graph",
          queries: [
            { expr: `sum by (informer) (mazevault_informer_synced{${IN}} == bool 0) > 0`, legend: "{{informer}}" },
          ],
        },
        {
          title: "Traces that were dropped",
          description:
            "Spans that their receiver did not get: it is away, refuses them, or is too slow. Nothing else waits for it.",
          as: "graph",
          unit: "ops",
          queries: [
            {
              expr: `sum by (instance) (rate(mazevault_traces_dropped_total{${IN}}[$__rate_interval])) > 0`,
              legend: "{{instance}}",
            },
          ],
        },
        {
          title: "Memory",
          description: "Of each replica. It grows with the number of resources, and should not grow with time.",
          as: "graph",
          unit: "bytes",
          queries: [
            {
              expr: `process_resident_memory_bytes{${IN}} and on (namespace, instance) mazevault_external_calls_total`,
              legend: "{{instance}}",
            },
          ],
        },
      ],
    },
    {
      title: "REST, audit record, keys",
      panels: [
        {
          title: "REST: requests",
          description: "By status. 5xx is ours, and means that something above is not well.",
          as: "graph",
          unit: "reqps",
          queries: [
            {
              expr: `sum by (status) (rate(mazevault_rest_request_duration_seconds_count{${IN}}[$__rate_interval]))`,
              legend: "{{status}}",
            },
          ],
        },
        {
          title: "REST: duration",
          description: "99 of 100 requests are answered faster: the ten slowest routes.",
          as: "graph",
          unit: "s",
          queries: [
            {
              expr: `topk(10, ${quantile(0.99, "route", "mazevault_rest_request_duration_seconds_bucket")})`,
              legend: "{{route}}",
            },
          ],
        },
        {
          title: "REST: answers that fail",
          description: "Share of 5xx in all answers.",
          as: "graph",
          unit: "percentunit",
          queries: [
            {
              expr: `(sum(rate(mazevault_rest_request_duration_seconds_count{${IN}, status=~"5.."}[$__rate_interval])) or vector(0)) / sum(rate(mazevault_rest_request_duration_seconds_count{${IN}}[$__rate_interval]))`,
              legend: "5xx",
            },
          ],
          limits: { warning: 0.01, critical: 0.05 },
        },
        {
          title: "Audit record: rows that wait",
          description: "By sink. As long as a sink stands there, no row goes that it has not had.",
          as: "graph",
          queries: [{ expr: `max by (sink) (mazevault_audit_sink_lag_rows{${IN}})`, legend: "{{sink}}" }],
          alerts: ["MazeVaultAuditSinkBehind"],
        },
        {
          title: "Keys to be wrapped anew",
          description:
            "After a rotation of the key that wraps them. It falls to 0; then the former key may be retired.",
          as: "graph",
          queries: [
            { expr: `max(mazevault_key_rewraps_left{${IN}})`, legend: "left" },
            { expr: `max(mazevault_key_rewraps_stuck{${IN}})`, legend: "do not open" },
          ],
          alerts: ["MazeVaultKeyRewrapsStuck"],
        },
      ],
    },
  ],
};
