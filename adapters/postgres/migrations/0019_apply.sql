-- Up Migration

-- A version that is not current yet: what uses it takes it first. The record of it stands with the pointer, in `rotation`,
-- under its MAC. It never falls to retention; its number is never that of another one.
CREATE OR REPLACE FUNCTION is_held(rotation json, of_version integer) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
  SELECT EXISTS (SELECT FROM json_array_elements(rotation -> 'held') AS h WHERE (h ->> 'version')::integer = of_version)
    OR coalesce((rotation #>> '{apply,pending,version}')::integer = of_version, false)
$$;

CREATE FUNCTION commit_pending_version(
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
  INSERT INTO entries (secret_id, version, key, recipe, fingerprint, ciphertext)
  SELECT secret, new_version, e.* FROM unnest(new_keys, recipes, fingerprints, ciphertexts) AS e;
  PERFORM insert_audit(audit_rows);
  INSERT INTO outbox (secret_id, namespace, name, unled)
  SELECT s.id, s.namespace, s.name, writer_epoch IS NULL FROM secrets s WHERE s.id = secret;
END $$;
