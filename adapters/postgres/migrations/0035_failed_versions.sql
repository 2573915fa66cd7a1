-- Up Migration

-- Attempts that fail go on making versions above the current one: of those only the listed ones stay, however long it fails.
CREATE FUNCTION has_failed(rotation json, of_version integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
  SELECT EXISTS (
    SELECT FROM json_array_elements_text(rotation #> '{apply,failed}') AS f (version) WHERE f.version::integer = of_version
  )
$$;

CREATE FUNCTION expire_versions(secret uuid, new_current integer, new_keep_versions integer, new_rotation json) RETURNS void
LANGUAGE sql VOLATILE AS $$
  DELETE FROM versions
  WHERE secret_id = secret AND NOT is_held(new_rotation, version)
    AND (version <= new_current - new_keep_versions OR (version > new_current AND NOT has_failed(new_rotation, version)));
$$;

CREATE OR REPLACE FUNCTION change_pointer(
  writer_epoch bigint, secret uuid, expected bigint, new_generation bigint, new_mac bytea, new_state text, new_version
  integer, new_deleted_at timestamptz, new_purge_after timestamptz, new_deletion_policy text, new_soft_delete_ms
  bigint, new_keep_versions integer, new_rotation json, audit_rows json
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence_led(writer_epoch);
  UPDATE secrets
  SET state = new_state, current_version = new_version, generation = new_generation, deleted_at = new_deleted_at,
      purge_after = new_purge_after, deletion_policy = new_deletion_policy, soft_delete_ms = new_soft_delete_ms,
      keep_versions = new_keep_versions, rotation = new_rotation, mac = new_mac
  WHERE id = secret AND generation = expected;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'secret % was changed by another writer', secret USING ERRCODE = 'MV002';
  END IF;
  PERFORM expire_versions(secret, new_version, new_keep_versions, new_rotation);
  PERFORM insert_audit(audit_rows);
  INSERT INTO outbox (secret_id, namespace, name, unled)
  SELECT s.id, s.namespace, s.name, writer_epoch IS NULL FROM secrets s WHERE s.id = secret;
END $$;
