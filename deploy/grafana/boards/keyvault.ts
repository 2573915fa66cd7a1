/** Key Vaults, and what is synchronised with them and with other namespaces. */
import { IN, notReady, once, quantile } from "../expressions.ts";
import type { Board } from "../panels.ts";

export const keyVault: Board = {
  uid: "mazevault-keyvault",
  title: "MazeVault / Key Vault and sync",
  description: "Is everything in step with the Key Vaults, and does their budget suffice?",
  rows: [
    {
      title: "Now",
      panels: [
        {
          title: "Entries that are not in step",
          description: "Of all SyncRules. A mass change waits here for a release, a throttled vault for its pause.",
          as: "figure",
          queries: [{ expr: `sum(${once(`mazevault_sync_pending_entries{${IN}}`)}) or vector(0)` }],
          limits: { warning: 1 },
        },
        {
          title: "Conflicts for a person",
          description:
            "SyncConflicts that are open: both sides were changed, and spec.resolution of each wants KeepPlatform or KeepTarget.",
          as: "figure",
          queries: [
            { expr: `sum(${once(`mazevault_resources{${IN}, kind="SyncConflict", ready!="True"}`)}) or vector(0)` },
          ],
          limits: { warning: 1 },
        },
        {
          title: "Vaults that do not answer",
          description: "Their circuit breaker is not closed: one call at a time tries whether they are well.",
          as: "figure",
          queries: [
            {
              expr: `count(max by (vault) (mazevault_keyvault_breaker_state{${IN}, state="Closed"} == 0 and on (instance) mazevault_leader == 1)) or vector(0)`,
            },
          ],
          limits: { warning: 1 },
          alerts: ["MazeVaultKeyVaultDown"],
        },
        {
          title: "Vaults that deny access",
          description: "With 403 in the last hour: a role is missing, or their firewall does not let us in.",
          as: "figure",
          queries: [
            { expr: `count(sum by (vault) (increase(mazevault_keyvault_denied_total{${IN}}[1h])) > 0) or vector(0)` },
          ],
          limits: { warning: 1 },
          alerts: ["MazeVaultKeyVaultAccessDenied"],
        },
        {
          title: "Longest pause",
          description: "How long a vault that throttles us wants not to be called.",
          as: "figure",
          unit: "s",
          queries: [{ expr: `max(mazevault_keyvault_paused_seconds{${IN}})` }],
          limits: { warning: 1 },
        },
        {
          title: "Vaults in use",
          description: "The first 200 have figures of their own.",
          as: "figure",
          queries: [{ expr: `max(mazevault_keyvault_vaults{${IN}})` }],
        },
      ],
    },
    {
      title: "Sync",
      panels: [
        {
          title: "Entries that are not in step",
          description: "By direction of the rule. It falls as fast as the budget lets it.",
          as: "graph",
          queries: [
            {
              expr: `sum by (direction) (${once(`mazevault_sync_pending_entries{${IN}}`)})`,
              legend: "{{direction}}",
            },
          ],
        },
        notReady(
          "Rules, conflicts and vaults that are not Ready",
          "ChangedOnBothSides wants a decision, TooManyDeletions and ProtectedEnvironment a release; the reference of conditions has the others.",
          "SyncRule|SyncConflict|KeyVault",
          16,
        ),
      ],
    },
    {
      title: "Calls",
      panels: [
        {
          title: "Calls to Key Vault",
          description: "By operation. While nothing changes there are lists alone.",
          as: "graph",
          unit: "reqps",
          queries: [
            {
              expr: `sum by (operation) (rate(mazevault_external_calls_total{${IN}, target="keyvault"}[$__rate_interval]))`,
              legend: "{{operation}}",
            },
          ],
        },
        {
          title: "Answers that are none",
          description:
            "429 asks for a pause, 403 denies access, `error` is no answer; of the vaults and of Entra ID, which lets us in.",
          as: "graph",
          unit: "reqps",
          queries: [
            {
              expr: `sum by (target, code) (rate(mazevault_external_calls_total{${IN}, target=~"keyvault|entra", code!~"ok|[123]..|404"}[$__rate_interval])) > 0`,
              legend: "{{target}}: {{code}}",
            },
          ],
          alerts: ["MazeVaultKeyVaultAccessDenied", "MazeVaultKeyVaultDown"],
        },
        {
          title: "Duration of a call",
          description: "99 of 100 are faster, by operation.",
          as: "graph",
          unit: "s",
          queries: [
            {
              expr: quantile(
                0.99,
                "operation",
                "mazevault_external_call_duration_seconds_bucket",
                ', target="keyvault"',
              ),
              legend: "{{operation}}",
            },
          ],
        },
      ],
    },
    {
      title: "Each vault",
      panels: [
        {
          title: "Budget that is used",
          description: "Share of the calls that a vault may get in ten seconds, over all replicas.",
          as: "graph",
          unit: "percentunit",
          queries: [
            {
              expr: `max by (vault) (mazevault_keyvault_budget_used{${IN}} / mazevault_keyvault_budget_limit{${IN}})`,
              legend: "{{vault}}",
            },
          ],
          limits: { warning: 0.9 },
        },
        {
          title: "Calls that wait",
          description:
            "For their turn in the budget. Many for long: raise spec.budget of the KeyVault, or spec.interval of its rules.",
          as: "graph",
          queries: [{ expr: `max by (vault) (mazevault_keyvault_budget_waiting{${IN}})`, legend: "{{vault}}" }],
        },
        {
          title: "Throttled",
          description: "Time until the vault wants to be called again.",
          as: "graph",
          unit: "s",
          queries: [{ expr: `max by (vault) (mazevault_keyvault_paused_seconds{${IN}}) > 0`, legend: "{{vault}}" }],
        },
        {
          title: "Circuit breakers",
          description: "1 while a breaker is open or tries half open.",
          as: "graph",
          queries: [
            {
              expr: `max by (vault, state) (mazevault_keyvault_breaker_state{${IN}, state!="Closed"}) > 0`,
              legend: "{{vault}}: {{state}}",
            },
          ],
          alerts: ["MazeVaultKeyVaultDown"],
        },
        {
          title: "Access denied",
          description: "Calls that were answered with 403.",
          as: "graph",
          unit: "reqps",
          queries: [
            {
              expr: `sum by (vault) (rate(mazevault_keyvault_denied_total{${IN}}[$__rate_interval])) > 0`,
              legend: "{{vault}}",
            },
          ],
          alerts: ["MazeVaultKeyVaultAccessDenied"],
        },
      ],
    },
  ],
};
