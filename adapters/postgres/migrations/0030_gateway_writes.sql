-- Up Migration

-- When the values that a version has made were set, where that was before it was committed; by this server's clock.
ALTER TABLE versions ADD COLUMN set_at timestamptz;

-- Writes that gateways have sent, and what came of them: each is done once, however often it comes. `mac` proves that one of us
-- has written the row.
CREATE TABLE gateway_writes (
  environment text COLLATE "C" NOT NULL,
  id uuid NOT NULL,
  outcome json NOT NULL,
  mac bytea NOT NULL,
  handled_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (environment, id)
);
CREATE INDEX gateway_writes_handled_at ON gateway_writes (handled_at);

-- Whether it was not handled before.
CREATE FUNCTION handle_gateway_write(of_environment text, of_id uuid, new_outcome json, new_mac bytea, audit_rows json)
RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  INSERT INTO gateway_writes (environment, id, outcome, mac) VALUES (of_environment, of_id, new_outcome, new_mac)
  ON CONFLICT DO NOTHING;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  PERFORM insert_audit(audit_rows);
  RETURN true;
END $$;

-- In the transaction of the version that came of it.
CREATE FUNCTION handle_gateway_write_by_version(
  of_environment text, of_id uuid, new_outcome json, new_mac bytea, secret uuid, of_version integer, age_ms double precision
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  IF NOT handle_gateway_write(of_environment, of_id, new_outcome, new_mac, '[]') THEN
    RAISE EXCEPTION 'the write was handled already' USING ERRCODE = 'MV002';
  END IF;
  UPDATE versions SET set_at = clock_timestamp() - age_ms * interval '1 millisecond'
  WHERE secret_id = secret AND version = of_version;
END $$;
