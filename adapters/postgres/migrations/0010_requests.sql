-- Up Migration

-- Requests that named an idempotency key. Whoever serves REST writes here; nothing in it can be read without a key.
CREATE TABLE requests (
  id bytea PRIMARY KEY,
  fingerprint bytea NOT NULL,
  attempt uuid NOT NULL UNIQUE,
  lease_until timestamptz NOT NULL,
  changed boolean NOT NULL DEFAULT false,
  answer bytea,
  expires_at timestamptz NOT NULL
);
CREATE INDEX requests_expires_at ON requests (expires_at);

CREATE FUNCTION begin_request(
  of_id bytea, of_fingerprint bytea, new_attempt uuid, began timestamptz, new_lease_until timestamptz,
  new_expires_at timestamptz
) RETURNS TABLE (outcome text, attempt uuid, lease_until timestamptz, answer bytea) LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
BEGIN
  INSERT INTO requests AS r (id, fingerprint, attempt, lease_until, expires_at)
  VALUES (of_id, of_fingerprint, new_attempt, new_lease_until, new_expires_at)
  ON CONFLICT (id) DO UPDATE
  SET fingerprint = excluded.fingerprint, attempt = excluded.attempt, lease_until = excluded.lease_until,
      changed = false, answer = NULL, expires_at = excluded.expires_at
  WHERE r.expires_at <= began
     OR (r.fingerprint = excluded.fingerprint AND r.answer IS NULL AND NOT r.changed AND r.lease_until <= began);
  IF FOUND THEN
    RETURN QUERY SELECT 'Begun', new_attempt, new_lease_until, NULL::bytea;
    RETURN;
  END IF;
  -- The row is locked, whatever it says.
  RETURN QUERY
    SELECT CASE WHEN r.fingerprint <> of_fingerprint THEN 'Reused' WHEN r.answer IS NOT NULL THEN 'Answered'
                WHEN r.lease_until > began THEN 'InProgress' ELSE 'Unknown' END,
           r.attempt, r.lease_until, r.answer
    FROM requests r WHERE r.id = of_id;
END $$;

-- What is put on record for an attempt is bound to it, in the transaction of the change; of one that is over nothing is.
CREATE FUNCTION audit_for_attempt() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE requests SET changed = true WHERE attempt = (NEW.actor ->> 'attempt')::uuid;
  IF NOT FOUND THEN
    RAISE EXCEPTION USING ERRCODE = 'MV003', MESSAGE = 'the attempt is over';
  END IF;
  NEW.actor := (NEW.actor::jsonb - 'attempt')::json;
  RETURN NEW;
END $$;
CREATE TRIGGER audit_for_attempt BEFORE INSERT ON audit
  FOR EACH ROW WHEN (NEW.actor ->> 'attempt' IS NOT NULL) EXECUTE FUNCTION audit_for_attempt();
