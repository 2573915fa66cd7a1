-- Up Migration

-- Which gateway of an environment acts; `mac` covers all of it. A row is never deleted, since its epoch must not begin anew.
CREATE TABLE environments (
  environment text COLLATE "C" PRIMARY KEY,
  generation bigint NOT NULL,
  -- The GatewayEnvironment, and the two gateways; null when each gateway acts by its role.
  object text,
  primary_gateway text,
  standby_gateway text,
  active text NOT NULL CHECK (active IN ('Primary', 'Standby')),
  epoch bigint NOT NULL CHECK (epoch > 0),
  since timestamptz NOT NULL,
  -- Nobody acts before; null while that is not known.
  fenced_until timestamptz,
  failover_uid text,
  failover_name text,
  settled boolean NOT NULL,
  mac bytea NOT NULL CHECK (octet_length(mac) = 32),
  CHECK ((object IS NULL) = (primary_gateway IS NULL) AND (object IS NULL) = (standby_gateway IS NULL)),
  CHECK ((failover_uid IS NULL) = (failover_name IS NULL))
);

CREATE FUNCTION write_environment(
  writer_epoch bigint, before bigint, of_environment text, new_object text, new_primary text, new_standby text,
  new_active text, new_epoch bigint, new_since timestamptz, new_fenced_until timestamptz, new_failover_uid text,
  new_failover_name text, new_settled boolean, new_mac bytea, audit_rows json
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  IF before = 0 THEN
    INSERT INTO environments
    VALUES (of_environment, 1, new_object, new_primary, new_standby, new_active, new_epoch, new_since, new_fenced_until,
            new_failover_uid, new_failover_name, new_settled, new_mac)
    ON CONFLICT DO NOTHING;
  ELSE
    UPDATE environments
    SET generation = before + 1, object = new_object, primary_gateway = new_primary, standby_gateway = new_standby,
        active = new_active, epoch = new_epoch, since = new_since, fenced_until = new_fenced_until,
        failover_uid = new_failover_uid, failover_name = new_failover_name, settled = new_settled, mac = new_mac
    WHERE environment = of_environment AND generation = before;
  END IF;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'another state of the environment stands there' USING ERRCODE = 'MV002';
  END IF;
  PERFORM insert_audit(audit_rows);
END $$;
