-- Up Migration

-- The CA of the fleet belongs to no object.
ALTER TABLE authorities DROP CONSTRAINT authorities_kind_check;
ALTER TABLE authorities ADD CONSTRAINT authorities_kind_check CHECK (kind IN ('Issuer', 'ClusterIssuer', 'Installation'));

CREATE TABLE gateways (
  id uuid PRIMARY KEY,
  name text COLLATE "C" NOT NULL UNIQUE,
  environment text,
  role text,
  registered_at timestamptz,
  confirmed_at timestamptz,
  revoked_at timestamptz,
  -- Of the last certificate that was asked for.
  revision integer NOT NULL DEFAULT 0,
  -- Certificates of revisions before it are not admitted ...
  valid_from_revision integer NOT NULL DEFAULT 1,
  -- ... and those before this one are revoked.
  revoked_to_revision integer NOT NULL DEFAULT 1,
  heartbeat json,
  heartbeat_at timestamptz
) WITH (fillfactor = 80);
CREATE INDEX gateways_superseded ON gateways (id) WHERE revoked_to_revision < valid_from_revision;

-- `environment` and `role` are those that the token was made for; `mac` covers what was decided when it was made.
CREATE TABLE fleet_tokens (
  hash bytea PRIMARY KEY,
  -- Tells which of a gateway's tokens is older.
  number bigint GENERATED ALWAYS AS IDENTITY,
  gateway_id uuid NOT NULL REFERENCES gateways,
  environment text,
  role text,
  expires_at timestamptz NOT NULL,
  mac bytea NOT NULL,
  -- Of the one that redeemed it.
  key_digest bytea,
  confirmed_at timestamptz,
  ended_at timestamptz
);
CREATE INDEX fleet_tokens_gateway ON fleet_tokens (gateway_id);

-- Written by whoever serves gateways; `mac` proves that one of us did.
CREATE TABLE fleet_requests (
  id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  kind text NOT NULL CHECK (kind IN ('Gateway', 'Replica')),
  gateway_id uuid REFERENCES gateways,
  name text,
  environment text,
  role text,
  revision integer NOT NULL,
  csr bytea NOT NULL CHECK (octet_length(csr) <= 65536),
  key_digest bytea NOT NULL,
  requested_at timestamptz NOT NULL,
  mac bytea NOT NULL,
  certificates bytea[],
  answered_at timestamptz,
  CHECK ((kind = 'Gateway') = (gateway_id IS NOT NULL)),
  CHECK ((certificates IS NULL) = (answered_at IS NULL))
);
CREATE UNIQUE INDEX fleet_requests_gateway ON fleet_requests (gateway_id, key_digest) WHERE kind = 'Gateway';
CREATE UNIQUE INDEX fleet_requests_replica ON fleet_requests (key_digest) WHERE kind = 'Replica';
CREATE INDEX fleet_requests_pending ON fleet_requests (requested_at) WHERE certificates IS NULL;
CREATE INDEX fleet_requests_answered ON fleet_requests (answered_at) WHERE certificates IS NOT NULL;

-- Each function that changes tokens or requests of a gateway locks its row first, so that they come one after the other.

CREATE FUNCTION name_gateway(writer_epoch bigint, new_id uuid, of_name text) RETURNS uuid
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  named uuid;
BEGIN
  PERFORM fence_led(writer_epoch);
  INSERT INTO gateways (id, name) VALUES (new_id, of_name) ON CONFLICT (name) DO NOTHING;
  SELECT id INTO STRICT named FROM gateways WHERE name = of_name FOR UPDATE;
  RETURN named;
END $$;

CREATE FUNCTION add_fleet_token(
  writer_epoch bigint, of_gateway uuid, of_environment text, of_role text, new_hash bytea, new_expires_at timestamptz,
  new_mac bytea, audit_rows json
) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  standing gateways;
BEGIN
  PERFORM fence_led(writer_epoch);
  SELECT * INTO STRICT standing FROM gateways WHERE id = of_gateway FOR UPDATE;
  IF standing.revoked_at IS NULL AND (standing.environment <> of_environment OR standing.role <> of_role) THEN
    RETURN false;
  END IF;
  UPDATE gateways g
  SET environment = coalesce(of_environment, CASE WHEN g.revoked_at IS NULL THEN g.environment END),
      role = coalesce(of_role, CASE WHEN g.revoked_at IS NULL THEN g.role END),
      registered_at = CASE WHEN g.revoked_at IS NULL THEN g.registered_at END,
      confirmed_at = CASE WHEN g.revoked_at IS NULL THEN g.confirmed_at END,
      heartbeat = CASE WHEN g.revoked_at IS NULL THEN g.heartbeat END,
      heartbeat_at = CASE WHEN g.revoked_at IS NULL THEN g.heartbeat_at END,
      revoked_at = NULL
  WHERE g.id = of_gateway;
  UPDATE fleet_tokens SET ended_at = now()
  WHERE gateway_id = of_gateway AND key_digest IS NULL AND ended_at IS NULL;
  INSERT INTO fleet_tokens (hash, gateway_id, environment, role, expires_at, mac)
  VALUES (new_hash, of_gateway, of_environment, of_role, new_expires_at, new_mac);
  PERFORM insert_audit(audit_rows);
  RETURN true;
