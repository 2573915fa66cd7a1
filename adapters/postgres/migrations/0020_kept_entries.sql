-- Up Migration

-- Of the Key Vault that has a secret's values, whose versions then hold their places. It is under the pointer's MAC, and
-- set with the first version. The functions of before stay: a replica that is not upgraded yet refuses such a secret, since
-- it does not know the MAC, and writes all others with them.
ALTER TABLE secrets ADD COLUMN vault_url text;

-- Entries of Key Vaults that have the only copy of a value. Names only.
CREATE TABLE kept_entries (
  vault_url text NOT NULL,
  entry_name text NOT NULL,
  owner text NOT NULL,
  key text NOT NULL,
  secret_id uuid NOT NULL,
  project text NOT NULL,
  environment text NOT NULL,
  namespace text NOT NULL,
  namespace_uid text NOT NULL,
  name text NOT NULL,
  wanted text NOT NULL DEFAULT 'Kept' CHECK (wanted IN ('Kept', 'Deleted', 'Purged')),
  settled boolean NOT NULL DEFAULT true,
  -- In the vault, of the value that was committed last: by it an entry is known as ours that somebody edited.
  target_version text,
  -- What is being written, by whom, and until when nobody else may.
  write_id uuid,
  write_epoch bigint,
  write_until timestamptz
);
-- Key Vault ignores case.
CREATE UNIQUE INDEX kept_entries_name ON kept_entries (vault_url, lower(entry_name));
CREATE INDEX kept_entries_owner ON kept_entries (owner);
CREATE INDEX kept_entries_secret ON kept_entries (secret_id);
CREATE INDEX kept_entries_unsettled ON kept_entries (vault_url) WHERE NOT settled OR write_id IS NOT NULL;

-- A leader takes over at once what a former one began: that one asks for its lease before each call to a vault.
CREATE FUNCTION is_being_written(entry kept_entries, asking_epoch bigint) RETURNS boolean LANGUAGE sql STABLE AS $$
  SELECT entry.write_id IS NOT NULL AND entry.write_until > now()
    AND NOT coalesce(entry.write_epoch < asking_epoch, false)
$$;

-- Returns who has one of the names, if anybody but this secret and key does; then nothing was begun.
CREATE FUNCTION begin_kept_write(
  writer_epoch bigint, new_write uuid, secret uuid, new_owner text, new_vault_url text, new_keys text[], new_names text[],
  new_project text, new_environment text, new_namespace text, new_namespace_uid text, new_name text, lease_ms bigint
) RETURNS SETOF kept_entries LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence_led(writer_epoch);
  PERFORM pg_advisory_xact_lock(hashtextextended(new_vault_url, 0));
  RETURN QUERY
    SELECT k.* FROM kept_entries k
    JOIN unnest(new_keys, new_names) AS n (key, name) ON lower(k.entry_name) = lower(n.name)
    WHERE k.vault_url = new_vault_url AND (k.owner, k.key) <> (new_owner, n.key) LIMIT 1;
  IF FOUND THEN
    RETURN;
  END IF;
  IF EXISTS (SELECT FROM kept_entries k
             WHERE k.owner = new_owner AND k.write_id <> new_write AND is_being_written(k, writer_epoch)) THEN
    RAISE EXCEPTION 'secret % is being written', secret USING ERRCODE = 'MV002';
  END IF;
  -- Other keys of one before it stay as that one left them, still to be purged. What is claimed here is wanted as before until
  -- the commit, which may never come.
  INSERT INTO kept_entries (vault_url, entry_name, owner, key, secret_id, project, environment, namespace, namespace_uid,
                            name, write_id, write_epoch, write_until)
  SELECT new_vault_url, n.name, new_owner, n.key, secret, new_project, new_environment, new_namespace, new_namespace_uid,
         new_name, new_write, writer_epoch, now() + make_interval(secs => lease_ms / 1000.0)
  FROM unnest(new_keys, new_names) AS n (key, name)
  ON CONFLICT (vault_url, lower(entry_name)) DO UPDATE
  SET secret_id = excluded.secret_id, write_id = excluded.write_id, write_epoch = excluded.write_epoch,
      write_until = excluded.write_until;
  -- Last, since only now everybody who was committing one of these rows has ended.
  IF EXISTS (SELECT FROM secrets s
             WHERE s.namespace = new_namespace AND s.name = new_name AND s.environment = new_environment
               AND s.project = new_project AND s.namespace_uid = new_namespace_uid AND s.id <> secret) THEN
    RAISE EXCEPTION 'secret % was stored by another writer under another id', secret USING ERRCODE = 'MV002';
  END IF;
