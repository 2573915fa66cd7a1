/** Gateways, and which of them acts. */
import { IN, latency, notReady, once } from "../expressions.ts";
import type { Board } from "../panels.ts";

export const fleet: Board = {
  uid: "mazevault-fleet",
  title: "MazeVault / Fleet",
  description:
    "Are the gateways in touch and well, and which of each environment acts? The last row is what gateways tell of themselves, where this Prometheus scrapes them.",
  rows: [
    {
      title: "Now",
      panels: [
        {
          title: "Lowest health score",
          description:
            "Of a gateway, from 0.0 to 1.0; from 0.8 on it is well. The page of metrics has how it is computed.",
          as: "figure",
          queries: [{ expr: `min(${once(`mazevault_gateway_health_score{${IN}}`)})` }],
          limits: { warning: 0.8, critical: 0.5, below: true },
          alerts: ["MazeVaultGatewayHealthScore"],
        },
        {
          title: "Oldest heartbeat",
          description: "They come each minute; after three minutes the gateway counts as silent.",
          as: "figure",
          unit: "s",
          queries: [{ expr: `max(mazevault_gateway_heartbeat_age_seconds{${IN}})` }],
          limits: { warning: 90, critical: 180 },
          alerts: ["MazeVaultGatewayOffline"],
        },
        {
          title: "Longest queue of writes",
          description: "Writes that a gateway has accepted and that wait for the primary.",
          as: "figure",
          queries: [{ expr: `max(mazevault_gateway_write_queue_length{${IN}})` }],
          limits: { warning: 100, critical: 1000 },
          alerts: ["MazeVaultGatewayWriteQueue"],
        },
        {
          title: "Environments on their standby",
          description: "DR is active: nothing else would take over from that gateway.",
          as: "figure",
          queries: [{ expr: `sum(${once(`mazevault_gateway_failover_active{${IN}}`)}) or vector(0)` }],
          limits: { warning: 1 },
          alerts: ["MazeVaultFailoverActive"],
        },
        {
          title: "Next certificate ends in",
          description: "Of a gateway. It is renewed when a third of its life is left.",
          as: "figure",
          unit: "s",
          queries: [{ expr: `min(mazevault_gateway_certificate_expiry_seconds{${IN}})` }],
          limits: { warning: 30 * 86_400, critical: 7 * 86_400, below: true },
          alerts: ["MazeVaultGatewayCertificateExpiry"],
        },
        {
          title: "Tasks that fail",
          description: "Share of the tasks of the last 15 minutes that came to nothing.",
          as: "figure",
          unit: "percentunit",
          queries: [
            {
              expr: `sum(increase(mazevault_gateway_tasks_total{${IN}, status!="Succeeded"}[15m])) / sum(increase(mazevault_gateway_tasks_total{${IN}}[15m]))`,
            },
          ],
          limits: { warning: 0.1 },
          alerts: ["MazeVaultGatewayTasksFailing"],
        },
      ],
    },
    {
      title: "Gateways, as the primary sees them",
      panels: [
        {
          title: "Health score",
          description: "1.0 is well; heartbeats, problems, queue and certificate take from it.",
          as: "graph",
          queries: [
            {
              expr: `max by (gateway, environment, role) (mazevault_gateway_health_score{${IN}})`,
              legend: "{{gateway}} ({{environment}}, {{role}})",
            },
          ],
          limits: { warning: 0.8, below: true },
          alerts: ["MazeVaultGatewayHealthScore"],
        },
        {
          title: "Age of the last heartbeat",
          description: "A saw of a minute is well.",
          as: "graph",
          unit: "s",
          queries: [
            {
              expr: `max by (gateway, environment, role) (mazevault_gateway_heartbeat_age_seconds{${IN}})`,
              legend: "{{gateway}} ({{environment}}, {{role}})",
            },
          ],
          limits: { critical: 180 },
          alerts: ["MazeVaultGatewayOffline"],
        },
        {
          title: "Writes that wait",
          description: "At each gateway, as it said last; without a name where the gateway itself tells it.",
          as: "graph",
          queries: [
            {
              expr: `max by (gateway, environment, role) (mazevault_gateway_write_queue_length{${IN}})`,
              legend: "{{gateway}} ({{environment}}, {{role}})",
            },
          ],
          limits: { critical: 1000 },
          alerts: ["MazeVaultGatewayWriteQueue"],
        },
        {
          title: "Certificates end in",
          description: "It jumps up at each renewal.",
          as: "graph",
          unit: "s",
          queries: [
            { expr: `min by (gateway) (mazevault_gateway_certificate_expiry_seconds{${IN}})`, legend: "{{gateway}}" },
          ],
          alerts: ["MazeVaultGatewayCertificateExpiry"],
        },
        {
          title: "Tasks",
          description: "What the primary has gateways do, by what came of it.",
          as: "graph",
          unit: "ops",
          queries: [
            {
              expr: `sum by (environment, status) (rate(mazevault_gateway_tasks_total{${IN}}[$__rate_interval]))`,
              legend: "{{environment}}: {{status}}",
            },
          ],
          alerts: ["MazeVaultGatewayTasksFailing"],
        },
        {
          title: "Duration of tasks",
          description: "From made to ended; above ten seconds something is not well.",
          as: "graph",
          unit: "s",
          queries: latency("environment", "mazevault_gateway_task_duration_seconds_bucket"),
          limits: { warning: 10 },
          alerts: ["MazeVaultGatewayTasksSlow"],
        },
        {
          title: "Failover",
          description: "1 while the standby is in charge of the environment.",
          as: "graph",
          queries: [
            { expr: `max by (environment) (mazevault_gateway_failover_active{${IN}})`, legend: "{{environment}}" },
          ],
          alerts: ["MazeVaultFailoverActive"],
        },
        notReady(
          "Gateways, environments and failovers that are not Ready",
          "HeartbeatMissing, AwaitingRegistration and Fencing say which step is missing.",
          "Gateway|GatewayEnvironment|Failover",
          16,
        ),
      ],
    },
    {
      title: "Gateways, as they see themselves",
      panels: [
        {
          title: "Registered",
          description: "1 while the primary knows the gateway.",
          as: "graph",
          queries: [{ expr: `max by (namespace) (mazevault_gateway_registered{${IN}})`, legend: "{{namespace}}" }],
        },
        {
          title: "Heartbeats without an answer",
          description: "In a row, and each minute; more than three in a row ask for a look.",
          as: "graph",
          queries: [
            {
              expr: `max by (namespace) (mazevault_gateway_heartbeat_consecutive_failures{${IN}})`,
              legend: "{{namespace}}, in a row",
            },
            {
              expr: `60 * sum by (namespace) (rate(mazevault_gateway_heartbeat_failures_total{${IN}}[$__rate_interval]))`,
              legend: "{{namespace}}, each minute",
            },
          ],
          limits: { critical: 4 },
          alerts: ["MazeVaultGatewayHeartbeatFailures"],
        },
        {
          title: "Circuit breaker to the primary",
          description: "1 while it is open or tries half open; the gateway answers from its own copy then.",
          as: "graph",
          queries: [
            {
              expr: `max by (namespace, state) (mazevault_gateway_circuit_breaker_state{${IN}, state!="Closed"})`,
              legend: "{{namespace}}: {{state}}",
            },
          ],
          alerts: ["MazeVaultGatewayCircuitBreakerOpen"],
        },
        {
          title: "Oldest write that waits",
          description: "For how long users wait for what they have written to arrive at the primary.",
          as: "graph",
          unit: "s",
          queries: [
            {
              expr: `max by (namespace) (mazevault_gateway_write_queue_oldest_age_seconds{${IN}})`,
              legend: "{{namespace}}",
            },
          ],
          alerts: ["MazeVaultGatewayWriteQueue"],
        },
        {
          title: "Age of the copy",
          description: "Since the primary last confirmed it; above gateway.offlineLimit nothing of it is served.",
          as: "graph",
          unit: "s",
          queries: [
            {
              expr: `max by (namespace, environment) (mazevault_gateway_replica_age_seconds{${IN}})`,
              legend: "{{namespace}} ({{environment}})",
            },
          ],
        },
        {
          title: "Secrets in the copy",
          description: "Of the primary, that the gateway holds and can serve while the primary is away.",
          as: "graph",
          queries: [{ expr: `max by (namespace) (mazevault_gateway_replica_secrets{${IN}})`, legend: "{{namespace}}" }],
        },
      ],
    },
  ],
};
