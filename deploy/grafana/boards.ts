/** The dashboards: for whoever is on call, from "is it well" to "which part is not". */
import type { Board, Panel, Query } from "./panels.ts";

const IN = 'namespace=~"$namespace"';

/** What every replica tells, or only the leader of them, counts once. */
const once = (selector: string): string => `max without (instance, pod) (${selector})`;

const quantile = (share: number, by: string, bucket: string, matchers = ""): string =>
  `histogram_quantile(${share}, sum by (${by}, le) (rate(${bucket}{${IN}${matchers}}[$__rate_interval])))`;

/** Of each series two lines: what half of it took at the most, and 99 of 100. */
const latency = (by: string, bucket: string, matchers = ""): readonly Query[] => [
  { expr: quantile(0.5, by, bucket, matchers), legend: `{{${by}}}, half` },
  { expr: quantile(0.99, by, bucket, matchers), legend: `{{${by}}}, 99 of 100` },
];

const notReady = (title: string, description: string, kinds: string, width?: number): Panel => ({
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

const overview: Board = {
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

const keyVault: Board = {
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

const certificates: Board = {
  uid: "mazevault-certificates",
  title: "MazeVault / Certificates and OCSP",
  description: "Are certificates renewed in time, and can their revocation be checked?",
  rows: [
    {
      title: "Now",
      panels: [
        {
          title: "Valid certificates",
          description: "Certificates in the cluster that are valid and not late.",
          as: "figure",
          queries: [{ expr: `sum(${once(`mazevault_certificates{${IN}, state="Valid"}`)})` }],
        },
        {
          title: "Not issued yet",
          description:
            "Certificates that have none. A moment after they were applied it is over, unless a person approves.",
          as: "figure",
          queries: [{ expr: `sum(${once(`mazevault_certificates{${IN}, state="Missing"}`)})` }],
          limits: { warning: 1 },
        },
        {
          title: "Renewal is late",
          description: "Certificates whose renewal has been due for over an hour. They are valid still.",
          as: "figure",
          queries: [{ expr: `sum(${once(`mazevault_certificates{${IN}, state="RenewalDue"}`)})` }],
          limits: { warning: 1 },
          alerts: ["MazeVaultCertificatesNotRenewed"],
        },
        {
          title: "Ended",
          description: "Certificates that were not renewed in time: what uses them is refused.",
          as: "figure",
          queries: [{ expr: `sum(${once(`mazevault_certificates{${IN}, state="Ended"}`)})` }],
          limits: { critical: 1 },
          alerts: ["MazeVaultCertificatesNotRenewed"],
        },
        {
          title: "Status tampered with",
          description: "What the database says of certificates and the signature of their CA contradicts.",
          as: "figure",
          queries: [
            {
              expr: `max(mazevault_pki_tampered_authorities{${IN}}) + (max(mazevault_ocsp_tampered{${IN}}) or vector(0))`,
            },
          ],
          limits: { critical: 1 },
          alerts: ["MazeVaultCertificateStatusTampered"],
        },
        {
          title: "OCSP: furthest behind",
          description:
            "How long ago a responder has read the database last; -1 before the first time. It does not hear of revocations meanwhile.",
          as: "figure",
          unit: "s",
          queries: [{ expr: `max(mazevault_ocsp_behind_seconds{${IN}})` }],
          limits: { warning: 900 },
          alerts: ["MazeVaultOcspBehind"],
        },
      ],
    },
    {
      title: "Certificates",
      panels: [
        {
          title: "Ends soon",
          description:
            "Valid certificates that end within so many days. Short-lived ones are always among them; what counts is a change.",
          as: "graph",
          queries: [
            {
              expr: `sum by (days) (${once(`mazevault_certificates_ending{${IN}}`)})`,
              legend: "within {{days}} days",
            },
          ],
        },
        {
          title: "Certificates, by state",
          description: "RenewalDue is late by more than an hour.",
          as: "graph",
          queries: [{ expr: `sum by (state) (${once(`mazevault_certificates{${IN}}`)})`, legend: "{{state}}" }],
        },
        {
          title: "Issuance and renewal: work",
          description: "Reconciles of certificates and requests, by what came of them. A wave of renewals shows here.",
          as: "graph",
          unit: "ops",
          queries: [
            {
              expr: `sum by (controller, outcome) (rate(mazevault_reconcile_duration_seconds_count{${IN}, controller=~"certificate|certificaterequest"}[$__rate_interval])) > 0`,
              legend: "{{controller}}: {{outcome}}",
            },
          ],
        },
        notReady(
          "Issuers, certificates and requests that are not Ready",
          "Begin with the issuers: what they are to sign waits for them.",
          "Issuer|ClusterIssuer|Certificate|CertificateRequest",
          16,
        ),
        {
          title: "Issued, by CA",
          description:
            "Certificates that are answered for; each issuance adds one, and some time after its end it goes.",
          as: "graph",
          queries: [
            {
              expr: `max by (authority, generation) (mazevault_ocsp_certificates{${IN}})`,
              legend: "{{authority}}/{{generation}}",
            },
          ],
        },
      ],
    },
    {
      title: "OCSP",
      panels: [
        {
          title: "Answers",
          description:
            "By what became of the request; `tryLater` and `internalError` are ours, `unauthorized` asks for a CA that is not ours.",
          as: "graph",
          unit: "reqps",
          queries: [
            {
              expr: `sum by (result) (rate(mazevault_ocsp_requests_total{${IN}}[$__rate_interval]))`,
              legend: "{{result}}",
            },
          ],
        },
        {
          title: "Requests without an answer",
          description:
            "Share of `tryLater` and `internalError`: clients that insist on an answer refuse the certificate.",
          as: "graph",
          unit: "percentunit",
          queries: [
            {
              expr: `(sum(rate(mazevault_ocsp_requests_total{${IN}, result=~"tryLater|internalError"}[$__rate_interval])) or vector(0)) / sum(rate(mazevault_ocsp_requests_total{${IN}}[$__rate_interval]))`,
              legend: "no answer",
            },
          ],
          limits: { warning: 0.001, critical: 0.01 },
        },
        {
          title: "Latency",
          description:
            "For how long the responder's event loop is held up, which each answer waits for: 99 of 100 times less. The answer itself takes far less than a millisecond.",
          as: "graph",
          unit: "s",
          queries: [
            {
              expr: `nodejs_eventloop_lag_p99_seconds{${IN}} and on (namespace, instance) mazevault_ocsp_behind_seconds`,
              legend: "{{instance}}",
            },
          ],
        },
        {
          title: "Signatures",
          description:
            "Answers that are signed, in advance or for one request. Many for one request: clients send nonces, which costs a processor.",
          as: "graph",
          unit: "ops",
          queries: [
            { expr: `sum(rate(mazevault_ocsp_signatures_total{${IN}}[$__rate_interval]))`, legend: "signed" },
            { expr: `sum(rate(mazevault_ocsp_faulty_total{${IN}}[$__rate_interval]))`, legend: "faulty, not given" },
          ],
        },
        {
          title: "Behind the database",
          description: "By responder. Answers go on until they end.",
          as: "graph",
          unit: "s",
          queries: [{ expr: `mazevault_ocsp_behind_seconds{${IN}}`, legend: "{{instance}}" }],
          limits: { warning: 900 },
          alerts: ["MazeVaultOcspBehind"],
        },
        {
          title: "Certificates of the responders end in",
          description:
            "Of the certificate that signs the answers, by CA. While there is none every answer is tryLater.",
          as: "graph",
          unit: "s",
          queries: [
            {
              expr: `min by (authority, generation) (mazevault_ocsp_responder_not_after_timestamp_seconds{${IN}} > 0) - time()`,
              legend: "{{authority}}/{{generation}}",
            },
          ],
        },
      ],
    },
  ],
};

const fleet: Board = {
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

export const boards: readonly Board[] = [overview, keyVault, certificates, fleet];