END $$;

-- Why it was refused; 'Redeemed' when it is bound to the key now, 'Repeated' when it was before.
CREATE FUNCTION redeem_fleet_token(
  of_hash bytea, of_key_digest bytea, at_environment text, as_role text, at timestamptz, audit_rows json
) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  token fleet_tokens;
  standing gateways;
BEGIN
  SELECT g.* INTO standing FROM gateways g JOIN fleet_tokens t ON t.gateway_id = g.id
  WHERE t.hash = of_hash FOR UPDATE OF g;
  SELECT * INTO token FROM fleet_tokens WHERE hash = of_hash FOR UPDATE;
  IF token.hash IS NULL THEN
    RETURN 'Unknown';
  END IF;
  IF token.confirmed_at IS NOT NULL THEN
    RETURN 'Confirmed';
  END IF;
  IF token.ended_at IS NOT NULL OR token.expires_at <= at OR standing.revoked_at IS NOT NULL THEN
    RETURN 'Expired';
  END IF;
  IF token.key_digest <> of_key_digest THEN
    RETURN 'OtherKey';
  END IF;
  IF coalesce(token.environment, standing.environment, at_environment) <> at_environment
     OR coalesce(standing.environment, at_environment) <> at_environment
     OR coalesce(token.role, standing.role, as_role) <> as_role
     OR coalesce(standing.role, as_role) <> as_role THEN
    RETURN 'PlaceDiffers';
  END IF;
  IF token.key_digest IS NOT NULL THEN
    RETURN 'Repeated';
  END IF;
  UPDATE fleet_tokens SET key_digest = of_key_digest WHERE hash = of_hash;
  UPDATE gateways SET environment = at_environment, role = as_role, registered_at = at, confirmed_at = NULL
  WHERE id = standing.id;
  PERFORM insert_audit(audit_rows);
  RETURN 'Redeemed';
END $$;

CREATE FUNCTION confirm_fleet_key(
  of_gateway uuid, of_key_digest bytea, of_revision integer, at timestamptz, audit_rows json
) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  newest bigint;
  superseding boolean;
BEGIN
  PERFORM FROM gateways WHERE id = of_gateway AND revoked_at IS NULL FOR UPDATE;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  SELECT max(number) INTO newest FROM fleet_tokens
  WHERE gateway_id = of_gateway AND key_digest = of_key_digest AND confirmed_at IS NULL AND ended_at IS NULL;
  UPDATE fleet_tokens SET confirmed_at = at
  WHERE gateway_id = of_gateway AND key_digest = of_key_digest AND confirmed_at IS NULL AND ended_at IS NULL;
  -- Of a key that did not make it: it must not come back later.
  UPDATE fleet_tokens SET ended_at = at
  WHERE gateway_id = of_gateway AND number < newest AND confirmed_at IS NULL AND ended_at IS NULL;
  IF newest IS NOT NULL THEN
    UPDATE gateways SET confirmed_at = coalesce(confirmed_at, at) WHERE id = of_gateway;
  END IF;
  UPDATE gateways SET valid_from_revision = of_revision WHERE id = of_gateway AND valid_from_revision < of_revision;
  superseding := FOUND;
  IF newest IS NULL AND NOT superseding THEN
    RETURN false;
  END IF;
  PERFORM insert_audit(audit_rows);
  RETURN true;
END $$;

-- `presented_revision` and `presented_key_digest` are those of the certificate that it came with, null when it came with a token.
-- What it tells is written by `write_fleet_request` in the same transaction: the MAC covers the revision.
CREATE FUNCTION request_fleet_certificate(
  of_kind text, of_gateway uuid, of_key_digest bytea, at timestamptz, presented_revision integer,
  presented_key_digest bytea, OUT outcome text, OUT requested uuid, OUT of_revision integer
) LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  standing gateways;
  request fleet_requests;
  own bigint;
