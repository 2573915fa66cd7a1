-- Up Migration

-- In mode gateway: writes on their way to the primary. Whoever serves REST accepts them, and the leader sends them. Their values
-- are sealed.
CREATE TABLE queued_writes (
  sequence bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  id uuid NOT NULL UNIQUE,
  namespace text COLLATE "C" NOT NULL,
  name text COLLATE "C" NOT NULL,
  -- Which secret of the primary was meant, whatever stands at its place later.
  secret_id uuid NOT NULL,
  project text NOT NULL,
  environment text NOT NULL,
  namespace_uid text NOT NULL,
  -- For whom it is: as whose gateway it was accepted, and of the primary with which root.
  gateway_environment text NOT NULL,
  root_digest bytea NOT NULL CHECK (octet_length(root_digest) = 32),
  base_version integer NOT NULL,
  -- The write of the same secret before it, which its author may have seen.
  follows uuid,
  -- Who wrote, as a person reads it, and as it is told from every other one.
  subject text NOT NULL,
  via text NOT NULL,
  writer text NOT NULL,
  -- Of what was asked for: another request under the same id has another one.
  fingerprint bytea NOT NULL CHECK (octet_length(fingerprint) = 32),
  wrapped_key bytea NOT NULL,
  key_id uuid NOT NULL,
  sealed bytea NOT NULL,
  accepted_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  state text NOT NULL DEFAULT 'Waiting' CHECK (state IN ('Waiting', 'Applied', 'KeptBeside', 'Refused')),
  outcome json,
  settled_at timestamptz,
  -- One more with each answer of the primary.
  settlement bigint,
  CHECK ((state = 'Waiting') = (outcome IS NULL)),
  CHECK ((state = 'Waiting') = (settled_at IS NULL)),
  CHECK ((state = 'Waiting') = (settlement IS NULL))
) WITH (fillfactor = 80);
CREATE INDEX queued_writes_waiting ON queued_writes (gateway_environment, root_digest, sequence)
  WHERE state = 'Waiting';
CREATE INDEX queued_writes_settlement ON queued_writes (gateway_environment, root_digest, settlement)
  WHERE state IN ('Applied', 'KeptBeside');
CREATE INDEX queued_writes_settled ON queued_writes (settled_at) WHERE state <> 'Waiting';
CREATE INDEX queued_writes_refused ON queued_writes (sequence) WHERE state = 'Refused';
CREATE INDEX queued_writes_secret ON queued_writes (secret_id, sequence);
CREATE INDEX queued_writes_writer ON queued_writes (writer, sequence);

CREATE SEQUENCE write_settlements;

-- One after the other: so the bound is exact, and the order of the sequence that of the commits.
CREATE FUNCTION accept_write(
  new_id uuid, for_environment text, for_root bytea, of_namespace text, of_name text, of_secret uuid, of_project text,
  of_environment text, of_namespace_uid text, of_base_version integer,
  by_subject text, by_via text, by_writer text, of_fingerprint bytea, new_wrapped_key bytea, new_key_id uuid,
  new_sealed bytea, most integer, audit_rows json
) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM pg_advisory_xact_lock(5641863402551229);
  IF EXISTS (SELECT FROM queued_writes q WHERE q.id = new_id) THEN
    RETURN 'Known';
  END IF;
  IF (SELECT count(*) FROM queued_writes q
      WHERE q.state = 'Waiting' AND q.gateway_environment = for_environment AND q.root_digest = for_root) >= most THEN
    RETURN 'Full';
  END IF;
  INSERT INTO queued_writes (id, gateway_environment, root_digest, namespace, name, secret_id, project, environment,
                             namespace_uid, base_version, follows, subject, via, writer, fingerprint, wrapped_key, key_id,
                             sealed)
  VALUES (new_id, for_environment, for_root, of_namespace, of_name, of_secret, of_project, of_environment,
          of_namespace_uid, of_base_version,
          (SELECT q.id FROM queued_writes q
           WHERE q.secret_id = of_secret AND q.gateway_environment = for_environment AND q.root_digest = for_root
             AND q.state IN ('Waiting', 'Applied')
           ORDER BY q.sequence DESC LIMIT 1),
          by_subject, by_via, by_writer, of_fingerprint, new_wrapped_key, new_key_id, new_sealed);
  PERFORM insert_audit(audit_rows);
  RETURN 'Accepted';
END $$;

CREATE FUNCTION settle_writes(writer_epoch bigint, outcomes json, audit_rows json) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  number bigint;
BEGIN
  PERFORM fence(writer_epoch);
  number := nextval('write_settlements');
  UPDATE queued_writes q
  SET state = o.state, outcome = o.outcome, settled_at = clock_timestamp(), settlement = number
  FROM json_to_recordset(outcomes) AS o (id uuid, state text, outcome json)
  WHERE q.id = o.id AND q.state = 'Waiting';
  PERFORM insert_audit(audit_rows);
END $$;

CREATE FUNCTION requeue_writes(writer_epoch bigint, ids uuid[], audit_rows json) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  UPDATE queued_writes q
  SET state = 'Waiting', outcome = NULL, settled_at = NULL, settlement = NULL
  WHERE q.id = ANY (ids) AND q.state IN ('Applied', 'KeptBeside');
  PERFORM insert_audit(audit_rows);
END $$;

CREATE FUNCTION forget_writes(writer_epoch bigint, older_than_ms double precision, most integer) RETURNS integer
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  gone integer;
BEGIN
  PERFORM fence(writer_epoch);
  DELETE FROM queued_writes
  WHERE sequence IN (
    SELECT q.sequence FROM queued_writes q
    WHERE q.state <> 'Waiting' AND q.settled_at < clock_timestamp() - older_than_ms * interval '1 millisecond' LIMIT most
  );
  GET DIAGNOSTICS gone = ROW_COUNT;
  RETURN gone;
END $$;
