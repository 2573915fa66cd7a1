-- Up Migration

-- Where the record begins since its oldest rows were removed, signed; see core/audit/cut.ts.
CREATE TABLE audit_cut (
  singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  checkpoint bigint NOT NULL,
  position bigint NOT NULL,
  link bytea NOT NULL,
  kept bigint NOT NULL,
  kept_hash bytea NOT NULL,
  at timestamptz NOT NULL,
  key_version integer NOT NULL,
  signature bytea NOT NULL
);

-- What stays when a row's time is over: the present state is compared with it. Sessions are over before that.
CREATE FUNCTION audit_is_kept(a audit) RETURNS boolean LANGUAGE sql IMMUTABLE AS $$
  SELECT (a.subject_generation IS NOT NULL AND a.subject_kind <> 'Session') OR a.action = 'CertificateRevoked'
$$;

CREATE FUNCTION audit_only_behind_cut() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF audit_is_kept(OLD) OR OLD.position IS NULL
    OR OLD.position > coalesce((SELECT position FROM audit_cut), 0) THEN
    RAISE EXCEPTION 'audit rows can neither be changed nor deleted' USING ERRCODE = 'MV003';
  END IF;
  RETURN OLD;
END $$;
DROP TRIGGER audit_not_deleted ON audit;
CREATE TRIGGER audit_not_deleted BEFORE DELETE ON audit FOR EACH ROW EXECUTE FUNCTION audit_only_behind_cut();

CREATE FUNCTION audit_checkpoint_only_behind_cut() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF OLD.number >= coalesce((SELECT checkpoint FROM audit_cut), 0) THEN
    RAISE EXCEPTION 'audit checkpoints can neither be changed nor deleted' USING ERRCODE = 'MV003';
  END IF;
  RETURN OLD;
END $$;
DROP TRIGGER audit_checkpoint_not_changed ON audit_checkpoints;
CREATE TRIGGER audit_checkpoint_not_changed BEFORE UPDATE ON audit_checkpoints
  FOR EACH ROW EXECUTE FUNCTION audit_unchangeable();
CREATE TRIGGER audit_checkpoint_not_deleted BEFORE DELETE ON audit_checkpoints
  FOR EACH ROW EXECUTE FUNCTION audit_checkpoint_only_behind_cut();

-- The statement first: the triggers let go what is behind it.
CREATE FUNCTION cut_audit(to_checkpoint bigint, to_position bigint, to_link bytea, of_kept bigint, of_kept_hash bytea,
                          cut_at timestamptz, with_key_version integer, with_signature bytea)
RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  before bigint := coalesce((SELECT position FROM audit_cut), 0);
  removed bigint;
BEGIN
  INSERT INTO audit_cut (checkpoint, position, link, kept, kept_hash, at, key_version, signature)
  VALUES (to_checkpoint, to_position, to_link, of_kept, of_kept_hash, cut_at, with_key_version, with_signature)
  ON CONFLICT (singleton) DO UPDATE SET checkpoint = to_checkpoint, position = to_position, link = to_link,
    kept = of_kept, kept_hash = of_kept_hash, at = cut_at, key_version = with_key_version, signature = with_signature;
  DELETE FROM audit a WHERE a.position > before AND a.position <= to_position AND NOT audit_is_kept(a);
  GET DIAGNOSTICS removed = ROW_COUNT;
  DELETE FROM audit_checkpoints WHERE number < to_checkpoint;
  RETURN removed;
END $$;