BEGIN
  outcome := 'Requested';
  of_revision := 1;
  IF of_kind = 'Gateway' THEN
    SELECT * INTO standing FROM gateways WHERE id = of_gateway AND revoked_at IS NULL FOR UPDATE;
    -- A replica may still admit what was revoked or superseded a moment ago.
    IF NOT FOUND OR presented_revision < standing.valid_from_revision THEN
      outcome := 'Revoked';
      RETURN;
    END IF;
    SELECT max(number) INTO own FROM fleet_tokens
    WHERE gateway_id = of_gateway AND key_digest = coalesce(presented_key_digest, of_key_digest)
      AND confirmed_at IS NULL AND ended_at IS NULL;
    IF presented_revision IS NULL AND own IS NULL THEN
      outcome := 'Revoked';
      RETURN;
    END IF;
    -- What is signed now would outlive the confirmation of the newer registration, which is to end it.
    IF EXISTS (SELECT FROM fleet_tokens
               WHERE gateway_id = of_gateway AND key_digest <> coalesce(presented_key_digest, of_key_digest)
                 AND number > coalesce(own, 0) AND confirmed_at IS NULL AND ended_at IS NULL AND expires_at > at) THEN
      outcome := 'RegistrationOpen';
      RETURN;
    END IF;
    SELECT * INTO request FROM fleet_requests
    WHERE kind = 'Gateway' AND gateway_id = of_gateway AND key_digest = of_key_digest;
    IF request.revision >= standing.valid_from_revision THEN
      requested := request.id;
      of_revision := request.revision;
      RETURN;
    END IF;
    -- One at a time: whoever asks with ever new keys does not make others wait.
    DELETE FROM fleet_requests
    WHERE kind = 'Gateway' AND gateway_id = of_gateway AND (certificates IS NULL OR id = request.id);
    UPDATE gateways SET revision = revision + 1 WHERE id = of_gateway RETURNING revision INTO of_revision;
  END IF;
END $$;

CREATE FUNCTION write_fleet_request(
  of_id uuid, of_kind text, of_gateway uuid, of_name text, of_environment text, of_role text, of_revision integer,
  new_csr bytea, of_key_digest bytea, at timestamptz, new_mac bytea
) RETURNS uuid LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  requested uuid;
BEGIN
  IF of_id IS NOT NULL THEN
    UPDATE fleet_requests SET csr = new_csr, requested_at = at, mac = new_mac WHERE id = of_id AND certificates IS NULL;
    RETURN of_id;
  END IF;
  INSERT INTO fleet_requests AS r
    (kind, gateway_id, name, environment, role, revision, csr, key_digest, requested_at, mac)
  VALUES (of_kind, of_gateway, of_name, of_environment, of_role, of_revision, new_csr, of_key_digest,
          at, new_mac)
  ON CONFLICT (key_digest) WHERE kind = 'Replica' DO UPDATE
  SET csr = excluded.csr, requested_at = excluded.requested_at, mac = excluded.mac WHERE r.certificates IS NULL
  RETURNING id INTO requested;
  IF requested IS NULL THEN
    SELECT id INTO requested FROM fleet_requests WHERE kind = 'Replica' AND key_digest = of_key_digest;
  END IF;
  RETURN requested;
END $$;

CREATE FUNCTION answer_fleet_request(
  writer_epoch bigint, of_id uuid, new_certificates bytea[], at timestamptz
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  UPDATE fleet_requests SET certificates = new_certificates, answered_at = at WHERE id = of_id AND certificates IS NULL;
END $$;

CREATE FUNCTION forget_fleet(writer_epoch bigint, before timestamptz) RETURNS integer
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  requests integer;
  tokens integer;
BEGIN
  PERFORM fence(writer_epoch);
  DELETE FROM fleet_requests WHERE answered_at < before OR (certificates IS NULL AND requested_at < before);
  GET DIAGNOSTICS requests = ROW_COUNT;
  DELETE FROM fleet_tokens WHERE expires_at < before OR confirmed_at < before OR ended_at < before;
  GET DIAGNOSTICS tokens = ROW_COUNT;
  RETURN requests + tokens;
END $$;

CREATE FUNCTION revoke_gateway(writer_epoch bigint, of_gateway uuid, at timestamptz, audit_rows json) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  UPDATE gateways SET revoked_at = at, valid_from_revision = revision + 1 WHERE id = of_gateway AND revoked_at IS NULL;
  IF FOUND THEN
    UPDATE fleet_tokens SET ended_at = at WHERE gateway_id = of_gateway AND confirmed_at IS NULL AND ended_at IS NULL;
    DELETE FROM fleet_requests WHERE gateway_id = of_gateway;
    PERFORM insert_audit(audit_rows);
  END IF;
END $$;

CREATE FUNCTION settle_gateway(writer_epoch bigint, of_gateway uuid, to_revision integer) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  UPDATE gateways SET revoked_to_revision = to_revision WHERE id = of_gateway AND revoked_to_revision < to_revision;
END $$;
