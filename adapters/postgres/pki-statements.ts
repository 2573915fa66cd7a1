/** What the PKI store asks PostgreSQL: plain reads, and the functions of the migrations for everything that writes. */
import type { Statement } from "./database.ts";

const AUTHORITY = `
  SELECT a.id, a.kind, a.namespace, a.namespace_uid, a.name, a.state, a.crl_every_ms, a.ocsp_validity_ms,
         a.primary_issuer, g.number, g.subject, g.spki, g.certificate, g.not_after, g.chain, g.wrapped_key, g.key_id, g.sealed_key, g.created_at
  FROM authorities a JOIN authority_generations g ON g.authority_id = a.id`;
export const FIND_AUTHORITY = statement(
  "find_authority",
  `${AUTHORITY} WHERE a.kind = $1 AND a.namespace = $2 AND a.name = $3 AND a.namespace_uid = $4 ORDER BY g.number`,
);
export const READ_AUTHORITY = statement("read_authority", `${AUTHORITY} WHERE a.id = $1 ORDER BY g.number`);
export const AUTHORITIES_NAMED = statement(
  "authorities_named",
  `${AUTHORITY} WHERE a.kind = $1 AND a.namespace = $2 AND a.name = $3 ORDER BY a.id, g.number`,
);
export const LIST_AUTHORITIES = statement(
  "list_authorities",
  `${AUTHORITY} WHERE a.id IN (SELECT id FROM authorities WHERE id > $1 ORDER BY id LIMIT $2) ORDER BY a.id, g.number`,
);
export const CREATE_AUTHORITY = statement(
  "create_authority",
  "SELECT create_authority($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
);
export const CREATE_PRIMARY_AUTHORITY = statement(
  "create_primary_authority",
  "SELECT create_primary_authority($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
);
export const INSTALL = statement("install_certificate", "SELECT install_certificate($1, $2, $3, $4, $5, $6, $7, $8)");
export const CHANGE_AUTHORITY = statement("change_authority", "SELECT change_authority($1, $2, $3, $4, $5, $6)");

const SEAL_COLUMNS = "status_generation, status_mac, audited_status(authority_id, serial) AS audited_status";
const CERTIFICATE_COLUMNS = `
  authority_id, generation, serial, state, requester_kind, namespace, namespace_uid, name, requester_uid, revision,
  profile, template, not_before, not_after, crl_partition, der, sealed_key IS NOT NULL AS has_key, revoked_at,
  revocation_reason, invalidity_date, ${SEAL_COLUMNS}`;
export const STATUS_COLUMNS = `
  authority_id, generation, crl_partition, serial, not_after, revoked_at, revocation_reason, invalidity_date, ${SEAL_COLUMNS}`;
