-- Up Migration

-- An AuditSink that comes while a recovery is not settled is the one of its name of before, and has what that one had.
CREATE OR REPLACE FUNCTION open_audit_sink(writer_epoch bigint, of_uid text, of_name text) RETURNS SETOF audit_sinks
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  IF EXISTS (SELECT FROM home WHERE state = 'Adopted') THEN
    UPDATE audit_sinks SET uid = of_uid WHERE name = of_name AND uid <> of_uid;
  ELSE
    DELETE FROM audit_sinks WHERE name = of_name AND uid <> of_uid;
  END IF;
  INSERT INTO audit_sinks (uid, name) VALUES (of_uid, of_name) ON CONFLICT DO NOTHING;
  RETURN QUERY SELECT * FROM audit_sinks WHERE uid = of_uid;
END $$;

-- So many at a time: no statement may take longer than any other, however many certificates there are. What is not issued yet is numbered
-- when it is.
CREATE FUNCTION renumber_transactions(writer_epoch bigint, most integer) RETURNS integer LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  renumbered integer;
BEGIN
  PERFORM fence(writer_epoch);
  UPDATE certificates c SET changed_transaction = pg_current_xact_id()
  FROM (
    SELECT authority_id, serial FROM certificates
    WHERE state = 'Issued' AND changed_transaction > pg_current_xact_id() LIMIT most
  ) AS ahead
  WHERE c.authority_id = ahead.authority_id AND c.serial = ahead.serial;
  GET DIAGNOSTICS renumbered = ROW_COUNT;
  RETURN renumbered;
END $$;
