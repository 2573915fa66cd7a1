-- Up Migration

-- SHA-256 of what the MAC covers; rows of the time before have none.
ALTER TABLE audit ADD COLUMN digest bytea;
-- Not unique: what the linker does is serialised, and what somebody else did is told by verification.
CREATE INDEX audit_position ON audit (position) WHERE position IS NOT NULL;
CREATE INDEX audit_subject_name ON audit (subject_name, sequence);
CREATE INDEX audit_at ON audit USING brin (at);

CREATE OR REPLACE FUNCTION insert_audit(rows json) RETURNS void LANGUAGE sql VOLATILE AS $$
  INSERT INTO audit (writer_id, counter, at, action, actor, subject_kind, subject_id, subject_generation, subject_name,
                     outcome, details, digest, mac)
  SELECT r.writer_id, r.counter, r.at, r.action, r.actor, r.subject_kind, r.subject_id, r.subject_generation,
         r.subject_name, r.outcome, r.details, decode(r.digest, 'base64'), decode(r.mac, 'base64')
  FROM json_to_recordset(rows) AS r (writer_id uuid, counter bigint, at timestamptz, action text, actor json,
       subject_kind text, subject_id text, subject_generation bigint, subject_name text, outcome text, details json,
       digest text, mac text)
$$;

-- What the linker signed about the chain.
CREATE TABLE audit_checkpoints (
  number bigint PRIMARY KEY,
  position bigint NOT NULL,
  link bytea NOT NULL,
  writers json NOT NULL,
  epoch bigint NOT NULL,
  at timestamptz NOT NULL,
  server text NOT NULL,
  handover json,
  previous bytea NOT NULL,
  key_version integer NOT NULL,
  signature bytea NOT NULL
);
CREATE INDEX audit_checkpoints_position ON audit_checkpoints (position);
CREATE TRIGGER audit_checkpoint_not_changed BEFORE UPDATE OR DELETE ON audit_checkpoints
  FOR EACH ROW EXECUTE FUNCTION audit_unchangeable();
CREATE TRIGGER audit_checkpoints_not_truncated BEFORE TRUNCATE ON audit_checkpoints
  FOR EACH STATEMENT EXECUTE FUNCTION audit_unchangeable();

-- A base backup that is recovered begins another timeline, a logical one stands on another system.
CREATE FUNCTION audit_server() RETURNS text LANGUAGE sql VOLATILE AS $$
  SELECT system_identifier || '/' || left(pg_walfile_name(pg_current_wal_lsn()), 8) FROM pg_control_system()
$$;

-- How far each sink has come. What it took is also what the chain is compared with.
CREATE TABLE audit_sinks (
  uid text PRIMARY KEY,
  name text NOT NULL,
  position bigint NOT NULL DEFAULT 0,
  link bytea NOT NULL DEFAULT decode(repeat('00', 32), 'hex'),
  checkpoint bigint NOT NULL DEFAULT 0,
  moved_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);

CREATE FUNCTION open_audit_sink(writer_epoch bigint, of_uid text, of_name text) RETURNS SETOF audit_sinks
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  DELETE FROM audit_sinks WHERE name = of_name AND uid <> of_uid;
  INSERT INTO audit_sinks (uid, name) VALUES (of_uid, of_name) ON CONFLICT DO NOTHING;
  RETURN QUERY SELECT * FROM audit_sinks WHERE uid = of_uid;
END $$;

CREATE FUNCTION move_audit_sink(writer_epoch bigint, of_uid text, to_position bigint, to_link bytea, to_checkpoint bigint)
RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  UPDATE audit_sinks SET position = to_position, link = to_link, checkpoint = to_checkpoint, moved_at = now()
  WHERE uid = of_uid;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no sink %', of_uid USING ERRCODE = 'MV002';
  END IF;
END $$;

CREATE FUNCTION forget_audit_sink(writer_epoch bigint, of_name text) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  DELETE FROM audit_sinks WHERE name = of_name;
END $$;
