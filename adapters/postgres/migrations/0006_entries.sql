-- Up Migration

-- Written by a replica that does not lead: the leader has yet to act on it.
ALTER TABLE outbox ADD COLUMN unled boolean NOT NULL DEFAULT false;

-- For writes that are conditional on the pointer's generation, or only add up: without an epoch they need not be led.
-- Everything else goes through fence, which refuses NULL.
CREATE FUNCTION fence_led(writer_epoch bigint) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  IF writer_epoch IS NOT NULL THEN
    PERFORM fence(writer_epoch);
  END IF;
END $$;

CREATE OR REPLACE FUNCTION commit_version(
  writer_epoch bigint, secret uuid, new_project text, new_environment text, new_namespace text, new_namespace_uid text,
  new_name text, expected bigint, new_generation bigint, new_mac bytea, new_deletion_policy text, new_soft_delete_ms
  bigint, new_keep_versions integer, new_version integer, new_wrapped_key bytea, new_project_key_id uuid, new_keys
  text[], recipes bytea[], fingerprints bytea[], ciphertexts bytea[], audit_rows json
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence_led(writer_epoch);
  IF expected IS NULL THEN
    INSERT INTO secrets (id, project, environment, namespace, namespace_uid, name, state, current_version, generation,
                         deletion_policy, soft_delete_ms, keep_versions, mac)
    VALUES (secret, new_project, new_environment, new_namespace, new_namespace_uid, new_name, 'Active', new_version,
            new_generation, new_deletion_policy, new_soft_delete_ms, new_keep_versions, new_mac)
    ON CONFLICT DO NOTHING;
  ELSE
    UPDATE secrets
    SET state = 'Active', current_version = new_version, generation = new_generation,
        deletion_policy = new_deletion_policy, soft_delete_ms = new_soft_delete_ms, keep_versions = new_keep_versions,
        deleted_at = NULL, purge_after = NULL, mac = new_mac
    WHERE id = secret AND generation = expected;
  END IF;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'secret % was changed by another writer', secret USING ERRCODE = 'MV002';
  END IF;
  INSERT INTO versions (secret_id, version, wrapped_key, project_key_id)
  VALUES (secret, new_version, new_wrapped_key, new_project_key_id);
  INSERT INTO entries (secret_id, version, key, recipe, fingerprint, ciphertext)
  SELECT secret, new_version, e.* FROM unnest(new_keys, recipes, fingerprints, ciphertexts) AS e;
  IF new_version > new_keep_versions THEN
    DELETE FROM versions WHERE secret_id = secret AND version <= new_version - new_keep_versions;
  END IF;
  PERFORM insert_audit(audit_rows);
  INSERT INTO outbox (secret_id, namespace, name, unled)
  VALUES (secret, new_namespace, new_name, writer_epoch IS NULL);
END $$;

CREATE OR REPLACE FUNCTION change_pointer(
  writer_epoch bigint, secret uuid, expected bigint, new_generation bigint, new_mac bytea, new_state text, new_version
  integer, new_deleted_at timestamptz, new_purge_after timestamptz, new_deletion_policy text, new_soft_delete_ms
  bigint, new_keep_versions integer, audit_rows json
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence_led(writer_epoch);
  UPDATE secrets
  SET state = new_state, current_version = new_version, generation = new_generation, deleted_at = new_deleted_at,
      purge_after = new_purge_after, deletion_policy = new_deletion_policy, soft_delete_ms = new_soft_delete_ms,
      keep_versions = new_keep_versions, mac = new_mac
  WHERE id = secret AND generation = expected;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'secret % was changed by another writer', secret USING ERRCODE = 'MV002';
  END IF;
  DELETE FROM versions WHERE secret_id = secret AND version <= new_version - new_keep_versions;
  PERFORM insert_audit(audit_rows);
  INSERT INTO outbox (secret_id, namespace, name, unled)
  SELECT s.id, s.namespace, s.name, writer_epoch IS NULL FROM secrets s WHERE s.id = secret;
END $$;

CREATE OR REPLACE FUNCTION reserve_uses(writer_epoch bigint, key_id uuid, additional bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  total bigint;
BEGIN
  PERFORM fence_led(writer_epoch);
  UPDATE keys SET uses = uses + additional WHERE id = key_id RETURNING uses INTO total;
  RETURN total;
END $$;
