-- Up Migration

-- When the value was set that the entry has, by whichever version had it first without a break. NULL: made before this was kept.
ALTER TABLE entries ADD COLUMN set_at timestamptz;

-- Since when the current version has had this value; NULL when it has another one. Versions of one transaction have one time: all but
-- the last of them never were the current one, and what this transaction makes is not there yet. Only what was made before times were
-- kept is looked up further down than in one version.
CREATE FUNCTION held_since(secret uuid, of_key text, of_fingerprint bytea) RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
DECLARE
  pointer record;
  kept record;
  above timestamptz := now();
  since timestamptz;
BEGIN
  SELECT current_version, rotation, (rotation #>> '{apply,pending,version}')::integer AS pending INTO pointer
  FROM secrets WHERE id = secret;
  FOR kept IN
    SELECT v.version, v.created_at, e.fingerprint, e.set_at, coalesce(e.set_at, v.set_at, v.created_at) AS at
    FROM versions v LEFT JOIN entries e ON e.secret_id = v.secret_id AND e.version = v.version AND e.key = of_key
    WHERE v.secret_id = secret AND v.version <= pointer.current_version ORDER BY v.version DESC
  LOOP
    CONTINUE WHEN kept.created_at = above OR kept.version = pointer.pending OR has_failed(pointer.rotation, kept.version);
    EXIT WHEN kept.fingerprint IS DISTINCT FROM of_fingerprint;
    above := kept.created_at;
    since := kept.at;
    EXIT WHEN kept.set_at IS NOT NULL;
  END LOOP;
  RETURN since;
END $$;

-- What was made before times were kept takes its own while the versions are there that tell it.
CREATE OR REPLACE FUNCTION expire_versions(secret uuid, new_current integer, new_keep_versions integer, new_rotation json)
RETURNS void LANGUAGE sql VOLATILE AS $$
  UPDATE entries SET set_at = held_since(secret, key, fingerprint)
  WHERE secret_id = secret AND version = new_current AND set_at IS NULL;
  DELETE FROM versions
  WHERE secret_id = secret AND NOT is_held(new_rotation, version)
    AND (version <= new_current - new_keep_versions OR (version > new_current AND NOT has_failed(new_rotation, version)));
$$;

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
  INSERT INTO entries (secret_id, version, key, recipe, fingerprint, ciphertext, set_at)
  SELECT secret, new_version, e.*, coalesce(held_since(secret, e.key, e.fingerprint), now())
  FROM unnest(new_keys, recipes, fingerprints, ciphertexts) AS e (key, recipe, fingerprint, ciphertext);
  IF new_version > new_keep_versions THEN
    PERFORM expire_versions(secret, new_version, new_keep_versions, new_rotation);
  END IF;
  PERFORM insert_audit(audit_rows);
  INSERT INTO outbox (secret_id, namespace, name, unled)
  VALUES (secret, new_namespace, new_name, writer_epoch IS NULL);
END $$;

CREATE OR REPLACE FUNCTION commit_pending_version(
  writer_epoch bigint, secret uuid, expected bigint, new_generation bigint, new_mac bytea, new_rotation json,
  new_version integer, new_wrapped_key bytea, new_project_key_id uuid, new_keys text[], recipes bytea[],
  fingerprints bytea[], ciphertexts bytea[], audit_rows json
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence_led(writer_epoch);
  UPDATE secrets SET generation = new_generation, rotation = new_rotation, mac = new_mac
  WHERE id = secret AND generation = expected;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'secret % was changed by another writer', secret USING ERRCODE = 'MV002';
  END IF;
  INSERT INTO versions (secret_id, version, wrapped_key, project_key_id)
  VALUES (secret, new_version, new_wrapped_key, new_project_key_id);
  INSERT INTO entries (secret_id, version, key, recipe, fingerprint, ciphertext, set_at)
  SELECT secret, new_version, e.*, coalesce(held_since(secret, e.key, e.fingerprint), now())
  FROM unnest(new_keys, recipes, fingerprints, ciphertexts) AS e (key, recipe, fingerprint, ciphertext);
  PERFORM insert_audit(audit_rows);
  INSERT INTO outbox (secret_id, namespace, name, unled)
  SELECT s.id, s.namespace, s.name, writer_epoch IS NULL FROM secrets s WHERE s.id = secret;
END $$;

-- In the transaction of the version that came of it, whose own values were set when those were. A replica that is not upgraded yet
-- looks for that at the version.
CREATE OR REPLACE FUNCTION handle_gateway_write_by_version(
  of_environment text, of_id uuid, new_outcome json, new_mac bytea, secret uuid, of_version integer, age_ms double precision
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  new_set_at CONSTANT timestamptz := clock_timestamp() - age_ms * interval '1 millisecond';
BEGIN
  IF NOT handle_gateway_write(of_environment, of_id, new_outcome, new_mac, '[]') THEN
    RAISE EXCEPTION 'the write was handled already' USING ERRCODE = 'MV002';
  END IF;
  UPDATE versions SET set_at = new_set_at WHERE secret_id = secret AND version = of_version;
  UPDATE entries SET set_at = new_set_at WHERE secret_id = secret AND version = of_version AND set_at = now();
END $$;
