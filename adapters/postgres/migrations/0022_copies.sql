-- Up Migration

-- Core Secrets that SyncRules made in other namespaces: what was delivered last, by where it stands. Like secrets.delivery
-- it decides what is read again, never whose a core Secret is where that was not looked at.
CREATE TABLE copies (
  namespace_uid text NOT NULL,
  secret_name text NOT NULL,
  namespace text NOT NULL,
  secret_id uuid NOT NULL REFERENCES secrets ON DELETE CASCADE,
  delivery json NOT NULL,
  PRIMARY KEY (namespace_uid, secret_name)
);
CREATE INDEX copies_secret ON copies (secret_id);

CREATE FUNCTION record_copy(
  writer_epoch bigint, secret uuid, of_namespace text, of_namespace_uid text, of_name text, new_delivery json,
  audit_rows json
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  INSERT INTO copies (namespace_uid, secret_name, namespace, secret_id, delivery)
  SELECT of_namespace_uid, of_name, of_namespace, s.id, new_delivery FROM secrets s WHERE s.id = secret
  ON CONFLICT (namespace_uid, secret_name) DO UPDATE
  SET namespace = excluded.namespace, secret_id = excluded.secret_id, delivery = excluded.delivery;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'secret % was purged', secret USING ERRCODE = 'MV002';
  END IF;
  PERFORM insert_audit(audit_rows);
END $$;
