-- Up Migration

-- In mode gateway: what it holds of its primary. At most one row; it stays, emptied, when everything is wiped.
CREATE TABLE replica (
  single boolean PRIMARY KEY DEFAULT true CHECK (single),
  revision bigint NOT NULL,
  gateway_id uuid,
  environment text,
  digest bytea CHECK (octet_length(digest) = 32),
  synced_at timestamptz,
  mac bytea,
  CHECK ((gateway_id IS NULL) = (mac IS NULL))
);

-- Secrets without their values and the grants on them, as JSON that is never looked into here; values are sealed.
CREATE TABLE replica_items (
  key text PRIMARY KEY,
  body text NOT NULL,
  revision bigint NOT NULL,
  wrapped_key bytea,
  key_id uuid,
  sealed_values bytea,
  CHECK ((wrapped_key IS NULL) = (sealed_values IS NULL) AND (key_id IS NULL) = (sealed_values IS NULL))
);
CREATE INDEX replica_items_revision ON replica_items (revision);

CREATE FUNCTION write_replica(
  writer_epoch bigint, new_revision bigint, new_gateway_id uuid, new_environment text, new_digest bytea,
  new_synced_at timestamptz, new_mac bytea, put json, remove text[], audit_rows json
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  IF new_revision = 1 THEN
    INSERT INTO replica (revision, gateway_id, environment, digest, synced_at, mac)
    VALUES (1, new_gateway_id, new_environment, new_digest, new_synced_at, new_mac)
    ON CONFLICT DO NOTHING;
  ELSE
    UPDATE replica
    SET revision = new_revision, gateway_id = new_gateway_id, environment = new_environment, digest = new_digest,
        synced_at = new_synced_at, mac = new_mac
    WHERE revision = new_revision - 1;
  END IF;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'another replica stands there' USING ERRCODE = 'MV002';
  END IF;
  DELETE FROM replica_items WHERE key = ANY (remove);
  INSERT INTO replica_items AS held (key, body, revision, wrapped_key, key_id, sealed_values)
  SELECT i.key, i.body, new_revision, decode(i.wrapped_key, 'base64'), i.key_id, decode(i.sealed_values, 'base64')
  FROM json_to_recordset(put) AS i (key text, body text, wrapped_key text, key_id uuid, sealed_values text)
  ON CONFLICT (key) DO UPDATE
  SET body = excluded.body, revision = excluded.revision, wrapped_key = excluded.wrapped_key, key_id = excluded.key_id,
      sealed_values = excluded.sealed_values;
  PERFORM insert_audit(audit_rows);
END $$;

CREATE FUNCTION wipe_replica(writer_epoch bigint, audit_rows json) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  DELETE FROM replica_items;
  UPDATE replica
  SET revision = revision + 1, gateway_id = NULL, environment = NULL, digest = NULL, synced_at = NULL, mac = NULL;
  PERFORM insert_audit(audit_rows);
END $$;
