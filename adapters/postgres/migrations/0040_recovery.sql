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
