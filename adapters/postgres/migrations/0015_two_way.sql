-- Up Migration

-- As in sync_pulled.
ALTER TABLE sync_items ADD COLUMN settled boolean NOT NULL DEFAULT false, ADD COLUMN seen_at timestamptz;

CREATE OR REPLACE FUNCTION record_outcome(
  writer_epoch bigint, old_vault_url text, old_entry_name text, old_secret_id uuid, old_key text, new_rule_uid text,
  new_version integer, new_fingerprint text, new_target_version text, new_target_updated_on timestamptz, audit_rows json
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  UPDATE sync_items
  SET rule_uid = new_rule_uid, version = new_version, fingerprint = new_fingerprint,
      target_version = new_target_version, target_updated_on = new_target_updated_on, settled = false,
      seen_at = now(), intent_id = NULL, intent_version = NULL, intent_fingerprint = NULL, intent_at = NULL
  WHERE vault_url = old_vault_url AND entry_name = old_entry_name AND secret_id = old_secret_id AND key = old_key;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'nothing was meant to be written to %', old_entry_name USING ERRCODE = 'MV002';
  END IF;
  PERFORM insert_audit(audit_rows);
END $$;

-- Claims the name as record_intent does, and records what both sides have. Returns who holds the name instead.
CREATE FUNCTION record_agreement(
  writer_epoch bigint, new_vault_url text, new_entry_name text, new_secret_id uuid, new_key text, new_rule_uid text,
  new_version integer, new_fingerprint text, new_target_version text, new_target_updated_on timestamptz,
  read_ms_ago double precision
) RETURNS SETOF sync_items LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  INSERT INTO sync_items AS held (vault_url, entry_name, secret_id, key, rule_uid, version, fingerprint, target_version,
                                  target_updated_on, seen_at, settled)
  VALUES (new_vault_url, new_entry_name, new_secret_id, new_key, new_rule_uid, new_version, new_fingerprint,
          new_target_version, new_target_updated_on, now(), false)
  ON CONFLICT (vault_url, entry_name) DO UPDATE
  SET secret_id = new_secret_id, key = new_key, rule_uid = new_rule_uid, version = new_version,
      fingerprint = new_fingerprint, target_version = new_target_version,
      target_updated_on = new_target_updated_on, intent_id = NULL, intent_version = NULL,
      intent_fingerprint = NULL, intent_at = NULL,
      (seen_at, settled) = (
        SELECT CASE WHEN same THEN coalesce(held.seen_at, now()) ELSE now() END,
               coalesce(same AND is_settled(held.seen_at, read_ms_ago), false)
        FROM (SELECT held.secret_id = new_secret_id AND held.target_version = new_target_version
                     AND held.target_updated_on = new_target_updated_on AS same) AS compared
      )
  WHERE (held.secret_id = new_secret_id AND held.key = new_key)
     OR NOT EXISTS (SELECT FROM secrets WHERE id = held.secret_id);
  IF NOT FOUND THEN
    RETURN QUERY SELECT * FROM sync_items WHERE vault_url = new_vault_url AND entry_name = new_entry_name;
  END IF;
END $$;
