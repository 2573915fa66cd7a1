-- Up Migration

-- Of a gateway: the CA whose key is at the primary, and what it signed. Its CRLs and OCSP answers are the primary's.
ALTER TABLE authorities ADD COLUMN primary_issuer text;
ALTER TABLE authority_generations
  ALTER COLUMN wrapped_key DROP NOT NULL, ALTER COLUMN key_id DROP NOT NULL, ALTER COLUMN sealed_key DROP NOT NULL,
  ADD CONSTRAINT authority_generations_key_check
    CHECK ((wrapped_key IS NULL) = (sealed_key IS NULL) AND (key_id IS NULL) = (sealed_key IS NULL));

CREATE OR REPLACE VIEW ocsp_authorities AS
  SELECT g.authority_id, g.number AS generation, g.subject, g.spki, g.certificate, a.ocsp_validity_ms
  FROM authority_generations g JOIN authorities a ON a.id = g.authority_id
  WHERE g.certificate IS NOT NULL AND a.primary_issuer IS NULL;

CREATE FUNCTION create_primary_authority(
  writer_epoch bigint, new_id uuid, new_kind text, new_namespace text, new_namespace_uid text, new_name text,
  new_crl_every_ms bigint, new_ocsp_validity_ms bigint, new_subject bytea, new_spki bytea, new_primary_issuer text,
  audit_rows json
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  INSERT INTO authorities (id, kind, namespace, namespace_uid, name, crl_every_ms, ocsp_validity_ms, primary_issuer)
  VALUES (new_id, new_kind, new_namespace, new_namespace_uid, new_name, new_crl_every_ms, new_ocsp_validity_ms,
          new_primary_issuer)
  ON CONFLICT DO NOTHING;
  IF FOUND THEN
    INSERT INTO authority_generations (authority_id, number, subject, spki) VALUES (new_id, 1, new_subject, new_spki);
    PERFORM insert_audit(audit_rows);
  END IF;
END $$;

-- What was reserved becomes what the primary signed, under the serial number that it chose.
CREATE FUNCTION complete_certificate_of_primary(
  writer_epoch bigint, of_authority uuid, of_serial bytea, new_der bytea, keep_keys integer, chosen_serial bytea,
  new_not_before timestamptz, new_not_after timestamptz, new_wrapped_key bytea, new_key_id uuid, new_sealed_key bytea,
  audit_rows json
) RETURNS SETOF certificates LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  issued certificates;
BEGIN
  PERFORM fence(writer_epoch);
  RETURN QUERY SELECT * FROM certificates c
    WHERE c.authority_id = of_authority AND c.serial = chosen_serial AND c.state = 'Issued';
  IF FOUND THEN
    RETURN;
  END IF;
  BEGIN
    UPDATE certificates
    SET serial = chosen_serial, state = 'Issued', der = new_der, not_before = new_not_before, not_after = new_not_after,
        wrapped_key = new_wrapped_key, key_id = new_key_id, sealed_key = new_sealed_key,
        changed_transaction = pg_current_xact_id()
    WHERE authority_id = of_authority AND serial = of_serial AND state = 'Reserved' RETURNING * INTO issued;
  EXCEPTION WHEN unique_violation THEN
    RAISE EXCEPTION 'the serial number is taken' USING ERRCODE = 'MV002';
  END;
  IF issued.serial IS NULL THEN
    RAISE EXCEPTION 'the certificate is not reserved' USING ERRCODE = 'MV002';
  END IF;
  UPDATE certificates SET wrapped_key = NULL, key_id = NULL, sealed_key = NULL
  WHERE requester_uid = issued.requester_uid AND revision <= issued.revision - keep_keys AND state <> 'Abandoned'
    AND sealed_key IS NOT NULL;
  PERFORM insert_audit(audit_rows);
  RETURN NEXT issued;
END $$;

-- Of the primary: what gateways want of its CAs. Written by whoever serves gateways; `mac` proves that one of us did.
CREATE TABLE signing_requests (
  id uuid PRIMARY KEY,
  kind text NOT NULL CHECK (kind IN ('Sign', 'Revoke')),
  gateway_id uuid NOT NULL REFERENCES gateways,
  name text NOT NULL,
  environment text NOT NULL,
  body text NOT NULL CHECK (octet_length(body) <= 131072),
  digest bytea NOT NULL,
  requested_at timestamptz NOT NULL,
  mac bytea NOT NULL,
  -- Null while the leader has not answered.
  answer json,
  -- Of the certificate that was signed, by which its gateway may have it revoked.
  serial bytea,
  -- When nobody asks for it any more; for a certificate its end.
  keep_until timestamptz,
  CHECK ((answer IS NULL) = (keep_until IS NULL))
);
CREATE INDEX signing_requests_pending ON signing_requests (gateway_id, requested_at, id) WHERE answer IS NULL;
CREATE INDEX signing_requests_serial ON signing_requests (gateway_id, serial) WHERE serial IS NOT NULL;
CREATE INDEX signing_requests_kept ON signing_requests (keep_until) WHERE keep_until IS NOT NULL;

-- One that was refused is asked anew, one that waits is repeated as of now, so that it does not grow old while somebody asks for it; one
-- that was done stays as it is. False: the id stands for something else.
CREATE FUNCTION request_signing(
  of_id uuid, of_kind text, of_gateway uuid, of_name text, of_environment text, new_body text,
  new_digest bytea, at timestamptz, new_mac bytea
) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  standing signing_requests;
BEGIN
  INSERT INTO signing_requests (id, kind, gateway_id, name, environment, body, digest, requested_at, mac)
  VALUES (of_id, of_kind, of_gateway, of_name, of_environment, new_body, new_digest, at, new_mac)
  ON CONFLICT (id) DO NOTHING;
  IF FOUND THEN
    RETURN true;
  END IF;
  SELECT * INTO standing FROM signing_requests WHERE id = of_id FOR UPDATE;
  -- The leader has just forgotten it: whoever repeats it is told anew.
  IF NOT FOUND OR standing.gateway_id <> of_gateway OR standing.kind <> of_kind THEN
    RETURN false;
  END IF;
  IF standing.answer->>'refusal' IS NOT NULL
    OR (standing.answer IS NULL AND standing.digest = new_digest AND standing.environment = of_environment) THEN
    UPDATE signing_requests
    SET name = of_name, environment = of_environment, body = new_body, digest = new_digest, requested_at = at,
        mac = new_mac, answer = NULL, keep_until = NULL
    WHERE id = of_id;
    RETURN true;
  END IF;
  RETURN standing.digest = new_digest AND standing.environment = of_environment;
END $$;

CREATE FUNCTION answer_signing(
  writer_epoch bigint, of_id uuid, of_mac bytea, new_answer json, new_serial bytea, new_keep_until timestamptz
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  UPDATE signing_requests SET answer = new_answer, serial = new_serial, keep_until = new_keep_until
  WHERE id = of_id AND mac = of_mac AND answer IS NULL;
END $$;

CREATE FUNCTION forget_signing(writer_epoch bigint, now timestamptz, unanswered_before timestamptz) RETURNS integer
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  forgotten integer;
BEGIN
  PERFORM fence(writer_epoch);
  DELETE FROM signing_requests WHERE keep_until < now OR (answer IS NULL AND requested_at < unanswered_before);
  GET DIAGNOSTICS forgotten = ROW_COUNT;
  RETURN forgotten;
END $$;
