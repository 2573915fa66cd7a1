/** What PostgreSQL says of itself and of what stands in it, and what that means. */
import { newerMigrations, type SchemaState, worksWithNewer } from "../schema-state.ts";
import { MOST_USES } from "../vault/wrapping-key.ts";
import { type ClockReading, judgeClock } from "./clock.ts";
import { type Finding, failing, warning } from "./finding.ts";

export interface DatabaseFacts {
  readonly clock: ClockReading;
  /** It is a standby, or takes no writes for another reason. */
  readonly readOnly: boolean;
  /** Of whichever limit is nearest: the server's, the database's, the role's. */
  readonly connections: { readonly open: number; readonly most: number };
  readonly migrations: SchemaState & { readonly known: readonly string[] };
  /** Absent while the schema is not there or not whole. */
  readonly record?: RecordFacts;
}

export interface RecordFacts {
  readonly epoch: bigint;
  readonly keys: readonly KeyFacts[];
  /** Audit rows that are not in the chain yet. */
  readonly unlinked: { readonly rows: number; readonly oldestMs: number };
  readonly checkpoint: { readonly rowsSince: number; readonly ageMs: number };
  readonly sinks: readonly { readonly name: string; readonly rows: number; readonly movedMs: number }[];
  readonly outbox: readonly { readonly consumer: string; readonly rows: number; readonly movedMs: number }[];
  /** Who has had a transaction open for longest: no row behind it is handed out. */
  readonly blocking?: { readonly pid: number };
  /** Responders that wait for a certificate. */
  readonly responders: { readonly waiting: number; readonly oldestMs: number };
  /** Users and addresses that may not try to log in for a while. */
  readonly loginsBlocked: number;
}

export interface KeyFacts {
  readonly purpose: string;
  readonly scope: string;
  readonly version: number;
  readonly uses: bigint;
  readonly wrappedBy: string;
}

/** Where it is and how it is reached, as the settings say. */
export interface DatabasePlace {
  readonly host: string;
  readonly port: number;
  readonly database: string;
  readonly user: string;
  readonly passwordFile?: string;
  /** Instead of a file. */
  readonly password?: { readonly source: string };
  readonly caFile?: string;
}

export const DATABASE = "database";
const CONNECTIONS_FULL = 0.8;
const UNLINKED_MS = 10_000;
const OUTBOX_MS = 30_000;
const SINK_MS = 120_000;
const RESPONDER_MS = 60_000;
/** The checkpoint after this many times its period is late. */
const CHECKPOINT_PERIODS = 3;

/** Why nothing could be had of it: an SQLSTATE, a code of Node or of TLS, or none. */
export function judgeNoDatabase(code: string | undefined, place: DatabasePlace): Finding {
  const { host, port, database, user, passwordFile, password, caFile = "database.caFile" } = place;
  const kept = password?.source ?? `${passwordFile} (database.passwordFile)`;
  const at = `PostgreSQL at ${host}:${port}`;
  const known: Readonly<Record<string, readonly [problem: string, fix: string]>> = {
    "28P01": [
      `${at} refuses the password of role ${user}`,
      `write the role's password to ${kept}, or set it: ALTER ROLE ${user} PASSWORD '...'; it is read again for each connection, so nothing needs a restart`,
    ],
    "28000": [
      `${at} does not let role ${user} in`,
      `ALTER ROLE ${user} LOGIN, and a line in pg_hba.conf: hostssl ${database} ${user} <address of the operator> scram-sha-256; then SELECT pg_reload_conf()`,
    ],
    "3D000": [
      `${at} has no database ${database}`,
      `CREATE DATABASE ${database} OWNER ${user}, or correct database.name`,
    ],
    "53300": [
      `${at} takes no further connections`,
      `raise max_connections (or the role's limit: ALTER ROLE ${user} CONNECTION LIMIT -1), or lower database.poolSize of each replica`,
    ],
    "57P03": [`${at} is starting or shutting down`, "wait a minute; if it stays so, look at its log"],
    "42501": [
      `role ${user} may not use the schema mazevault`,
      `let it own what is in it: ALTER SCHEMA mazevault OWNER TO ${user}, and the same for its tables`,
    ],
    ENOENT: [
      `a file of the settings does not exist: ${passwordFile === undefined ? "" : `${passwordFile} or `}${caFile}`,
      "mount the Secret that holds it, or correct database.passwordFile and database.caFile",
    ],
    ECONNREFUSED: [
      `nothing listens at ${host}:${port}`,
      `start PostgreSQL, or correct database.host and database.port; then pg_isready -h ${host} -p ${port}`,
    ],
    ENOTFOUND: [`there is no host ${host}`, "correct database.host; in a cluster it is SERVICE.NAMESPACE.svc"],
    ERR_TLS_CERT_ALTNAME_INVALID: [
      `the certificate of ${at} is for another host`,
      `write the name that its certificate has to database.host, or give it a certificate for ${host}`,
    ],
    CERT_HAS_EXPIRED: [
      `the certificate of ${at} has expired`,
      "renew server.crt of PostgreSQL, then SELECT pg_reload_conf()",
    ],
    ...Object.fromEntries(
      UNKNOWN_CA.map((each) => [
        each,
        [
          `the certificate of ${at} is of a CA that is not in ${caFile}`,
          "write the CA's certificate to database.caFile",
        ],
      ]),
    ),
  };
  const [problem, fix] = known[code ?? ""] ?? [
    `${at} does not answer${code === undefined ? "" : ` (${code})`}`,
    `look whether it runs and whether a network policy is in the way: pg_isready -h ${host} -p ${port}, then its log`,
  ];
  return failing(DATABASE, { problem, fix });
}

