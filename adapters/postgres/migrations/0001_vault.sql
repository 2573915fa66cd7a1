-- Up Migration

CREATE TABLE installation (
  singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  id uuid NOT NULL DEFAULT gen_random_uuid(),
  created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO installation DEFAULT VALUES;

CREATE TABLE leadership (
  singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  epoch bigint NOT NULL DEFAULT 0,
  holder text NOT NULL DEFAULT '',
  taken_at timestamptz
);
INSERT INTO leadership DEFAULT VALUES;

CREATE TABLE keys (
  id uuid PRIMARY KEY,
  purpose text NOT NULL,
  scope text NOT NULL,
  version integer NOT NULL,
  wrapped_by text NOT NULL,
  wrapped bytea NOT NULL,
  uses bigint NOT NULL DEFAULT 0,
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (purpose, scope, version)
);

-- The pointer: which version is current. Its MAC covers every column but delivery.
CREATE TABLE secrets (
  id uuid PRIMARY KEY,
  project text NOT NULL,
  environment text NOT NULL,
  namespace text NOT NULL,
  namespace_uid text NOT NULL,
  name text NOT NULL,
  state text NOT NULL CHECK (state IN ('Active', 'SoftDeleted', 'Retained')),
  current_version integer NOT NULL,
  generation bigint NOT NULL,
  deletion_policy text NOT NULL,
  soft_delete_ms bigint NOT NULL,
  keep_versions integer NOT NULL,
  deleted_at timestamptz,
  purge_after timestamptz,
  mac bytea NOT NULL,
  delivery json,
  UNIQUE (namespace, name, environment, project, namespace_uid)
) WITH (fillfactor = 80);
CREATE INDEX secrets_purge_after ON secrets (purge_after) WHERE state = 'SoftDeleted';

CREATE TABLE versions (
  secret_id uuid NOT NULL REFERENCES secrets ON DELETE CASCADE,
  version integer NOT NULL,
  wrapped_key bytea NOT NULL,
  project_key_id uuid NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (secret_id, version)
);

CREATE TABLE entries (
  secret_id uuid NOT NULL,
  version integer NOT NULL,
  key text NOT NULL,
  recipe bytea NOT NULL,
  fingerprint bytea NOT NULL,
  ciphertext bytea NOT NULL,
  PRIMARY KEY (secret_id, version, key),
  FOREIGN KEY (secret_id, version) REFERENCES versions ON DELETE CASCADE
);
-- Ciphertext does not compress.
ALTER TABLE entries ALTER COLUMN ciphertext SET STORAGE EXTERNAL;

-- Inserted in the transaction of the change, linked into the chain afterwards.
CREATE TABLE audit (
  sequence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  writer_id uuid NOT NULL,
  counter bigint NOT NULL,
  at timestamptz NOT NULL,
  action text NOT NULL,
  actor json NOT NULL,
  subject_kind text NOT NULL,
  subject_id text NOT NULL,
  subject_generation bigint,
  subject_name text NOT NULL,
  outcome text NOT NULL,
  details json NOT NULL,
  mac bytea NOT NULL,
  position bigint,
  link bytea,
  UNIQUE (writer_id, counter)
);
CREATE INDEX audit_unlinked ON audit (sequence) WHERE position IS NULL;
-- What a pointer's generation is compared with.
CREATE INDEX audit_generation ON audit (subject_id, subject_generation) WHERE subject_generation IS NOT NULL;

CREATE TABLE audit_head (
  singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  position bigint NOT NULL,
  link bytea NOT NULL,
  mac bytea NOT NULL
);

-- A row may be linked once; everything else about it stays as it was written.
CREATE FUNCTION audit_unchangeable() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'audit rows can neither be changed nor deleted' USING ERRCODE = 'MV003';
END $$;
CREATE FUNCTION audit_only_linked() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  before audit := OLD;
BEGIN
  before.position := NEW.position;
  before.link := NEW.link;
  IF OLD.position IS NOT NULL OR before::text IS DISTINCT FROM NEW::text THEN
    RAISE EXCEPTION 'audit rows can neither be changed nor deleted' USING ERRCODE = 'MV003';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER audit_only_linked BEFORE UPDATE ON audit FOR EACH ROW EXECUTE FUNCTION audit_only_linked();
CREATE TRIGGER audit_not_deleted BEFORE DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_unchangeable();
CREATE TRIGGER audit_not_truncated BEFORE TRUNCATE ON audit FOR EACH STATEMENT EXECUTE FUNCTION audit_unchangeable();

-- Ordered by transaction, and read only below every running one: see read_outbox.
CREATE TABLE outbox (
  transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
  id bigint GENERATED ALWAYS AS IDENTITY,
  secret_id uuid NOT NULL,
  namespace text NOT NULL,
  name text NOT NULL,
  PRIMARY KEY (transaction, id)
);
CREATE TABLE outbox_cursors (
  consumer text PRIMARY KEY,
  transaction xid8 NOT NULL,
  id bigint NOT NULL,
  moved_at timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE sync_items (
  vault_url text NOT NULL,
  entry_name text NOT NULL CHECK (entry_name = lower(entry_name)),
  secret_id uuid NOT NULL,
  key text NOT NULL,
  rule_uid text NOT NULL,
  intent_id uuid,
  intent_version integer,
  intent_fingerprint text,
  intent_at timestamptz,
  version integer,
  fingerprint text,
  target_version text,
  target_updated_on timestamptz,
  PRIMARY KEY (vault_url, entry_name)
);
CREATE INDEX sync_items_rule ON sync_items (rule_uid);

-- Inside a function each statement sees what was committed when it began, so the epoch is read after the lock was
-- granted. A leader takes the lock exclusively to raise the epoch: no write with the old one can commit after that.
CREATE FUNCTION fence(writer_epoch bigint) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  current_epoch bigint;
BEGIN
  PERFORM pg_advisory_xact_lock_shared(5641863402551213);
  SELECT epoch INTO current_epoch FROM leadership;
  IF current_epoch IS DISTINCT FROM writer_epoch THEN
    RAISE EXCEPTION 'epoch % is over, it is now %', writer_epoch, current_epoch USING ERRCODE = 'MV001';
  END IF;
END $$;

CREATE FUNCTION take_leadership(new_holder text) RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  taken bigint;
BEGIN
  PERFORM pg_advisory_xact_lock(5641863402551213);
  UPDATE leadership SET epoch = epoch + 1, holder = new_holder, taken_at = now() RETURNING epoch INTO taken;
  RETURN taken;
END $$;

CREATE FUNCTION insert_audit(rows json) RETURNS void LANGUAGE sql VOLATILE AS $$
  INSERT INTO audit (writer_id, counter, at, action, actor, subject_kind, subject_id, subject_generation, subject_name,
                     outcome, details, mac)
  SELECT r.writer_id, r.counter, r.at, r.action, r.actor, r.subject_kind, r.subject_id, r.subject_generation,
         r.subject_name, r.outcome, r.details, decode(r.mac, 'base64')
  FROM json_to_recordset(rows) AS r (writer_id uuid, counter bigint, at timestamptz, action text, actor json,
       subject_kind text, subject_id text, subject_generation bigint, subject_name text, outcome text, details json,
       mac text)
$$;

CREATE FUNCTION commit_version(
  writer_epoch bigint, secret uuid, new_project text, new_environment text, new_namespace text, new_namespace_uid text,
  new_name text, expected bigint, new_generation bigint, new_mac bytea, new_deletion_policy text, new_soft_delete_ms
  bigint, new_keep_versions integer, new_version integer, new_wrapped_key bytea, new_project_key_id uuid, new_keys
  text[], recipes bytea[], fingerprints bytea[], ciphertexts bytea[], audit_rows json
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  IF expected IS NULL THEN
    INSERT INTO secrets (id, project, environment, namespace, namespace_uid, name, state, current_version, generation,
                         deletion_policy, soft_delete_ms, keep_versions, mac)
    VALUES (secret, new_project, new_environment, new_namespace, new_namespace_uid, new_name, 'Active', new_version,
            new_generation, new_deletion_policy, new_soft_delete_ms, new_keep_versions, new_mac)
    ON CONFLICT DO NOTHING;
  ELSE
    UPDATE secrets
    SET state = 'Active', current_version = new_version, generation = new_generation,
        deletion_policy = new_deletion_policy, soft_delete_ms = new_soft_delete_ms, keep_versions = new_keep_versions,
        deleted_at = NULL, purge_after = NULL, mac = new_mac
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
    DELETE FROM versions WHERE secret_id = secret AND version <= new_version - new_keep_versions;
  END IF;
  PERFORM insert_audit(audit_rows);
  INSERT INTO outbox (secret_id, namespace, name) VALUES (secret, new_namespace, new_name);
END $$;

CREATE FUNCTION change_pointer(
  writer_epoch bigint, secret uuid, expected bigint, new_generation bigint, new_mac bytea, new_state text, new_version
  integer, new_deleted_at timestamptz, new_purge_after timestamptz, new_deletion_policy text, new_soft_delete_ms
  bigint, new_keep_versions integer, audit_rows json
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  UPDATE secrets
  SET state = new_state, current_version = new_version, generation = new_generation, deleted_at = new_deleted_at,
      purge_after = new_purge_after, deletion_policy = new_deletion_policy, soft_delete_ms = new_soft_delete_ms,
      keep_versions = new_keep_versions, mac = new_mac
  WHERE id = secret AND generation = expected;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'secret % was changed by another writer', secret USING ERRCODE = 'MV002';
  END IF;
  DELETE FROM versions WHERE secret_id = secret AND version <= new_version - new_keep_versions;
  PERFORM insert_audit(audit_rows);
  INSERT INTO outbox (secret_id, namespace, name) SELECT s.id, s.namespace, s.name FROM secrets s WHERE s.id = secret;
END $$;

CREATE FUNCTION purge_secret(writer_epoch bigint, secret uuid, expected bigint, audit_rows json)
RETURNS void LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  purged secrets;
BEGIN
  PERFORM fence(writer_epoch);
  DELETE FROM secrets WHERE id = secret AND generation = expected RETURNING * INTO purged;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'secret % was changed by another writer', secret USING ERRCODE = 'MV002';
  END IF;
  PERFORM insert_audit(audit_rows);
  INSERT INTO outbox (secret_id, namespace, name) VALUES (secret, purged.namespace, purged.name);
END $$;

CREATE FUNCTION record_delivery(writer_epoch bigint, secret uuid, new_delivery json, audit_rows json)
RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  UPDATE secrets SET delivery = new_delivery WHERE id = secret;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'secret % was changed by another writer', secret USING ERRCODE = 'MV002';
  END IF;
  PERFORM insert_audit(audit_rows);
END $$;

CREATE FUNCTION insert_key(
  writer_epoch bigint, new_id uuid, new_purpose text, new_scope text, new_version integer, new_wrapped_by text,
  new_wrapped bytea, audit_rows json
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  INSERT INTO keys (id, purpose, scope, version, wrapped_by, wrapped)
  VALUES (new_id, new_purpose, new_scope, new_version, new_wrapped_by, new_wrapped)
  ON CONFLICT (purpose, scope, version) DO NOTHING;
  IF FOUND THEN
    PERFORM insert_audit(audit_rows);
  END IF;
END $$;

-- A row whose transaction is older than every running one can have no unseen neighbour before it.
CREATE FUNCTION read_outbox(after_transaction xid8, after_id bigint, most integer)
RETURNS TABLE (transaction xid8, id bigint, secret_id uuid, namespace text, name text) LANGUAGE sql STABLE AS $$
  SELECT o.transaction, o.id, o.secret_id, o.namespace, o.name FROM outbox o
  WHERE (o.transaction, o.id) > (after_transaction, after_id)
    AND o.transaction < pg_snapshot_xmin(pg_current_snapshot())
  ORDER BY o.transaction, o.id LIMIT most
$$;

-- Claims the entry name. A claim is void when its secret was purged; whose the entry is then, its tags tell.
CREATE FUNCTION record_intent(
  writer_epoch bigint, new_vault_url text, new_entry_name text, new_secret_id uuid, new_key text, new_rule_uid text,
  new_intent_id uuid, new_version integer, new_fingerprint text, new_at timestamptz
) RETURNS SETOF sync_items LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  INSERT INTO sync_items AS held (vault_url, entry_name, secret_id, key, rule_uid, intent_id, intent_version,
                                  intent_fingerprint, intent_at)
  VALUES (new_vault_url, new_entry_name, new_secret_id, new_key, new_rule_uid, new_intent_id, new_version,
          new_fingerprint, new_at)
  ON CONFLICT (vault_url, entry_name) DO UPDATE
  SET secret_id = new_secret_id, key = new_key, rule_uid = new_rule_uid, intent_id = new_intent_id,
      intent_version = new_version, intent_fingerprint = new_fingerprint, intent_at = new_at,
      version = CASE WHEN held.secret_id = new_secret_id THEN held.version END,
      fingerprint = CASE WHEN held.secret_id = new_secret_id THEN held.fingerprint END,
      target_version = CASE WHEN held.secret_id = new_secret_id THEN held.target_version END,
      target_updated_on = CASE WHEN held.secret_id = new_secret_id THEN held.target_updated_on END
  WHERE (held.secret_id = new_secret_id AND held.key = new_key)
     OR NOT EXISTS (SELECT FROM secrets WHERE id = held.secret_id);
  IF NOT FOUND THEN
    RETURN QUERY SELECT * FROM sync_items WHERE vault_url = new_vault_url AND entry_name = new_entry_name;
  END IF;
END $$;

CREATE FUNCTION record_outcome(
  writer_epoch bigint, old_vault_url text, old_entry_name text, old_secret_id uuid, old_key text, new_rule_uid text,
  new_version integer, new_fingerprint text, new_target_version text, new_target_updated_on timestamptz, audit_rows json
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  UPDATE sync_items
  SET rule_uid = new_rule_uid, version = new_version, fingerprint = new_fingerprint,
      target_version = new_target_version, target_updated_on = new_target_updated_on, intent_id = NULL,
      intent_version = NULL, intent_fingerprint = NULL, intent_at = NULL
  WHERE vault_url = old_vault_url AND entry_name = old_entry_name AND secret_id = old_secret_id AND key = old_key;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'nothing was meant to be written to %', old_entry_name USING ERRCODE = 'MV002';
  END IF;
  PERFORM insert_audit(audit_rows);
END $$;

CREATE FUNCTION forget_items(writer_epoch bigint, old_rule_uid text, secret_ids uuid[], old_keys text[], vault_urls
  text[], entry_names text[]) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  DELETE FROM sync_items i USING unnest(secret_ids, old_keys, vault_urls, entry_names) AS g (secret_id, key, url, name)
  WHERE i.rule_uid = old_rule_uid AND i.secret_id = g.secret_id AND i.key = g.key AND i.vault_url = g.url
    AND i.entry_name = g.name;
END $$;

CREATE FUNCTION reserve_uses(writer_epoch bigint, key_id uuid, additional bigint) RETURNS bigint
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  total bigint;
BEGIN
  PERFORM fence(writer_epoch);
  UPDATE keys SET uses = uses + additional WHERE id = key_id RETURNING uses INTO total;
  RETURN total;
END $$;

-- A new consumer begins below every running transaction: it may see a row that is committed already, but misses none
-- that is still to come. A cursor ahead of every transaction comes from another server (a logical restore): it would
-- never see a row again.
CREATE FUNCTION start_outbox_cursor(new_consumer text) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  DELETE FROM outbox WHERE transaction > pg_snapshot_xmax(pg_current_snapshot());
  INSERT INTO outbox_cursors AS c (consumer, transaction, id)
  VALUES (new_consumer, pg_snapshot_xmin(pg_current_snapshot()), 0)
  ON CONFLICT (consumer) DO UPDATE SET transaction = excluded.transaction, id = excluded.id
  WHERE c.transaction > pg_snapshot_xmax(pg_current_snapshot());
END $$;

-- Moves one cursor, and deletes what every consumer has seen.
CREATE FUNCTION move_outbox_cursor(moved_consumer text, seen_transaction xid8, seen_id bigint) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  UPDATE outbox_cursors SET transaction = seen_transaction, id = seen_id, moved_at = now()
  WHERE consumer = moved_consumer;
  DELETE FROM outbox o
  USING (SELECT c.transaction, c.id FROM outbox_cursors c ORDER BY c.transaction, c.id LIMIT 1) AS slowest
  WHERE (o.transaction, o.id) <= (slowest.transaction, slowest.id);
END $$;
