-- Up Migration

-- What rules with direction Pull last took over from a vault, for each entry of a secret.
CREATE TABLE sync_pulled (
  secret_id uuid NOT NULL REFERENCES secrets ON DELETE CASCADE,
  key text NOT NULL,
  rule_uid text NOT NULL,
  vault_url text NOT NULL,
  entry_name text NOT NULL CHECK (entry_name = lower(entry_name)),
  fingerprint text NOT NULL,
  target_version text NOT NULL,
  target_updated_on timestamptz NOT NULL,
  -- Since when the target was known to have this version and time.
  seen_at timestamptz NOT NULL,
  settled boolean NOT NULL,
  PRIMARY KEY (secret_id, key)
);
CREATE INDEX sync_pulled_rule ON sync_pulled (rule_uid);

-- Key Vault's times have whole seconds. What is read again, unchanged, when a second has passed since it was recorded,
-- cannot be edited any more without another time.
CREATE FUNCTION is_settled(seen_at timestamptz, read_ms_ago double precision) RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT seen_at <= now() - make_interval(secs => 1 + read_ms_ago / 1000)
$$;

-- In the order of the key, so that two writers do not wait for each other.
CREATE FUNCTION record_pulled(
  writer_epoch bigint, secret_ids uuid[], new_keys text[], rule_uids text[], vault_urls text[], entry_names text[],
  fingerprints text[], target_versions text[], updated_on timestamptz[], read_ms_ago double precision
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  INSERT INTO sync_pulled AS held
  SELECT p.*, now(), false FROM unnest(secret_ids, new_keys, rule_uids, vault_urls, entry_names, fingerprints,
                                       target_versions, updated_on) AS p (secret_id, key)
  WHERE EXISTS (SELECT FROM secrets WHERE id = p.secret_id)
  ORDER BY p.secret_id, p.key
  ON CONFLICT (secret_id, key) DO UPDATE
  SET rule_uid = excluded.rule_uid, vault_url = excluded.vault_url, entry_name = excluded.entry_name,
      fingerprint = excluded.fingerprint, target_version = excluded.target_version,
      target_updated_on = excluded.target_updated_on,
      (seen_at, settled) = (
        SELECT CASE WHEN same THEN held.seen_at ELSE now() END, same AND is_settled(held.seen_at, read_ms_ago)
        FROM (SELECT (held.target_version, held.target_updated_on)
                   = (excluded.target_version, excluded.target_updated_on) AS same) AS compared
      );
END $$;

CREATE FUNCTION forget_pulled(writer_epoch bigint, old_rule_uid text, secret_ids uuid[], old_keys text[]) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  DELETE FROM sync_pulled p USING unnest(secret_ids, old_keys) AS g (secret_id, key)
  WHERE p.rule_uid = old_rule_uid AND p.secret_id = g.secret_id AND p.key = g.key;
END $$;
