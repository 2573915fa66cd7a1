-- Up Migration

-- Which status a certificate has is authenticated: see docs/adr/0012. 0: it was never revoked.
ALTER TABLE certificates
  ADD COLUMN status_generation bigint NOT NULL DEFAULT 0,
  ADD COLUMN status_mac bytea;
DROP INDEX certificates_revoked;
CREATE INDEX certificates_status ON certificates (authority_id, generation, crl_partition, serial)
  WHERE status_generation > 0 OR revoked_at IS NOT NULL;

-- As the audit record names certificates: 3f:0a:77.
CREATE FUNCTION serial_text(serial bytea) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT regexp_replace(encode(serial, 'hex'), '(..)(?=.)', '\1:', 'g')
$$;
-- What a status is compared with.
CREATE INDEX audit_status ON audit ((details->>'authority'), subject_id, subject_generation)
  WHERE subject_kind = 'Certificate' AND subject_generation IS NOT NULL;
CREATE FUNCTION audited_status(of_authority uuid, of_serial bytea) RETURNS bigint LANGUAGE sql STABLE AS $$
  SELECT max(subject_generation) FROM audit
  WHERE subject_kind = 'Certificate' AND subject_generation IS NOT NULL
    AND details->>'authority' = of_authority::text AND subject_id = serial_text(of_serial)
$$;

-- A status is changed from the one that was judged, or not at all.
DROP FUNCTION revoke_certificate(bigint, uuid, bytea, timestamptz, text, timestamptz, json);
CREATE FUNCTION revoke_certificate(
  writer_epoch bigint, of_authority uuid, of_serial bytea, new_revoked_at timestamptz, new_reason text,
  new_invalidity_date timestamptz, new_generation bigint, new_mac bytea, audit_rows json
) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  standing certificates;
BEGIN
  PERFORM fence(writer_epoch);
  SELECT * INTO standing FROM certificates
  WHERE authority_id = of_authority AND serial = of_serial AND state = 'Issued' FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'no such certificate was issued' USING ERRCODE = 'MV002';
  END IF;
  IF standing.revoked_at IS NOT NULL
     AND (standing.revocation_reason <> 'certificateHold' OR new_reason = 'certificateHold') THEN
    RETURN false;
  END IF;
  IF standing.status_generation + 1 <> new_generation THEN
    RAISE EXCEPTION 'the status of the certificate has changed' USING ERRCODE = 'MV002';
  END IF;
  UPDATE certificates
  SET revoked_at = coalesce(revoked_at, new_revoked_at), revocation_reason = new_reason,
      invalidity_date = new_invalidity_date, status_generation = new_generation, status_mac = new_mac,
      changed_transaction = pg_current_xact_id()
  WHERE authority_id = of_authority AND serial = of_serial;
  PERFORM count_revocation(standing);
  PERFORM insert_audit(audit_rows);
  RETURN true;
END $$;

DROP FUNCTION release_certificate(bigint, uuid, bytea, json);
CREATE FUNCTION release_certificate(
  writer_epoch bigint, of_authority uuid, of_serial bytea, new_generation bigint, new_mac bytea, audit_rows json
) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  standing certificates;
BEGIN
  PERFORM fence(writer_epoch);
  SELECT * INTO standing FROM certificates
  WHERE authority_id = of_authority AND serial = of_serial AND revocation_reason = 'certificateHold' FOR UPDATE;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  IF standing.status_generation + 1 <> new_generation THEN
    RAISE EXCEPTION 'the status of the certificate has changed' USING ERRCODE = 'MV002';
  END IF;
  UPDATE certificates
  SET revoked_at = NULL, revocation_reason = NULL, invalidity_date = NULL, status_generation = new_generation,
      status_mac = new_mac, changed_transaction = pg_current_xact_id()
  WHERE authority_id = of_authority AND serial = of_serial;
  PERFORM count_revocation(standing);
  PERFORM insert_audit(audit_rows);
  RETURN true;
END $$;

