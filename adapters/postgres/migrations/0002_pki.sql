-- Up Migration

-- An issuer object that is applied again finds its CA here.
CREATE TABLE authorities (
  id uuid PRIMARY KEY,
  kind text NOT NULL CHECK (kind IN ('Issuer', 'ClusterIssuer')),
  namespace text NOT NULL,
  namespace_uid text NOT NULL,
  name text NOT NULL,
  state text NOT NULL DEFAULT 'Active' CHECK (state IN ('Active', 'Retired')),
  crl_every_ms bigint NOT NULL,
  ocsp_validity_ms bigint NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  UNIQUE (kind, namespace, name, namespace_uid)
);

CREATE TABLE authority_generations (
  authority_id uuid NOT NULL REFERENCES authorities,
  number integer NOT NULL,
  subject bytea NOT NULL,
  spki bytea NOT NULL,
  certificate bytea,
  not_after timestamptz,
  chain bytea[] NOT NULL DEFAULT '{}',
  wrapped_key bytea NOT NULL,
  key_id uuid NOT NULL,
  sealed_key bytea NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (authority_id, number),
  CHECK ((certificate IS NULL) = (not_after IS NULL))
);

-- Without a foreign key: each issue would lock the row of its CA, and reserve_certificate looks at it anyway.
CREATE TABLE certificates (
  authority_id uuid NOT NULL,
  generation integer NOT NULL,
  serial bytea NOT NULL,
  state text NOT NULL CHECK (state IN ('Reserved', 'Issued', 'Abandoned')),
  requester_kind text NOT NULL,
  namespace text NOT NULL,
  namespace_uid text NOT NULL,
  name text NOT NULL,
  requester_uid text NOT NULL,
  revision integer NOT NULL,
  profile text NOT NULL,
  template bytea NOT NULL,
  not_before timestamptz NOT NULL,
  not_after timestamptz NOT NULL,
  crl_partition integer NOT NULL,
  der bytea,
  wrapped_key bytea,
  key_id uuid,
  sealed_key bytea,
  revoked_at timestamptz,
  revocation_reason text,
  invalidity_date timestamptz,
  -- Of the last change that a responder must learn of; see ocsp_certificates.
  changed_transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
  PRIMARY KEY (authority_id, serial),
  CHECK ((state = 'Issued') = (der IS NOT NULL)),
  CHECK (revoked_at IS NULL OR state = 'Issued'),
  CHECK ((revoked_at IS NULL) = (revocation_reason IS NULL))
);
-- One certificate for each revision of a requester.
CREATE UNIQUE INDEX certificates_requester ON certificates (requester_uid, revision) WHERE state <> 'Abandoned';
CREATE INDEX certificates_changed ON certificates (changed_transaction, authority_id, serial) WHERE state = 'Issued';
CREATE INDEX certificates_revoked ON certificates (authority_id, generation, crl_partition, serial)
  WHERE revoked_at IS NOT NULL;

CREATE TABLE certificate_holders (
  uid text PRIMARY KEY,
  namespace text NOT NULL,
  namespace_uid text NOT NULL,
  name text NOT NULL,
  deletion_policy text NOT NULL,
  delivery json
) WITH (fillfactor = 80);
CREATE INDEX certificate_holders_name ON certificate_holders (namespace, name);

-- The CRL in force of each partition. `changes` counts revocations and releases, `covers` is its value in that CRL.
CREATE TABLE crls (
  authority_id uuid NOT NULL,
  generation integer NOT NULL,
  partition integer NOT NULL,
  changes bigint NOT NULL DEFAULT 0,
  covers bigint,
  number bigint,
  this_update timestamptz,
  next_update timestamptz,
  der bytea,
  PRIMARY KEY (authority_id, generation, partition),
  FOREIGN KEY (authority_id, generation) REFERENCES authority_generations
) WITH (fillfactor = 80);

-- Written by the responders: nothing in a request is trusted.
CREATE TABLE ocsp_responders (
  id uuid PRIMARY KEY,
  authority_id uuid NOT NULL,
  generation integer NOT NULL,
  csr bytea NOT NULL CHECK (octet_length(csr) <= 4096),
  requested_at timestamptz NOT NULL DEFAULT now(),
  certificate bytea,
  not_after timestamptz
);
CREATE INDEX ocsp_responders_requested ON ocsp_responders (authority_id, requested_at);

