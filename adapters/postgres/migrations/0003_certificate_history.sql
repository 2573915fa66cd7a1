-- Up Migration

-- Certificates are removed long after their end; each search begins with the oldest.
CREATE INDEX certificates_ended ON certificates (not_after);
-- How many were: CRL partitions are filled by how many certificates there ever were.
ALTER TABLE authority_generations ADD COLUMN purged bigint NOT NULL DEFAULT 0;
ALTER TABLE certificate_holders ADD COLUMN revision_history_limit integer;

-- As record_holder of before, which a program that still runs calls with one argument less.
DROP FUNCTION record_holder(bigint, text, text, text, text, text);
CREATE FUNCTION record_holder(
  writer_epoch bigint, new_uid text, new_namespace text, new_namespace_uid text, new_name text, new_deletion_policy text,
  new_revision_history_limit integer DEFAULT NULL
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  INSERT INTO certificate_holders (uid, namespace, namespace_uid, name, deletion_policy, revision_history_limit)
  VALUES (new_uid, new_namespace, new_namespace_uid, new_name, new_deletion_policy, new_revision_history_limit)
  ON CONFLICT (uid) DO UPDATE
  SET deletion_policy = new_deletion_policy, revision_history_limit = new_revision_history_limit;
END $$;

-- Whether a certificate that has ended may go. Of an object that is there the newest stays, and what its manifest may list as
-- revoked. Any other one that is revoked was on a CRL beyond its end (RFC 5280 3.3), unless its CA ended too.
CREATE FUNCTION may_be_purged(c certificates, at timestamptz) RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT CASE
    WHEN EXISTS (SELECT FROM certificate_holders h WHERE h.uid = c.requester_uid)
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

CREATE FUNCTION purge_certificates(
  writer_epoch bigint, of_authority uuid, serials bytea[], ended_before timestamptz, at timestamptz, audit_rows json
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  removed bigint;
BEGIN
  PERFORM fence(writer_epoch);
  WITH gone AS (
    DELETE FROM certificates c
    WHERE c.authority_id = of_authority AND c.serial = ANY (serials) AND c.not_after < ended_before
      AND may_be_purged(c, at)
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