-- What was revoked before there were MACs, as far as the audit record says so.
CREATE FUNCTION seal_status(writer_epoch bigint, of_authority uuid, of_serial bytea, new_mac bytea, audit_rows json)
RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  UPDATE certificates SET status_generation = 1, status_mac = new_mac
  WHERE authority_id = of_authority AND serial = of_serial AND status_generation = 0 AND revoked_at IS NOT NULL;
  IF FOUND THEN
    PERFORM insert_audit(audit_rows);
  END IF;
END $$;

-- A responder holds what it is told against the CRL that tells about it.
CREATE OR REPLACE VIEW ocsp_certificates AS
  SELECT authority_id, generation, serial, not_after, revoked_at, revocation_reason, invalidity_date, changed_transaction,
         crl_partition
  FROM certificates WHERE state = 'Issued';

-- Requests have certificates that are revoked with them, too.
ALTER TABLE certificate_holders
  ADD COLUMN kind text NOT NULL DEFAULT 'Certificate' CHECK (kind IN ('Certificate', 'CertificateRequest'));
DROP FUNCTION record_holder(bigint, text, text, text, text, text, integer);
CREATE FUNCTION record_holder(
  writer_epoch bigint, new_uid text, new_namespace text, new_namespace_uid text, new_name text, new_deletion_policy text,
  new_revision_history_limit integer DEFAULT NULL, new_kind text DEFAULT 'Certificate'
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  INSERT INTO certificate_holders (kind, uid, namespace, namespace_uid, name, deletion_policy, revision_history_limit)
  VALUES (new_kind, new_uid, new_namespace, new_namespace_uid, new_name, new_deletion_policy, new_revision_history_limit)
  ON CONFLICT (uid) DO UPDATE
  SET deletion_policy = new_deletion_policy, revision_history_limit = new_revision_history_limit;
END $$;

-- As before, for holders of kind Certificate: a request has no next revision, and its status says what became of it.
CREATE OR REPLACE FUNCTION may_be_purged(c certificates, at timestamptz) RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT CASE
    WHEN EXISTS (SELECT FROM certificate_holders h WHERE h.uid = c.requester_uid AND h.kind = 'Certificate')
    THEN c.revoked_at IS NULL AND EXISTS (
      SELECT FROM certificates n
      WHERE n.requester_uid = c.requester_uid AND n.revision > c.revision AND n.state = 'Issued')
    ELSE c.revoked_at IS NULL
      OR EXISTS (
        SELECT FROM crls k
        WHERE k.authority_id = c.authority_id AND k.generation = c.generation AND k.partition = c.crl_partition
          AND k.this_update > c.not_after)
      OR EXISTS (
        SELECT FROM authority_generations g
        WHERE g.authority_id = c.authority_id AND g.number = c.generation AND g.not_after <= at)
  END
$$;

-- A certificate goes with the status that was judged and audited, or not at all.
DROP FUNCTION purge_certificates(bigint, uuid, bytea[], timestamptz, timestamptz, json);
CREATE FUNCTION purge_certificates(
  writer_epoch bigint, of_authority uuid, serials bytea[], status_generations bigint[], ended_before timestamptz,
  at timestamptz, audit_rows json
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  removed bigint;
BEGIN
  PERFORM fence(writer_epoch);
  WITH gone AS (
    DELETE FROM certificates c
    USING unnest(serials, status_generations) AS judged (serial, status_generation)
    WHERE c.authority_id = of_authority AND c.serial = judged.serial
      AND c.status_generation = judged.status_generation AND c.not_after < ended_before AND may_be_purged(c, at)
    RETURNING c.generation
  ), counted AS (
    SELECT generation, count(*) AS certificates FROM gone GROUP BY generation
  ), kept AS (
    UPDATE authority_generations g SET purged = g.purged + n.certificates FROM counted n
    WHERE g.authority_id = of_authority AND g.number = n.generation
  )
  SELECT coalesce(sum(certificates), 0) INTO removed FROM counted;
  IF removed <> cardinality(serials) THEN
    RAISE EXCEPTION 'certificates of authority % have changed', of_authority USING ERRCODE = 'MV002';
  END IF;
  PERFORM insert_audit(audit_rows);
END $$;
