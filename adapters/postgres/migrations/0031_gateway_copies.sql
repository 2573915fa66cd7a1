-- Up Migration

-- Core Secrets that SyncRules made in clusters of gateways: what was delivered last, by where it stands. Like copies it decides what
-- is sent again, never whose a core Secret is: that is looked at there.
CREATE TABLE gateway_copies (
  gateway text NOT NULL,
  namespace text NOT NULL,
  secret_name text NOT NULL,
  secret_id uuid NOT NULL REFERENCES secrets ON DELETE CASCADE,
  -- That made it last, as namespace/name; with it goes the row.
  rule text NOT NULL,
  made_of text NOT NULL,
  delivery json NOT NULL,
  PRIMARY KEY (gateway, namespace, secret_name)
);
CREATE INDEX gateway_copies_secret ON gateway_copies (secret_id);
CREATE INDEX gateway_copies_rule ON gateway_copies (rule);

-- A name that is recorded twice at once would be updated twice by one statement, which PostgreSQL refuses; callers name each once.
CREATE FUNCTION record_gateway_copies(writer_epoch bigint, of_rule text, rows json, audit_rows json)
RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  INSERT INTO gateway_copies (gateway, namespace, secret_name, secret_id, rule, made_of, delivery)
  SELECT r.gateway, r.namespace, r.delivery->>'secretName', s.id, of_rule, r."madeOf", r.delivery
  FROM json_to_recordset(rows) AS r (gateway text, namespace text, "secretId" uuid, "madeOf" text, delivery json)
  JOIN secrets s ON s.id = r."secretId"
  ON CONFLICT (gateway, namespace, secret_name) DO UPDATE
  SET secret_id = excluded.secret_id, rule = excluded.rule, made_of = excluded.made_of, delivery = excluded.delivery;
  PERFORM insert_audit(audit_rows);
END $$;

CREATE FUNCTION forget_gateway_copies(writer_epoch bigint, of_rule text) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  DELETE FROM gateway_copies WHERE rule = of_rule;
END $$;
