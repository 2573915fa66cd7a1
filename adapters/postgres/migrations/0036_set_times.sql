-- Up Migration

-- Of the oldest version that retention has left: when its values were set, where that was in a version that is gone.
ALTER TABLE entries ADD COLUMN set_at timestamptz;

-- Before versions go, those above them take over since when they have had the same values. Versions of one transaction have one time:
-- all but the last of them never were the current one.
CREATE OR REPLACE FUNCTION expire_versions(secret uuid, new_current integer, new_keep_versions integer, new_rotation json)
RETURNS void LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  counted record;
  before_version integer;
  before_at timestamptz;
BEGIN
  IF EXISTS (SELECT FROM versions v WHERE v.secret_id = secret AND v.version <= new_current - new_keep_versions
               AND NOT is_held(new_rotation, v.version)) THEN
    FOR counted IN
      SELECT v.version, coalesce(v.set_at, v.created_at) AS at
      FROM (
        SELECT version, created_at, set_at, lead(created_at) OVER (ORDER BY version) AS next
        FROM versions WHERE secret_id = secret AND version <= new_current
      ) AS v
      WHERE v.next IS DISTINCT FROM v.created_at ORDER BY v.version
    LOOP
      IF before_version IS NOT NULL THEN
        UPDATE entries e SET set_at = coalesce(b.set_at, before_at)
        FROM entries b
        WHERE b.secret_id = secret AND b.version = before_version
          AND e.secret_id = secret AND e.version = counted.version AND e.key = b.key AND e.fingerprint = b.fingerprint;
      END IF;
      EXIT WHEN counted.version > new_current - new_keep_versions;
      before_version := counted.version;
      before_at := counted.at;
    END LOOP;
  END IF;
  DELETE FROM versions v
  WHERE v.secret_id = secret AND NOT is_held(new_rotation, v.version)
    AND (v.version <= new_current - new_keep_versions
         OR (v.version > new_current AND NOT has_failed(new_rotation, v.version)));
END $$;

CREATE OR REPLACE FUNCTION commit_version(
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
    PERFORM expire_versions(secret, new_version, new_keep_versions, new_rotation);
  END IF;
  PERFORM insert_audit(audit_rows);
  INSERT INTO outbox (secret_id, namespace, name, unled)
  VALUES (secret, new_namespace, new_name, writer_epoch IS NULL);
END $$;
