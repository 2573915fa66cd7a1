/** Certificates, their authorities, and the OCSP responder. */
import { IN, notReady, once } from "../expressions.ts";
import type { Board } from "../panels.ts";

export const certificates: Board = {
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