const UNKNOWN_CA = [
  "DEPTH_ZERO_SELF_SIGNED_CERT",
  "SELF_SIGNED_CERT_IN_CHAIN",
  "UNABLE_TO_VERIFY_LEAF_SIGNATURE",
  "UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
] as const;

export interface DatabaseExpectations {
  /** How long the chain may go without a checkpoint. */
  readonly checkpointMs: number;
  /** Namespace of the operator. */
  readonly home: string;
}

/** Only what is worth a word. */
export function judgeDatabase(facts: DatabaseFacts, { checkpointMs, home }: DatabaseExpectations): readonly Finding[] {
  const { clock, record } = facts;
  return [
    ...judgeClock("database.clock", "the operator's clock", "PostgreSQL's", clock),
    ...judgeState(facts),
    ...judgeMigrations(facts, home),
    ...(record === undefined
      ? []
      : [
          ...judgeKeyUses(record),
          ...judgeAudit(record, checkpointMs),
          ...judgeOutbox(record),
          ...judgeResponders(record),
          ...judgeLogins(record),
        ]),
  ];
}

function judgeState({ readOnly, connections: { open, most } }: DatabaseFacts): readonly Finding[] {
  const findings: Finding[] = [];
  if (readOnly) {
    findings.push(
      failing(DATABASE, {
        problem: "PostgreSQL takes no writes: it is a standby, or default_transaction_read_only is on",
        fix: "point database.host to the primary; or ALTER SYSTEM RESET default_transaction_read_only, then SELECT pg_reload_conf()",
      }),
    );
  }
  if (open >= most * CONNECTIONS_FULL) {
    findings.push(
      warning("database.connections", {
        problem: `${open} of ${most} connections are open`,
        fix: "raise max_connections, or the limit of the role or database; or lower database.poolSize. Who has them: SELECT usename, application_name, count(*) FROM pg_stat_activity GROUP BY 1, 2",
      }),
    );
  }
  return findings;
}

function judgeMigrations({ migrations }: DatabaseFacts, home: string): readonly Finding[] {
  const { applied, known } = migrations;
  const missing = known.filter((name) => !applied.includes(name));
  const newer = newerMigrations(known, migrations);
  const findings: Finding[] = [];
  if (missing.length > 0) {
    findings.push(
      failing("database.migrations", {
        problem: `the database lacks migrations that this program needs: ${missing.join(", ")}`,
        fix: `restart the operator, which migrates at its start: kubectl -n ${home} rollout restart deployment. If they were run before, somebody edited mazevault.migrations: restore it from a backup`,
      }),
    );
  }
  if (newer.length > 0) {
    const problem = `the database has migrations that this program does not know: ${newer.join(", ")}`;
    findings.push(
      worksWithNewer(known, migrations)
        ? warning("database.migrations", {
            problem: `${problem}; it can work with them`,
            fix: `bring every replica to one version: kubectl -n ${home} rollout status deployment says which are still of another one`,
          })
        : failing("database.migrations", {
            problem,
            fix: "run the version that made them, or a newer one, in every replica; this one will not start again",
          }),
    );
  }
  return findings;
}