END $$;

-- Names that were claimed for a secret that never came to be stored are free again, unless the vault may have them.
CREATE FUNCTION release_kept_write(ended uuid, touched boolean) RETURNS void LANGUAGE sql VOLATILE AS $$
  DELETE FROM kept_entries k
  WHERE k.write_id = ended AND NOT touched AND k.settled AND k.target_version IS NULL
    AND NOT EXISTS (SELECT FROM secrets s WHERE s.id = k.secret_id);
  -- The vault has values of one before it, that was purged.
  UPDATE kept_entries k SET wanted = 'Purged', settled = false
  WHERE k.write_id = ended AND k.target_version IS NOT NULL
    AND NOT EXISTS (SELECT FROM secrets s WHERE s.id = k.secret_id);
  UPDATE kept_entries SET write_id = CASE WHEN touched THEN write_id END, write_until = now() WHERE write_id = ended
$$;

-- In the transaction that commits what was written.
CREATE FUNCTION end_kept_write(
  secret uuid, new_vault_url text, ended uuid, new_keys text[], new_versions text[]
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  IF ended IS NOT NULL THEN
    UPDATE kept_entries k
    SET write_id = NULL, wanted = 'Kept', settled = true,
        target_version = coalesce(
          (SELECT n.version FROM unnest(new_keys, new_versions) AS n (key, version) WHERE n.key = k.key),
          k.target_version)
    WHERE secret_id = secret AND write_id = ended;
    IF NOT FOUND THEN
      RAISE EXCEPTION 'secret % was changed by another writer', secret USING ERRCODE = 'MV002';
    END IF;
  END IF;
  UPDATE secrets SET vault_url = new_vault_url WHERE id = secret AND vault_url IS NULL;
END $$;

-- What becomes of a secret becomes of its entries, in the same transaction.
CREATE FUNCTION want_kept_entries() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE kept_entries
  SET wanted = CASE WHEN TG_OP = 'DELETE' THEN 'Purged' WHEN NEW.state = 'SoftDeleted' THEN 'Deleted' ELSE 'Kept' END,
      settled = false
  WHERE secret_id = OLD.id;
  RETURN NULL;
END $$;
CREATE TRIGGER want_kept_entries AFTER UPDATE OF state ON secrets FOR EACH ROW
WHEN (NEW.vault_url IS NOT NULL AND NEW.state <> OLD.state) EXECUTE FUNCTION want_kept_entries();
CREATE TRIGGER purge_kept_entries AFTER DELETE ON secrets FOR EACH ROW
WHEN (OLD.vault_url IS NOT NULL) EXECUTE FUNCTION want_kept_entries();

CREATE FUNCTION take_kept_entry(
  writer_epoch bigint, of_vault text, of_entry text, taker uuid, lease_ms bigint
) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  UPDATE kept_entries k
  SET write_id = taker, write_epoch = writer_epoch, write_until = now() + make_interval(secs => lease_ms / 1000.0)
  WHERE vault_url = of_vault AND lower(entry_name) = lower(of_entry) AND NOT is_being_written(k, writer_epoch);
  RETURN FOUND;
END $$;

-- What is wanted may have changed meanwhile; then it is settled another time.
CREATE FUNCTION settle_kept_entry(
  writer_epoch bigint, of_vault text, of_entry text, taker uuid, done text
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  DELETE FROM kept_entries k
  WHERE k.vault_url = of_vault AND lower(k.entry_name) = lower(of_entry) AND k.write_id = taker AND done = 'Purged'
    AND NOT EXISTS (SELECT FROM secrets s WHERE s.id = k.secret_id);
  UPDATE kept_entries SET write_id = NULL, settled = settled OR wanted = done
  WHERE vault_url = of_vault AND lower(entry_name) = lower(of_entry) AND write_id = taker;
END $$;
