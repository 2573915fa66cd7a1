-- Up Migration

-- Which cluster the database belongs to, by the UID of its namespace kube-system; `mac` covers all of it. No row: nobody has led
-- since there are such rows. Restored: a copy that nobody has taken over yet. Adopted: taken over; what it knows of may not all be
-- there again, so that nothing is ended because its object is missing.
CREATE TABLE home (
  single boolean PRIMARY KEY DEFAULT true CHECK (single),
  cluster_uid text NOT NULL,
  state text NOT NULL CHECK (state IN ('Settled', 'Restored', 'Adopted')),
  generation bigint NOT NULL,
  mac bytea NOT NULL CHECK (octet_length(mac) = 32)
);

-- Objects that stand in this cluster for one of another cluster: rows and ciphertexts of that one name its UID, `held_uid`, for ever.
-- Without a `uid` it is not there yet.
CREATE TABLE bindings (
  kind text NOT NULL CHECK (kind IN ('Namespace', 'Certificate', 'CertificateRequest')),
  held_uid text NOT NULL,
  namespace text NOT NULL,
  name text NOT NULL,
  uid text,
  generation bigint NOT NULL,
  mac bytea NOT NULL CHECK (octet_length(mac) = 32),
  PRIMARY KEY (kind, held_uid)
);
CREATE UNIQUE INDEX bindings_uid ON bindings (kind, uid);

CREATE FUNCTION write_home(
  writer_epoch bigint, before bigint, new_cluster_uid text, new_state text, new_mac bytea, audit_rows json
) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  IF before = 0 THEN
    INSERT INTO home (cluster_uid, state, generation, mac) VALUES (new_cluster_uid, new_state, 1, new_mac)
    ON CONFLICT DO NOTHING;
  ELSE
    UPDATE home SET cluster_uid = new_cluster_uid, state = new_state, generation = before + 1, mac = new_mac
    WHERE generation = before;
  END IF;
  IF NOT FOUND THEN
    RAISE EXCEPTION 'what the database belongs to was changed by another writer' USING ERRCODE = 'MV002';
  END IF;
  IF new_state = 'Settled' THEN
    DELETE FROM bindings WHERE uid IS NULL;
  END IF;
  PERFORM insert_audit(audit_rows);
END $$;

CREATE FUNCTION write_bindings(writer_epoch bigint, rows json, audit_rows json) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  written integer;
BEGIN
  PERFORM fence(writer_epoch);
  INSERT INTO bindings AS b (kind, held_uid, namespace, name, uid, generation, mac)
  SELECT r.kind, r.held_uid, r.namespace, r.name, r.uid, r.generation, decode(r.mac, 'base64')
  FROM json_to_recordset(rows) AS r (kind text, held_uid text, namespace text, name text, uid text, generation bigint, mac text)
  ON CONFLICT (kind, held_uid) DO UPDATE
  SET namespace = excluded.namespace, name = excluded.name, uid = excluded.uid, generation = excluded.generation,
      mac = excluded.mac
  WHERE b.generation = excluded.generation - 1;
  GET DIAGNOSTICS written = ROW_COUNT;
  IF written <> json_array_length(rows) THEN
    RAISE EXCEPTION 'a binding was changed by another writer' USING ERRCODE = 'MV002';
  END IF;
  PERFORM insert_audit(audit_rows);
END $$;

-- What a SyncRule and an AuditSink are known by stands under no MAC, and can be written anew.
CREATE FUNCTION rename_rules(writer_epoch bigint, olds text[], news text[]) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  UPDATE sync_items i SET rule_uid = r.new FROM unnest(olds, news) AS r (old, new) WHERE i.rule_uid = r.old;
  UPDATE sync_pulled p SET rule_uid = r.new FROM unnest(olds, news) AS r (old, new) WHERE p.rule_uid = r.old;
  UPDATE sync_rules s SET rule_uid = r.new FROM unnest(olds, news) AS r (old, new)
  WHERE s.rule_uid = r.old AND NOT EXISTS (SELECT FROM sync_rules n WHERE n.rule_uid = r.new);
END $$;

CREATE FUNCTION rename_sinks(writer_epoch bigint, names text[], news text[]) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  UPDATE audit_sinks s SET uid = r.new FROM unnest(names, news) AS r (name, new)
  WHERE s.name = r.name AND NOT EXISTS (SELECT FROM audit_sinks n WHERE n.uid = r.new);
END $$;

-- A server that was made anew counts its transactions from the beginning. A responder would read what stands ahead of them again and
-- again; whoever reads the outbox sees to that itself.
CREATE FUNCTION renumber_transactions(writer_epoch bigint) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  UPDATE certificates SET changed_transaction = pg_current_xact_id() WHERE changed_transaction > pg_current_xact_id();
END $$;
