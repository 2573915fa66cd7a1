-- Up Migration

-- When the value that both sides agreed on was set, in milliseconds of the vault's clock. It never goes back. The functions
-- of before stay for a replica that is not upgraded yet: it leaves the clock as it is.
ALTER TABLE sync_items ADD COLUMN clock bigint, ADD COLUMN taking_fingerprint text, ADD COLUMN taking_clock bigint;

-- Claims the name as record_intent does, and records what is about to be taken over. Returns who holds the name instead.
CREATE FUNCTION record_taking(
  writer_epoch bigint, new_vault_url text, new_entry_name text, new_secret_id uuid, new_key text, new_rule_uid text,
  new_fingerprint text, new_clock bigint
) RETURNS SETOF sync_items LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  DELETE FROM sync_items
  WHERE vault_url = new_vault_url AND entry_name = new_entry_name AND secret_id <> new_secret_id
    AND NOT EXISTS (SELECT FROM secrets WHERE id = secret_id);
  INSERT INTO sync_items AS held (vault_url, entry_name, secret_id, key, rule_uid, taking_fingerprint, taking_clock)
  VALUES (new_vault_url, new_entry_name, new_secret_id, new_key, new_rule_uid, new_fingerprint, new_clock)
  ON CONFLICT (vault_url, entry_name) DO UPDATE
  SET rule_uid = new_rule_uid, taking_fingerprint = new_fingerprint, taking_clock = new_clock, deleting_at = NULL
  WHERE held.secret_id = new_secret_id AND held.key = new_key;
  IF NOT FOUND THEN
    RETURN QUERY SELECT * FROM sync_items WHERE vault_url = new_vault_url AND entry_name = new_entry_name;
  END IF;
END $$;

CREATE FUNCTION record_outcome(
  writer_epoch bigint, old_vault_url text, old_entry_name text, old_secret_id uuid, old_key text, new_rule_uid text,
  new_version integer, new_fingerprint text, new_target_version text, new_target_updated_on timestamptz,
  new_clock bigint, audit_rows json
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  UPDATE sync_items
  SET rule_uid = new_rule_uid, version = new_version, fingerprint = new_fingerprint,
      target_version = new_target_version, target_updated_on = new_target_updated_on, settled = false,
      seen_at = now(), clock = greatest(clock, new_clock), taking_fingerprint = NULL, taking_clock = NULL,
      intent_id = NULL, intent_version = NULL, intent_fingerprint = NULL, intent_at = NULL
  WHERE vault_url = old_vault_url AND entry_name = old_entry_name AND secret_id = old_secret_id AND key = old_key;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'nothing was meant to be written to %', old_entry_name USING ERRCODE = 'MV002';
  END IF;
  PERFORM insert_audit(audit_rows);
END $$;

-- Whether it is settled is said by the target's clock, where read_ms_ago is NULL, else by this one.
CREATE FUNCTION record_agreement(
  writer_epoch bigint, new_vault_url text, new_entry_name text, new_secret_id uuid, new_key text, new_rule_uid text,
  new_version integer, new_fingerprint text, new_target_version text, new_target_updated_on timestamptz,
  new_clock bigint, new_settled boolean, read_ms_ago double precision
) RETURNS SETOF sync_items LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  INSERT INTO sync_items AS held (vault_url, entry_name, secret_id, key, rule_uid, version, fingerprint, target_version,
                                  target_updated_on, clock, seen_at, settled)
  VALUES (new_vault_url, new_entry_name, new_secret_id, new_key, new_rule_uid, new_version, new_fingerprint,
          new_target_version, new_target_updated_on, new_clock, now(), new_settled AND read_ms_ago IS NULL)
  ON CONFLICT (vault_url, entry_name) DO UPDATE
  SET secret_id = new_secret_id, key = new_key, rule_uid = new_rule_uid, version = new_version,
      fingerprint = new_fingerprint, target_version = new_target_version,
      target_updated_on = new_target_updated_on, intent_id = NULL, intent_version = NULL,
      intent_fingerprint = NULL, intent_at = NULL, taking_fingerprint = NULL, taking_clock = NULL,
      clock = CASE WHEN held.secret_id = new_secret_id THEN greatest(held.clock, new_clock) ELSE new_clock END,
      (seen_at, settled) = (
        SELECT CASE WHEN same THEN coalesce(held.seen_at, now()) ELSE now() END,
               CASE WHEN read_ms_ago IS NULL THEN new_settled
                    ELSE coalesce(same AND is_settled(held.seen_at, read_ms_ago), false) END
        FROM (SELECT held.secret_id = new_secret_id AND held.target_version = new_target_version
                     AND held.target_updated_on = new_target_updated_on AS same) AS compared
      )
  WHERE (held.secret_id = new_secret_id AND held.key = new_key)
     OR NOT EXISTS (SELECT FROM secrets WHERE id = held.secret_id);
  IF NOT FOUND THEN
    RETURN QUERY SELECT * FROM sync_items WHERE vault_url = new_vault_url AND entry_name = new_entry_name;
  END IF;
END $$;