export const RESERVE = statement(
  "reserve_certificate",
  `SELECT ${CERTIFICATE_COLUMNS} FROM reserve_certificate($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14,
                                                          $15, $16, $17, $18, $19)`,
);
export const ABANDON = statement("abandon_certificate", "SELECT abandon_certificate($1, $2, $3, $4)");
export const COMPLETE = statement(
  "complete_certificate",
  `SELECT ${CERTIFICATE_COLUMNS} FROM complete_certificate($1, $2, $3, $4, $5, $6)`,
);
export const COMPLETE_OF_PRIMARY = statement(
  "complete_certificate_of_primary",
  `SELECT ${CERTIFICATE_COLUMNS}
   FROM complete_certificate_of_primary($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)`,
);
export const CERTIFICATE = statement(
  "certificate",
  `SELECT ${CERTIFICATE_COLUMNS} FROM certificates WHERE authority_id = $1 AND serial = $2`,
);
export const LIST_CERTIFICATES = statement(
  "list_certificates",
  `SELECT ${CERTIFICATE_COLUMNS} FROM certificates WHERE (authority_id, serial) > ($1, $2)
   ORDER BY authority_id, serial LIMIT $3`,
);
export const CERTIFICATE_FOR = statement(
  "certificate_for",
  `SELECT ${CERTIFICATE_COLUMNS} FROM certificates
   WHERE requester_uid = $1 AND revision = $2 AND state <> 'Abandoned'`,
);
export const CERTIFICATES_OF = statement(
  "certificates_of",
  `SELECT ${CERTIFICATE_COLUMNS} FROM certificates
   WHERE requester_uid = $1 AND state = 'Issued' ORDER BY revision DESC LIMIT $2`,
);
export const CERTIFICATES_BY_SERIAL = statement(
  "certificates_by_serial",
  `SELECT ${CERTIFICATE_COLUMNS} FROM certificates
   WHERE requester_uid = $1 AND serial = $2 AND state = 'Issued' ORDER BY authority_id`,
);
export const READ_KEY = statement(
  "read_certificate_key",
  `SELECT wrapped_key, key_id, sealed_key FROM certificates
   WHERE authority_id = $1 AND serial = $2 AND sealed_key IS NOT NULL`,
);
export const REVOKE = statement(
  "revoke_certificate",
  "SELECT revoke_certificate($1, $2, $3, $4, $5, $6, $7, $8, $9) AS changed",
);
export const RELEASE = statement(
  "release_certificate",
  "SELECT release_certificate($1, $2, $3, $4, $5, $6) AS changed",
);
export const UNSEALED = statement(
  "unsealed_certificates",
  `SELECT ${CERTIFICATE_COLUMNS} FROM certificates
   WHERE (status_generation > 0 OR revoked_at IS NOT NULL) AND status_generation = 0
     AND EXISTS (SELECT FROM audit a WHERE a.action = 'CertificateRevoked' AND a.subject_id = serial_text(serial))
   ORDER BY authority_id, serial LIMIT $1`,
);
export const SEAL = statement("seal_status", "SELECT seal_status($1, $2, $3, $4, $5)");

// Each half by itself in order, so that neither looks at more than it hands out.
export const PURGEABLE = statement(
  "purgeable_certificates",
  `WITH found AS (
   (SELECT c.authority_id, c.serial FROM certificates c
    WHERE c.not_after < $1 AND may_be_purged(c, $3) ORDER BY c.not_after LIMIT $4)
   UNION
   (SELECT c.authority_id, c.serial
    FROM certificate_holders h
      CROSS JOIN LATERAL (
        SELECT max(n.revision) AS revision FROM certificates n WHERE n.requester_uid = h.uid AND n.state = 'Issued') newest
      JOIN certificates c ON c.requester_uid = h.uid AND c.revision <= newest.revision - h.revision_history_limit
        AND c.state <> 'Abandoned'
    WHERE h.revision_history_limit IS NOT NULL AND c.not_after < $2 AND may_be_purged(c, $3) LIMIT $4))
   SELECT ${STATUS_COLUMNS} FROM found JOIN certificates USING (authority_id, serial)
   ORDER BY not_after, authority_id, serial LIMIT $4`,
);
export const PURGE = statement("purge_certificates", "SELECT purge_certificates($1, $2, $3, $4, $5, $6, $7)");
export const COUNT = statement(
  "count_certificates",
  `SELECT g.purged + (SELECT count(*) FROM certificates WHERE authority_id = $1 AND generation = $2) AS count
   FROM authority_generations g WHERE g.authority_id = $1 AND g.number = $2`,
);

const HOLDER_COLUMNS = "kind, uid, namespace, namespace_uid, name, deletion_policy, revision_history_limit, delivery";
export const FIND_HOLDER = statement("find_holder", `SELECT ${HOLDER_COLUMNS} FROM certificate_holders WHERE uid = $1`);
export const HOLDERS_NAMED = statement(
  "holders_named",
  `SELECT ${HOLDER_COLUMNS} FROM certificate_holders WHERE kind = $1 AND namespace = $2 AND name = $3 ORDER BY uid`,
);
export const LIST_HOLDERS = statement(
  "list_holders",
  `SELECT ${HOLDER_COLUMNS} FROM certificate_holders WHERE uid > $1 ORDER BY uid LIMIT $2`,
);
export const RECORD_HOLDER = statement("record_holder", "SELECT record_holder($1, $2, $3, $4, $5, $6, $7, $8)");
export const DELIVERY = statement("record_certificate_delivery", "SELECT record_certificate_delivery($1, $2, $3, $4)");
export const REMOVE_HOLDER = statement("remove_holder", "SELECT remove_holder($1, $2, $3)");

