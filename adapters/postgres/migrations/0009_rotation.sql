-- Up Migration

-- A key that was replaced and wraps nothing any more keeps its row, without the key.
ALTER TABLE keys ADD COLUMN retired_at timestamptz;
CREATE INDEX keys_wrapped_by ON keys (wrapped_by);

-- The project key that the entries are bound to; NULL: the one that wraps the data key. The data key can be wrapped by
-- another one without touching what it encrypts.
ALTER TABLE versions ADD COLUMN entries_key_id uuid;
CREATE INDEX versions_project_key ON versions (project_key_id, secret_id, version);

-- Who wrapped with a version that it takes for the newest has written it, or is refused, before that version is retired.
CREATE OR REPLACE FUNCTION fence_led(writer_epoch bigint) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  IF writer_epoch IS NOT NULL THEN
    PERFORM fence(writer_epoch);
  ELSE
    PERFORM pg_advisory_xact_lock_shared(5641863402551213);
  END IF;
END $$;

CREATE FUNCTION assert_newest(key_id uuid) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  IF EXISTS (SELECT FROM keys k JOIN keys n USING (purpose, scope) WHERE k.id = key_id AND n.version > k.version) THEN
    RAISE EXCEPTION 'key % has been replaced', key_id USING ERRCODE = 'MV004';
  END IF;
END $$;

-- Nothing is wrapped by a version that has a successor: however long a replica has not looked, what it writes does not
-- have to be wrapped again.
CREATE FUNCTION wrapped_by_newest() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_TABLE_NAME = 'versions' THEN
    PERFORM assert_newest(NEW.project_key_id);
  ELSIF NEW.wrapped_by ~ '^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$' THEN
    PERFORM assert_newest(NEW.wrapped_by::uuid);
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER versions_wrapped_by_newest BEFORE INSERT OR UPDATE OF project_key_id ON versions
  FOR EACH ROW EXECUTE FUNCTION wrapped_by_newest();
CREATE TRIGGER keys_wrapped_by_newest BEFORE INSERT OR UPDATE OF wrapped_by ON keys
  FOR EACH ROW EXECUTE FUNCTION wrapped_by_newest();

CREATE OR REPLACE FUNCTION reserve_uses(writer_epoch bigint, key_id uuid, additional bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  total bigint;
BEGIN
  PERFORM fence_led(writer_epoch);
  UPDATE keys SET uses = uses + additional WHERE id = key_id AND retired_at IS NULL RETURNING uses INTO total;
  IF total IS NULL THEN
    PERFORM assert_newest(key_id);
  END IF;
  RETURN total;
END $$;

-- One rotation of a key at a time: the next begins when all versions but the newest are retired, or when that one was used
-- 2^30 times: what keeps an older one may never open, and the project is to be written to. A version of the
-- installation key is wrapped by the same root key as the one before, else a replica that has not heard of another root
-- key would bring the former one back.
CREATE FUNCTION rotate_key(
  writer_epoch bigint, new_id uuid, new_purpose text, new_scope text, new_version integer, new_wrapped_by text,
  new_wrapped bytea, audit_rows json
) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  newest keys;
BEGIN
  PERFORM fence_led(writer_epoch);
  SELECT * INTO newest FROM keys k WHERE k.purpose = new_purpose AND k.scope = new_scope ORDER BY k.version DESC LIMIT 1;
  IF newest.version IS DISTINCT FROM new_version - 1
     OR newest.uses < 1073741824 AND EXISTS (
       SELECT FROM keys k WHERE k.purpose = new_purpose AND k.scope = new_scope AND k.retired_at IS NULL
         AND k.version < newest.version) THEN
    RETURN false;
  END IF;
  IF new_purpose = 'Installation' AND newest.wrapped_by <> new_wrapped_by THEN
    RAISE EXCEPTION 'the root key % is being replaced', newest.wrapped_by USING ERRCODE = 'MV004';
  END IF;
  INSERT INTO keys (id, purpose, scope, version, wrapped_by, wrapped)
  VALUES (new_id, new_purpose, new_scope, new_version, new_wrapped_by, new_wrapped)
  ON CONFLICT (purpose, scope, version) DO NOTHING;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  PERFORM insert_audit(audit_rows);
  RETURN true;
END $$;

-- Only what still stands as it was read: a version that is being deleted is left to that, another leader's to it.
CREATE FUNCTION rewrap_data_keys(
  writer_epoch bigint, old_key uuid, new_key uuid, of_secrets uuid[], of_versions integer[], before bytea[],
  after bytea[]
) RETURNS integer LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  changed integer;
BEGIN
  PERFORM fence(writer_epoch);
  WITH given AS (
    SELECT v.secret_id, v.version, g.after
    FROM unnest(of_secrets, of_versions, before, after) AS g (secret_id, version, before, after)
    JOIN versions v ON v.secret_id = g.secret_id AND v.version = g.version
    WHERE v.project_key_id = old_key AND v.wrapped_key = g.before
    ORDER BY v.secret_id, v.version FOR NO KEY UPDATE OF v SKIP LOCKED
  )
  UPDATE versions v
  SET wrapped_key = given.after, project_key_id = new_key, entries_key_id = coalesce(v.entries_key_id, old_key)
  FROM given WHERE v.secret_id = given.secret_id AND v.version = given.version;
  GET DIAGNOSTICS changed = ROW_COUNT;
  RETURN changed;
END $$;

CREATE FUNCTION rewrap_keys(
  writer_epoch bigint, old_wrapped_by text, new_wrapped_by text, ids uuid[], before bytea[], after bytea[], audit_rows
  json
) RETURNS integer LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  changed integer;
BEGIN
  PERFORM fence(writer_epoch);
  UPDATE keys k SET wrapped_by = new_wrapped_by, wrapped = g.after
  FROM unnest(ids, before, after) AS g (id, before, after)
  WHERE k.id = g.id AND k.wrapped_by = old_wrapped_by AND k.wrapped = g.before AND k.retired_at IS NULL;
  GET DIAGNOSTICS changed = ROW_COUNT;
  IF changed > 0 THEN
    PERFORM insert_audit(audit_rows);
  END IF;
  RETURN changed;
END $$;

CREATE FUNCTION wraps_something(key_id uuid) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  RETURN EXISTS (SELECT FROM versions v WHERE v.project_key_id = key_id)
    OR EXISTS (SELECT FROM keys k WHERE k.wrapped_by = key_id::text AND k.retired_at IS NULL);
END $$;

-- The lock that every writer shares is taken alone, so that nothing that the key wrapped is still to be committed. Whether
-- that is worth it is seen without, since every writer waits for it meanwhile; a stale leader goes on to where it is
-- refused.
CREATE FUNCTION retire_key(writer_epoch bigint, key_id uuid, audit_rows json) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  IF writer_epoch = (SELECT epoch FROM leadership) AND wraps_something(key_id) THEN
    RETURN false;
  END IF;
  PERFORM pg_advisory_xact_lock(5641863402551213);
  PERFORM fence(writer_epoch);
  IF wraps_something(key_id) THEN
    RETURN false;
  END IF;
  UPDATE keys k SET retired_at = now(), wrapped = ''
  WHERE k.id = key_id AND k.retired_at IS NULL
    AND EXISTS (SELECT FROM keys n WHERE n.purpose = k.purpose AND n.scope = k.scope AND n.version > k.version);
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  PERFORM insert_audit(audit_rows);
  RETURN true;
END $$;
