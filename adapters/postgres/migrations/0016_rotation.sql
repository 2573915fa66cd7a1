-- Up Migration

-- What was rotated when and why, and the versions that retention leaves alone for now; under the pointer's MAC, so it is
-- written only along with the pointer. The functions of before stay: a replica that is not upgraded yet refuses a secret
-- with a rotation, since it does not know the MAC, and writes all others with them.
ALTER TABLE secrets ADD COLUMN rotation json;

CREATE FUNCTION is_held(rotation json, of_version integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
  SELECT EXISTS (SELECT FROM json_array_elements(rotation -> 'held') AS h WHERE (h ->> 'version')::integer = of_version)
$$;

CREATE FUNCTION commit_version(
  writer_epoch bigint, secret uuid, new_project text, new_environment text, new_namespace text, new_namespace_uid text,
  new_name text, expected bigint, new_generation bigint, new_mac bytea, new_deletion_policy text, new_soft_delete_ms
  bigint, new_keep_versions integer, new_rotation json, new_version integer, new_wrapped_key bytea, new_project_key_id
  uuid, new_keys text[], recipes bytea[], fingerprints bytea[], ciphertexts bytea[], audit_rows json
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence_led(writer_epoch);
  IF expected IS NULL THEN
    INSERT INTO secrets (id, project, environment, namespace, namespace_uid, name, state, current_version, generation,
                         deletion_policy, soft_delete_ms, keep_versions, rotation, mac)
    VALUES (secret, new_project, new_environment, new_namespace, new_namespace_uid, new_name, 'Active', new_version,
            new_generation, new_deletion_policy, new_soft_delete_ms, new_keep_versions, new_rotation, new_mac)
    ON CONFLICT DO NOTHING;
  ELSE
    UPDATE secrets
    SET state = 'Active', current_version = new_version, generation = new_generation,
        deletion_policy = new_deletion_policy, soft_delete_ms = new_soft_delete_ms, keep_versions = new_keep_versions,
        rotation = new_rotation, deleted_at = NULL, purge_after = NULL, mac = new_mac
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
    DELETE FROM versions
    WHERE secret_id = secret AND version <= new_version - new_keep_versions AND NOT is_held(new_rotation, version);
  END IF;
  PERFORM insert_audit(audit_rows);
  INSERT INTO outbox (secret_id, namespace, name, unled)
  VALUES (secret, new_namespace, new_name, writer_epoch IS NULL);
END $$;

CREATE FUNCTION change_pointer(
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
  DELETE FROM versions
  WHERE secret_id = secret AND version <= new_version - new_keep_versions AND NOT is_held(new_rotation, version);
  PERFORM insert_audit(audit_rows);
  INSERT INTO outbox (secret_id, namespace, name, unled)
  SELECT s.id, s.namespace, s.name, writer_epoch IS NULL FROM secrets s WHERE s.id = secret;
END $$;
