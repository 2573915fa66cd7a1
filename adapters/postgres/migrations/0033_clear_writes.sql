-- Up Migration

-- Values of a write are kept while somebody may need them: while it waits, and where the primary has done it, since one that is restored
-- gets it again. What was refused is never sent again, and a gateway that was revoked keeps none that were settled.
ALTER TABLE queued_writes
  ALTER COLUMN wrapped_key DROP NOT NULL, ALTER COLUMN key_id DROP NOT NULL, ALTER COLUMN sealed DROP NOT NULL,
  ADD CONSTRAINT queued_writes_values_check CHECK (num_nulls(wrapped_key, key_id, sealed) IN (0, 3)),
  ADD CONSTRAINT queued_writes_waiting_check CHECK (state <> 'Waiting' OR sealed IS NOT NULL);
UPDATE queued_writes SET wrapped_key = NULL, key_id = NULL, sealed = NULL WHERE state = 'Refused';

CREATE OR REPLACE FUNCTION settle_writes(writer_epoch bigint, outcomes json, audit_rows json) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  number bigint;
BEGIN
  PERFORM fence(writer_epoch);
  number := nextval('write_settlements');
  UPDATE queued_writes q
  SET state = o.state, outcome = o.outcome, settled_at = clock_timestamp(), settlement = number,
      wrapped_key = CASE WHEN o.state <> 'Refused' THEN q.wrapped_key END,
      key_id = CASE WHEN o.state <> 'Refused' THEN q.key_id END,
      sealed = CASE WHEN o.state <> 'Refused' THEN q.sealed END
  FROM json_to_recordset(outcomes) AS o (id uuid, state text, outcome json)
  WHERE q.id = o.id AND q.state = 'Waiting';
  PERFORM insert_audit(audit_rows);
END $$;

CREATE OR REPLACE FUNCTION requeue_writes(writer_epoch bigint, ids uuid[], audit_rows json) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  UPDATE queued_writes q
  SET state = 'Waiting', outcome = NULL, settled_at = NULL, settlement = NULL
  WHERE q.id = ANY (ids) AND q.state IN ('Applied', 'KeptBeside') AND q.sealed IS NOT NULL;
  PERFORM insert_audit(audit_rows);
END $$;

CREATE FUNCTION clear_settled_writes(writer_epoch bigint, most integer) RETURNS integer LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  cleared integer;
BEGIN
  PERFORM fence(writer_epoch);
  UPDATE queued_writes SET wrapped_key = NULL, key_id = NULL, sealed = NULL
  WHERE sequence IN (
    SELECT q.sequence FROM queued_writes q WHERE q.state <> 'Waiting' AND q.sealed IS NOT NULL LIMIT most
  );
  GET DIAGNOSTICS cleared = ROW_COUNT;
  RETURN cleared;
END $$;