-- What a responder may read.
CREATE VIEW ocsp_authorities AS
  SELECT g.authority_id, g.number AS generation, g.subject, g.spki, g.certificate, a.ocsp_validity_ms
  FROM authority_generations g JOIN authorities a ON a.id = g.authority_id
  WHERE g.certificate IS NOT NULL;
CREATE VIEW ocsp_certificates AS
  SELECT authority_id, generation, serial, not_after, revoked_at, revocation_reason, invalidity_date, changed_transaction
  FROM certificates WHERE state = 'Issued';
CREATE VIEW ocsp_crls AS
  SELECT authority_id, generation, partition, number, this_update, next_update, der FROM crls WHERE number IS NOT NULL;

-- Called by who installs a responder: this migration's role need not be able to make roles.
CREATE FUNCTION grant_ocsp(role text) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), role);
  EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema(), role);
  EXECUTE format('GRANT SELECT ON ocsp_authorities, ocsp_certificates, ocsp_crls, ocsp_responders TO %I', role);
  EXECUTE format('GRANT INSERT (id, authority_id, generation, csr) ON ocsp_responders TO %I', role);
END $$;

CREATE FUNCTION create_authority(
  writer_epoch bigint, new_id uuid, new_kind text, new_namespace text, new_namespace_uid text, new_name text,
  new_crl_every_ms bigint, new_ocsp_validity_ms bigint, new_subject bytea, new_spki bytea, new_wrapped_key bytea,
  new_key_id uuid, new_sealed_key bytea, audit_rows json
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  INSERT INTO authorities (id, kind, namespace, namespace_uid, name, crl_every_ms, ocsp_validity_ms)
  VALUES (new_id, new_kind, new_namespace, new_namespace_uid, new_name, new_crl_every_ms, new_ocsp_validity_ms)
  ON CONFLICT DO NOTHING;
  IF FOUND THEN
    INSERT INTO authority_generations (authority_id, number, subject, spki, wrapped_key, key_id, sealed_key)
    VALUES (new_id, 1, new_subject, new_spki, new_wrapped_key, new_key_id, new_sealed_key);
    INSERT INTO crls (authority_id, generation, partition) VALUES (new_id, 1, 0);
    PERFORM insert_audit(audit_rows);
  END IF;
END $$;

CREATE FUNCTION install_certificate(
  writer_epoch bigint, of_authority uuid, of_generation integer, new_certificate bytea, new_not_after timestamptz,
  new_chain bytea[], replaced_certificate bytea, audit_rows json
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  UPDATE authority_generations SET certificate = new_certificate, not_after = new_not_after, chain = new_chain
  WHERE authority_id = of_authority AND number = of_generation
    AND certificate IS NOT DISTINCT FROM replaced_certificate
    AND (certificate IS DISTINCT FROM new_certificate OR chain <> new_chain);
  IF FOUND THEN
    PERFORM insert_audit(audit_rows);
  ELSIF NOT EXISTS (SELECT FROM authority_generations WHERE authority_id = of_authority AND number = of_generation
                    AND certificate = new_certificate AND chain = new_chain) THEN
    RAISE EXCEPTION 'generation % of authority % has another certificate', of_generation, of_authority
      USING ERRCODE = 'MV002';
  END IF;
END $$;

CREATE FUNCTION change_authority(
  writer_epoch bigint, of_authority uuid, new_state text, new_crl_every_ms bigint, new_ocsp_validity_ms bigint,
  audit_rows json
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  UPDATE authorities SET state = new_state, crl_every_ms = new_crl_every_ms, ocsp_validity_ms = new_ocsp_validity_ms
  WHERE id = of_authority;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no authority %', of_authority USING ERRCODE = 'MV002';
  END IF;
  PERFORM insert_audit(audit_rows);
END $$;

-- What now stands for the revision, whoever put it there.
CREATE FUNCTION reserve_certificate(
  writer_epoch bigint, of_authority uuid, of_generation integer, new_serial bytea, new_requester_kind text,
  new_namespace text, new_namespace_uid text, new_name text, new_requester_uid text, new_revision integer,
  new_profile text, new_template bytea, new_not_before timestamptz, new_not_after timestamptz, new_crl_partition
  integer, new_wrapped_key bytea, new_key_id uuid, new_sealed_key bytea, audit_rows json
) RETURNS SETOF certificates LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  IF NOT EXISTS (SELECT FROM authorities a JOIN authority_generations g ON g.authority_id = a.id
                 WHERE a.id = of_authority AND (a.state = 'Active' OR new_requester_kind = 'Responder')
                   AND g.number = of_generation) THEN
    RAISE EXCEPTION 'authority % does not issue with generation %', of_authority, of_generation USING ERRCODE = 'MV002';
  END IF;
  RETURN QUERY
    INSERT INTO certificates (authority_id, generation, serial, state, requester_kind, namespace, namespace_uid, name,
                              requester_uid, revision, profile, template, not_before, not_after, crl_partition,
                              wrapped_key, key_id, sealed_key)
    VALUES (of_authority, of_generation, new_serial, 'Reserved', new_requester_kind, new_namespace, new_namespace_uid,
            new_name, new_requester_uid, new_revision, new_profile, new_template, new_not_before, new_not_after,
            new_crl_partition, new_wrapped_key, new_key_id, new_sealed_key)
    ON CONFLICT DO NOTHING RETURNING *;
  IF FOUND THEN
    PERFORM insert_audit(audit_rows);
    RETURN;
  END IF;
  RETURN QUERY SELECT * FROM certificates c
    WHERE c.requester_uid = new_requester_uid AND c.revision = new_revision AND c.state <> 'Abandoned';
  IF NOT FOUND THEN
    RAISE EXCEPTION 'the serial number is taken' USING ERRCODE = 'MV002';
  END IF;
END $$;

CREATE FUNCTION abandon_certificate(writer_epoch bigint, of_authority uuid, of_serial bytea, audit_rows json)
RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  UPDATE certificates SET state = 'Abandoned', wrapped_key = NULL, key_id = NULL, sealed_key = NULL
  WHERE authority_id = of_authority AND serial = of_serial AND state = 'Reserved';
  IF NOT FOUND THEN
    RAISE EXCEPTION 'the certificate is not reserved' USING ERRCODE = 'MV002';
  END IF;
  PERFORM insert_audit(audit_rows);
END $$;

CREATE FUNCTION complete_certificate(
  writer_epoch bigint, of_authority uuid, of_serial bytea, new_der bytea, keep_keys integer, audit_rows json
) RETURNS SETOF certificates LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  issued certificates;
BEGIN
  PERFORM fence(writer_epoch);
  UPDATE certificates SET state = 'Issued', der = new_der, changed_transaction = pg_current_xact_id()
  WHERE authority_id = of_authority AND serial = of_serial AND state = 'Reserved' RETURNING * INTO issued;
  IF FOUND THEN
    UPDATE certificates SET wrapped_key = NULL, key_id = NULL, sealed_key = NULL
    WHERE requester_uid = issued.requester_uid AND revision <= issued.revision - keep_keys AND state <> 'Abandoned'
      AND sealed_key IS NOT NULL;
    -- Looked for first: an insert that meets its own row again and again would bloat nothing, but write.
    IF NOT EXISTS (SELECT FROM crls c WHERE c.authority_id = of_authority AND c.generation = issued.generation
                   AND c.partition = issued.crl_partition) THEN
      INSERT INTO crls (authority_id, generation, partition)
      VALUES (of_authority, issued.generation, issued.crl_partition) ON CONFLICT DO NOTHING;
    END IF;
    PERFORM insert_audit(audit_rows);
    RETURN NEXT issued;
    RETURN;
  END IF;
  RETURN QUERY SELECT * FROM certificates c
    WHERE c.authority_id = of_authority AND c.serial = of_serial AND c.state = 'Issued';
  IF NOT FOUND THEN
    RAISE EXCEPTION 'the certificate is not reserved' USING ERRCODE = 'MV002';
  END IF;
END $$;

-- Counted in the same transaction, so that no CRL can claim to cover a revocation that it does not list.
CREATE FUNCTION count_revocation(changed certificates) RETURNS void LANGUAGE sql VOLATILE AS $$
  UPDATE crls SET changes = changes + 1
  WHERE authority_id = changed.authority_id AND generation = changed.generation AND partition = changed.crl_partition
$$;

CREATE FUNCTION revoke_certificate(
  writer_epoch bigint, of_authority uuid, of_serial bytea, new_revoked_at timestamptz, new_reason text,
  new_invalidity_date timestamptz, audit_rows json
) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  changed certificates;
BEGIN
  PERFORM fence(writer_epoch);
  UPDATE certificates
  SET revoked_at = coalesce(revoked_at, new_revoked_at), revocation_reason = new_reason,
      invalidity_date = new_invalidity_date, changed_transaction = pg_current_xact_id()
  WHERE authority_id = of_authority AND serial = of_serial AND state = 'Issued'
    AND (revoked_at IS NULL OR (revocation_reason = 'certificateHold' AND new_reason <> 'certificateHold'))
  RETURNING * INTO changed;
  IF FOUND THEN
    PERFORM count_revocation(changed);
    PERFORM insert_audit(audit_rows);
    RETURN true;
  END IF;
  IF NOT EXISTS (SELECT FROM certificates WHERE authority_id = of_authority AND serial = of_serial
                 AND state = 'Issued') THEN
    RAISE EXCEPTION 'no such certificate was issued' USING ERRCODE = 'MV002';
  END IF;
  RETURN false;
END $$;

CREATE FUNCTION release_certificate(writer_epoch bigint, of_authority uuid, of_serial bytea, audit_rows json)
RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  changed certificates;
BEGIN
  PERFORM fence(writer_epoch);
  UPDATE certificates
  SET revoked_at = NULL, revocation_reason = NULL, invalidity_date = NULL, changed_transaction = pg_current_xact_id()
  WHERE authority_id = of_authority AND serial = of_serial AND revocation_reason = 'certificateHold'
  RETURNING * INTO changed;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  PERFORM count_revocation(changed);
  PERFORM insert_audit(audit_rows);
  RETURN true;
END $$;

CREATE FUNCTION record_holder(
  writer_epoch bigint, new_uid text, new_namespace text, new_namespace_uid text, new_name text, new_deletion_policy text
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  INSERT INTO certificate_holders (uid, namespace, namespace_uid, name, deletion_policy)
  VALUES (new_uid, new_namespace, new_namespace_uid, new_name, new_deletion_policy)
  ON CONFLICT (uid) DO UPDATE SET deletion_policy = new_deletion_policy;
END $$;

CREATE FUNCTION record_certificate_delivery(writer_epoch bigint, of_uid text, new_delivery json, audit_rows json)
RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  UPDATE certificate_holders SET delivery = new_delivery WHERE uid = of_uid;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'there is no holder %', of_uid USING ERRCODE = 'MV002';
  END IF;
  PERFORM insert_audit(audit_rows);
END $$;

CREATE FUNCTION remove_holder(writer_epoch bigint, of_uid text, audit_rows json) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  DELETE FROM certificate_holders WHERE uid = of_uid;
  IF FOUND THEN
    UPDATE certificates SET wrapped_key = NULL, key_id = NULL, sealed_key = NULL
    WHERE requester_uid = of_uid AND state <> 'Abandoned' AND sealed_key IS NOT NULL;
    PERFORM insert_audit(audit_rows);
  END IF;
END $$;

CREATE FUNCTION publish_crl(
  writer_epoch bigint, of_authority uuid, of_generation integer, of_partition integer, new_number bigint,
  new_this_update timestamptz, new_next_update timestamptz, new_covers bigint, new_der bytea, audit_rows json
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  UPDATE crls
  SET number = new_number, this_update = new_this_update, next_update = new_next_update, covers = new_covers,
      der = new_der
  WHERE authority_id = of_authority AND generation = of_generation AND partition = of_partition
    AND coalesce(number, 0) + 1 = new_number;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'CRL % of authority % is not the next one', new_number, of_authority USING ERRCODE = 'MV002';
  END IF;
  PERFORM insert_audit(audit_rows);
END $$;

CREATE FUNCTION answer_responder(writer_epoch bigint, of_id uuid, new_certificate bytea, new_not_after timestamptz)
RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  UPDATE ocsp_responders SET certificate = new_certificate, not_after = new_not_after
  WHERE id = of_id AND certificate IS NULL;
END $$;

CREATE FUNCTION forget_responders(writer_epoch bigint, at timestamptz, unanswered_before timestamptz) RETURNS integer
LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  forgotten integer;
BEGIN
  PERFORM fence(writer_epoch);
  DELETE FROM ocsp_responders WHERE not_after <= at OR (certificate IS NULL AND requested_at < unanswered_before);
  GET DIAGNOSTICS forgotten = ROW_COUNT;
  RETURN forgotten;
END $$;
