-- Up Migration

-- Evidence that something was deleted: a Secret, where key is empty, or a key that was taken out of its manifest. It outlives
-- the secret itself, and is kept for as long as a rule remembers an entry of it in a vault.
CREATE TABLE sync_tombstones (
  secret_id uuid NOT NULL,
  key text NOT NULL,
  secret_name text NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (secret_id, key)
);
CREATE INDEX sync_items_secret ON sync_items (secret_id);

-- Since when the entry is to be deleted in the vault; on record by then.
ALTER TABLE sync_items ADD COLUMN deleting_at timestamptz;

-- What a rule covered last, and what a person let through beyond its limits.
CREATE TABLE sync_rules (
  rule_uid text PRIMARY KEY,
  scope text NOT NULL,
  release text,
  approved json NOT NULL
);

-- Triggers, since a replica that is not upgraded yet must neither leave evidence behind that is refuted nor fail to leave any.

CREATE FUNCTION compare_keys() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM sync_tombstones t USING made m WHERE t.secret_id = m.secret_id AND t.key = m.key;
  INSERT INTO sync_tombstones (secret_id, key, secret_name)
  SELECT e.secret_id, e.key, s.name
  FROM (SELECT DISTINCT secret_id, version FROM made) AS v
  JOIN entries e ON e.secret_id = v.secret_id AND e.version = v.version - 1
  JOIN secrets s ON s.id = v.secret_id
  WHERE NOT EXISTS (SELECT FROM made m WHERE m.secret_id = e.secret_id AND m.version = v.version AND m.key = e.key)
    AND EXISTS (SELECT FROM sync_items i WHERE i.secret_id = e.secret_id AND i.key = e.key)
  ON CONFLICT DO NOTHING;
  RETURN NULL;
END $$;
CREATE TRIGGER entries_compare_keys AFTER INSERT ON entries REFERENCING NEW TABLE AS made
  FOR EACH STATEMENT EXECUTE FUNCTION compare_keys();

CREATE FUNCTION refute_tombstone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM sync_tombstones WHERE secret_id = NEW.id AND key = '';
  RETURN NULL;
END $$;
CREATE TRIGGER secrets_refute_tombstone AFTER UPDATE OF state ON secrets
  FOR EACH ROW WHEN (NEW.state = 'Active' AND OLD.state <> 'Active') EXECUTE FUNCTION refute_tombstone();

-- What is written, or agreed on, is not being deleted any more.
CREATE FUNCTION end_deletion() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  NEW.deleting_at := NULL;
  RETURN NEW;
END $$;
CREATE TRIGGER sync_items_end_deletion BEFORE UPDATE OF intent_id, version ON sync_items
  FOR EACH ROW WHEN (OLD.deleting_at IS NOT NULL) EXECUTE FUNCTION end_deletion();

CREATE FUNCTION drop_tombstones() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  DELETE FROM sync_tombstones t USING gone g
  WHERE t.secret_id = g.secret_id AND NOT EXISTS (
    SELECT FROM sync_items i WHERE i.secret_id = t.secret_id AND (t.key = '' OR i.key = t.key)
  );
  RETURN NULL;
END $$;
CREATE TRIGGER sync_items_drop_tombstones AFTER DELETE ON sync_items REFERENCING OLD TABLE AS gone
  FOR EACH STATEMENT EXECUTE FUNCTION drop_tombstones();

-- In the transaction in which the secret goes, while its row is there.
CREATE FUNCTION record_tombstone(writer_epoch bigint, secret uuid) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  INSERT INTO sync_tombstones (secret_id, key, secret_name)
  SELECT id, '', name FROM secrets
  WHERE id = secret AND EXISTS (SELECT FROM sync_items WHERE secret_id = secret)
  ON CONFLICT DO NOTHING;
END $$;

-- Only while there is evidence, which is locked so that it is not refuted in between: of a secret that is gone, or of a key
-- that the current version does not have.
CREATE FUNCTION record_deletion(
  writer_epoch bigint, old_vault_url text, old_entry_name text, old_secret_id uuid, old_key text, old_rule_uid text,
  audit_rows json
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  begun timestamptz;
BEGIN
  PERFORM fence(writer_epoch);
  PERFORM FROM sync_tombstones t
  WHERE t.secret_id = old_secret_id AND (
    (t.key = '' AND NOT EXISTS (SELECT FROM secrets WHERE id = old_secret_id AND state <> 'SoftDeleted'))
    OR (t.key = old_key AND NOT EXISTS (
      SELECT FROM secrets s JOIN entries e ON e.secret_id = s.id AND e.version = s.current_version AND e.key = old_key
      WHERE s.id = old_secret_id
    ))
  ) FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'nothing says that what % was written for was deleted', old_entry_name USING ERRCODE = 'MV002';
  END IF;
  SELECT deleting_at INTO begun FROM sync_items
  WHERE vault_url = old_vault_url AND entry_name = old_entry_name AND secret_id = old_secret_id AND key = old_key
    AND rule_uid = old_rule_uid FOR UPDATE;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'the rule does not hold %', old_entry_name USING ERRCODE = 'MV002';
  END IF;
  -- It is on record once, however often it is tried.
  IF begun IS NULL THEN
    UPDATE sync_items SET deleting_at = now() WHERE vault_url = old_vault_url AND entry_name = old_entry_name;
    PERFORM insert_audit(audit_rows);
  END IF;
END $$;

CREATE FUNCTION record_rule(
  writer_epoch bigint, new_rule_uid text, new_scope text, new_release text, new_approved json, audit_rows json
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  INSERT INTO sync_rules (rule_uid, scope, release, approved)
  VALUES (new_rule_uid, new_scope, new_release, new_approved)
  ON CONFLICT (rule_uid) DO UPDATE SET scope = new_scope, release = new_release, approved = new_approved;
  PERFORM insert_audit(audit_rows);
END $$;