const WORK_COLUMNS = "c.authority_id, c.generation, c.partition, c.changes, c.number, c.this_update, c.next_update";
export const DUE_CRLS = statement(
  "due_crls",
  `SELECT ${WORK_COLUMNS}
   FROM crls c JOIN authorities a ON a.id = c.authority_id
     JOIN authority_generations g ON g.authority_id = c.authority_id AND g.number = c.generation
   WHERE g.not_after > $1
     AND (c.number IS NULL OR c.changes > c.covers OR c.this_update + a.crl_every_ms * interval '1 ms' <= $1)
   ORDER BY c.this_update NULLS FIRST, c.authority_id, c.generation, c.partition LIMIT $2`,
);
export const CRL_WORK = statement(
  "crl_work",
  `SELECT ${WORK_COLUMNS} FROM crls c WHERE c.authority_id = $1 AND c.generation = $2 AND c.partition = $3`,
);
export const CHANGED_STATUSES = statement(
  "changed_statuses",
  `SELECT ${STATUS_COLUMNS} FROM certificates
   WHERE authority_id = $1 AND generation = $2 AND crl_partition = $3 AND not_after >= $4 AND serial > $5
     AND (status_generation > 0 OR revoked_at IS NOT NULL)
   ORDER BY serial LIMIT $6`,
);
export const COUNT_STATUSES = statement(
  "count_statuses",
  `SELECT
     (SELECT count(*) FROM certificates
      WHERE authority_id = $1 AND (status_generation > 0 OR revoked_at IS NOT NULL) AND status_generation > 0) AS sealed,
     (SELECT count(DISTINCT subject_id) - count(*) FILTER (WHERE action = 'CertificatePurged') FROM audit
      WHERE details->>'authority' = $1::text AND subject_kind = 'Certificate' AND subject_generation IS NOT NULL) AS audited`,
);
export const PURGED = statement(
  "purged_certificate",
  `SELECT FROM audit
   WHERE details->>'authority' = $1::text AND subject_id = serial_text($2) AND action = 'CertificatePurged'
     AND subject_kind = 'Certificate' AND subject_generation IS NOT NULL`,
);
export const PUBLISH = statement("publish_crl", "SELECT publish_crl($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)");
export const READ_CRL = statement(
  "read_crl",
  `SELECT authority_id, generation, partition, number, this_update, next_update, covers, der FROM crls
   WHERE authority_id = $1 AND generation = $2 AND partition = $3 AND number IS NOT NULL`,
);

export const PENDING = statement(
  "pending_responders",
  `SELECT r.id, r.authority_id, r.generation, r.csr, r.requested_at
   FROM authorities a CROSS JOIN LATERAL (
     SELECT * FROM ocsp_responders o
     WHERE o.authority_id = a.id AND o.requested_at >= $1 AND o.certificate IS NULL
     ORDER BY o.requested_at, o.id LIMIT $2) r
   ORDER BY r.requested_at, r.id`,
);
export const ANSWERED = statement(
  "responders_since",
  `SELECT authority_id, count(*) AS answered FROM ocsp_responders
   WHERE requested_at >= $1 AND certificate IS NOT NULL GROUP BY authority_id`,
);
export const ANSWER = statement("answer_responder", "SELECT answer_responder($1, $2, $3, $4)");
export const FORGET = statement("forget_responders", "SELECT forget_responders($1, $2, $3) AS forgotten");

function statement(name: string, text: string): Statement {
  return { name, text };
}