const USES_WARN = (MOST_USES * 8n) / 10n;

function judgeKeyUses({ keys }: RecordFacts): readonly Finding[] {
  const latest = new Map<string, KeyFacts>();
  for (const key of keys) {
    const name = `${key.purpose} ${key.scope}`;
    if ((latest.get(name)?.version ?? 0) < key.version) latest.set(name, key);
  }
  return [...latest.values()]
    .filter(({ uses }) => uses >= USES_WARN)
    .map((key) => {
      const told = {
        subject: `key ${key.purpose} ${key.scope} version ${key.version}`,
        problem: `it was used ${key.uses} times, of ${MOST_USES} that AES-GCM allows one key`,
        fix: "make a new version of it: rotate the key, as docs/operations/keys.md says",
      };
      return key.uses >= MOST_USES ? failing("keys.uses", told) : warning("keys.uses", told);
    });
}

function judgeAudit({ unlinked, checkpoint, sinks }: RecordFacts, checkpointMs: number): readonly Finding[] {
  const findings: Finding[] = [];
  if (unlinked.rows > 0 && unlinked.oldestMs > UNLINKED_MS) {
    findings.push(
      failing("audit.linking", {
        problem: `${unlinked.rows} audit rows wait to be linked into the chain, the oldest for ${seconds(unlinked.oldestMs)}`,
        fix: "the leader links them each second: look for `housekeeping failed` in its log. TamperDetected: mazevault audit verify. Otherwise somebody holds a lock: SELECT pid, query FROM pg_stat_activity WHERE pid = ANY (SELECT unnest(pg_blocking_pids(pid)) FROM pg_stat_activity)",
      }),
    );
  }
  if (checkpoint.rowsSince > 0 && checkpoint.ageMs > CHECKPOINT_PERIODS * checkpointMs) {
    findings.push(
      failing("audit.checkpoints", {
        problem: `${checkpoint.rowsSince} linked audit rows have no signed checkpoint above them, for ${seconds(checkpoint.ageMs)}`,
        fix: "the leader signs them: look for `housekeeping failed` with chore `link audit rows` in its log",
      }),
    );
  }
  for (const { name, rows, movedMs } of sinks) {
    if (rows === 0 || movedMs < SINK_MS) continue;
    findings.push(
      failing("audit.sinks", {
        subject: `AuditSink ${name}`,
        problem: `${rows} audit rows wait for it, and it took none for ${seconds(movedMs)}`,
        fix: `kubectl describe auditsink ${name}: its condition Delivering tells what its receiver said`,
      }),
    );
  }
  return findings;
}

function judgeOutbox({ outbox, blocking }: RecordFacts): readonly Finding[] {
  return outbox
    .filter(({ rows, movedMs }) => rows > 0 && movedMs > OUTBOX_MS)
    .map(({ consumer, rows, movedMs }) =>
      failing("outbox", {
        problem: `${rows} changes wait for ${consumer}, which has taken none for ${seconds(movedMs)}`,
        fix:
          blocking === undefined
            ? "the leader takes them: look whether there is one (check leadership), and for warnings in its log"
            : `a transaction that is still open holds them back: SELECT pg_terminate_backend(${blocking.pid}), after a look at SELECT * FROM pg_stat_activity WHERE pid = ${blocking.pid}`,
      }),
    );
}

function judgeResponders({ responders: { waiting, oldestMs } }: RecordFacts): readonly Finding[] {
  if (waiting === 0 || oldestMs < RESPONDER_MS) return [];
  return [
    failing("ocsp.certificates", {
      problem: `${waiting} OCSP responders have waited for a certificate for ${seconds(oldestMs)}`,
      fix: "the leader signs them: look for chore `sign responder certificates` in its log, and at the issuers: kubectl get issuers,clusterissuers -A",
    }),
  ];
}

function judgeLogins({ loginsBlocked }: RecordFacts): readonly Finding[] {
  if (loginsBlocked === 0) return [];
  return [
    warning("logins", {
      problem: `${loginsBlocked} users or addresses have to wait before they may try to log in again, after wrong passwords`,
      fix: "whose guesses they are: mazevault audit tail --action LoginFailed. DELETE FROM mazevault.login_attempts frees everybody at once",
    }),
  ];
}

const seconds = (ms: number): string => `${Math.round(ms / 1000)} s`;
