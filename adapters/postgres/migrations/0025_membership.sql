-- Up Migration

-- In mode gateway: what this installation is to its primary. At most one row.
CREATE TABLE membership (
  single boolean PRIMARY KEY DEFAULT true CHECK (single),
  generation bigint NOT NULL,
  state text NOT NULL CHECK (state IN ('Registering', 'Registered', 'Confirmed', 'Revoked')),
  primary_url text NOT NULL,
  token_hash bytea NOT NULL CHECK (octet_length(token_hash) = 32),
  root_digest bytea NOT NULL CHECK (octet_length(root_digest) = 32),
  gateway_id uuid,
  name text,
  environment text,
  role text,
  CHECK (state = 'Registering' OR gateway_id IS NOT NULL)
);

-- Its private keys, sealed: the one in use, and the one that is to take its place.
CREATE TABLE membership_keys (
  slot text PRIMARY KEY CHECK (slot IN ('current', 'next')),
  digest bytea NOT NULL CHECK (octet_length(digest) = 32),
  wrapped_key bytea NOT NULL,
  key_id uuid NOT NULL,
  sealed_key bytea NOT NULL,
  certificates bytea[] NOT NULL,
  received_at timestamptz
);

CREATE FUNCTION write_membership(writer_epoch bigint, before bigint, new_state text, new_primary_url text,
  new_token_hash bytea, new_root_digest bytea, new_gateway_id uuid, new_name text, new_environment text, new_role text,
  new_keys json, audit_rows json
) RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  IF before = 0 THEN
    INSERT INTO membership (generation, state, primary_url, token_hash, root_digest, gateway_id, name, environment, role)
    VALUES (1, new_state, new_primary_url, new_token_hash, new_root_digest, new_gateway_id, new_name, new_environment,
            new_role)
    ON CONFLICT DO NOTHING;
  ELSE
    UPDATE membership
    SET generation = before + 1, state = new_state, primary_url = new_primary_url, token_hash = new_token_hash,
        root_digest = new_root_digest, gateway_id = new_gateway_id, name = new_name, environment = new_environment,
        role = new_role
    WHERE generation = before;
  END IF;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'another membership stands there' USING ERRCODE = 'MV002';
  END IF;
  DELETE FROM membership_keys;
  INSERT INTO membership_keys (slot, digest, wrapped_key, key_id, sealed_key, certificates, received_at)
  SELECT k.slot, decode(k.digest, 'base64'), decode(k.wrapped_key, 'base64'), k.key_id, decode(k.sealed_key, 'base64'),
         ARRAY(SELECT decode(c.der, 'base64') FROM json_array_elements_text(k.certificates) WITH ORDINALITY AS c (der, place)
               ORDER BY c.place),
         k.received_at
  FROM json_to_recordset(new_keys) AS k (slot text, digest text, wrapped_key text, key_id uuid, sealed_key text,
                                         certificates json, received_at timestamptz);
  PERFORM insert_audit(audit_rows);
  RETURN before + 1;
END $$;
