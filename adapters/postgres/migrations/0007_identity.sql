-- Up Migration

-- Whoever serves logins writes here, not only the leader: what is written is conditional on what stands there, and
-- nothing is fenced. A MAC covers every column but last_used_at of API keys.

-- A removed user keeps its row, so that its address is never given to another one.
CREATE TABLE users (
  id uuid PRIMARY KEY,
  email text COLLATE "C" NOT NULL UNIQUE,
  state text NOT NULL CHECK (state IN ('Active', 'Disabled', 'Removed')),
  role text,
  password text,
  session_epoch integer NOT NULL,
  generation bigint NOT NULL,
  created_at timestamptz NOT NULL,
  mac bytea NOT NULL
);

CREATE TABLE sessions (
  id uuid PRIMARY KEY,
  user_id uuid NOT NULL REFERENCES users,
  session_epoch integer NOT NULL,
  address text NOT NULL,
  refresh_hash bytea NOT NULL UNIQUE,
  created_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  ended_at timestamptz,
  mac bytea NOT NULL
);
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_expires_at ON sessions (expires_at);

CREATE TABLE used_refresh_tokens (
  hash bytea PRIMARY KEY,
  session_id uuid NOT NULL REFERENCES sessions ON DELETE CASCADE
);
CREATE INDEX used_refresh_tokens_session ON used_refresh_tokens (session_id);

CREATE TABLE api_keys (
  id uuid PRIMARY KEY,
  owner_id uuid NOT NULL REFERENCES users,
  name text NOT NULL,
  hash bytea NOT NULL,
  scopes text[] NOT NULL,
  created_at timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  revoked_at timestamptz,
  mac bytea NOT NULL,
  last_used_at timestamptz
);
CREATE INDEX api_keys_owner ON api_keys (owner_id);

-- May be lost in a crash, and is written for every login: so it leaves no trace in the write-ahead log.
CREATE UNLOGGED TABLE login_attempts (
  key text PRIMARY KEY,
  failures integer NOT NULL,
  last_at timestamptz NOT NULL,
  blocked_until timestamptz
);
CREATE INDEX login_attempts_last_at ON login_attempts (last_at);

CREATE FUNCTION create_user(
  new_id uuid, new_email text, new_state text, new_role text, new_password text, new_session_epoch integer,
  new_generation bigint, new_created_at timestamptz, new_mac bytea, only_first boolean, audit_rows json
) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  IF only_first THEN
    PERFORM pg_advisory_xact_lock(5641863402551215);
    IF EXISTS (SELECT FROM users) THEN
      RETURN 'NotFirst';
    END IF;
  END IF;
  INSERT INTO users (id, email, state, role, password, session_epoch, generation, created_at, mac)
  VALUES (new_id, new_email, new_state, new_role, new_password, new_session_epoch, new_generation, new_created_at,
          new_mac)
  ON CONFLICT (email) DO NOTHING;
  IF NOT FOUND THEN
    RETURN 'EmailTaken';
  END IF;
  PERFORM insert_audit(audit_rows);
  RETURN 'Created';
END $$;

-- Two admins who demote each other at once are judged one after the other.
CREATE FUNCTION change_user(
  changed_id uuid, new_state text, new_role text, new_password text, new_session_epoch integer, new_generation bigint,
  new_mac bytea, audit_rows json
) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  before users;
BEGIN
  SELECT * INTO before FROM users WHERE id = changed_id AND generation = new_generation - 1 FOR UPDATE;
  IF NOT FOUND THEN
    RETURN 'Conflict';
  END IF;
  IF before.state = 'Active' AND before.role = 'admin' AND (new_state <> 'Active' OR new_role IS DISTINCT FROM 'admin')
  THEN
    PERFORM pg_advisory_xact_lock(5641863402551215);
    IF NOT EXISTS (SELECT FROM users WHERE state = 'Active' AND role = 'admin' AND id <> changed_id) THEN
      RETURN 'LastAdmin';
    END IF;
  END IF;
  UPDATE users
  SET state = new_state, role = new_role, password = new_password, session_epoch = new_session_epoch,
      generation = new_generation, mac = new_mac
  WHERE id = changed_id;
  PERFORM insert_audit(audit_rows);
  RETURN 'Changed';
END $$;

CREATE FUNCTION create_session(
  new_id uuid, new_user_id uuid, new_session_epoch integer, new_address text, new_refresh_hash bytea, new_created_at
  timestamptz, new_expires_at timestamptz, new_mac bytea, audit_rows json
) RETURNS void LANGUAGE sql VOLATILE AS $$
  INSERT INTO sessions (id, user_id, session_epoch, address, refresh_hash, created_at, expires_at, mac)
  VALUES (new_id, new_user_id, new_session_epoch, new_address, new_refresh_hash, new_created_at, new_expires_at,
          new_mac);
  SELECT insert_audit(audit_rows);
$$;

CREATE FUNCTION refresh_session(refreshed_id uuid, used_hash bytea, new_hash bytea, new_mac bytea) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  UPDATE sessions SET refresh_hash = new_hash, mac = new_mac
  WHERE id = refreshed_id AND refresh_hash = used_hash AND ended_at IS NULL;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  INSERT INTO used_refresh_tokens (hash, session_id) VALUES (used_hash, refreshed_id);
  RETURN true;
END $$;

CREATE FUNCTION end_session(
  of_session uuid, seen_hash bytea, new_ended_at timestamptz, new_mac bytea, audit_rows json
) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  UPDATE sessions SET ended_at = new_ended_at, mac = new_mac
  WHERE id = of_session AND refresh_hash = seen_hash AND ended_at IS NULL;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  PERFORM insert_audit(audit_rows);
  RETURN true;
END $$;

CREATE FUNCTION create_api_key(
  new_id uuid, new_owner_id uuid, new_name text, new_hash bytea, new_scopes text[], new_created_at timestamptz,
  new_expires_at timestamptz, new_mac bytea, audit_rows json
) RETURNS void LANGUAGE sql VOLATILE AS $$
  INSERT INTO api_keys (id, owner_id, name, hash, scopes, created_at, expires_at, mac)
  VALUES (new_id, new_owner_id, new_name, new_hash, new_scopes, new_created_at, new_expires_at, new_mac);
  SELECT insert_audit(audit_rows);
$$;

CREATE FUNCTION revoke_api_key(revoked_id uuid, new_revoked_at timestamptz, new_mac bytea, audit_rows json)
RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  UPDATE api_keys SET revoked_at = new_revoked_at, mac = new_mac WHERE id = revoked_id AND revoked_at IS NULL;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  PERFORM insert_audit(audit_rows);
  RETURN true;
END $$;

-- Rows are locked in the order of their keys, so that no two attempts wait for each other.
CREATE FUNCTION begin_attempt(
  keys text[], frees integer[], firsts_ms bigint[], mosts_ms bigint[], forgets_ms bigint[], began timestamptz
) RETURNS TABLE (key text, blocked_until timestamptz) LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
BEGIN
  INSERT INTO login_attempts (key, failures, last_at)
  SELECT k, 0, began FROM unnest(keys) AS k ORDER BY k COLLATE "C" ON CONFLICT (key) DO NOTHING;
  PERFORM FROM login_attempts a WHERE a.key = ANY (keys) ORDER BY a.key COLLATE "C" FOR UPDATE;
  RETURN QUERY SELECT a.key, a.blocked_until FROM login_attempts a
    WHERE a.key = ANY (keys) AND a.blocked_until > began ORDER BY a.blocked_until DESC LIMIT 1;
  IF FOUND THEN
    RETURN;
  END IF;
  UPDATE login_attempts a
  SET failures = c.failures, last_at = began,
      blocked_until = CASE WHEN c.failures >= c.free THEN
        began + least(c.most_ms, c.first_ms * 2 ^ least(c.failures - c.free, 40)) * interval '1 ms' END
  FROM (SELECT l.*, 1 + CASE WHEN b.last_at < began - l.forget_ms * interval '1 ms' THEN 0 ELSE b.failures END AS failures
        FROM unnest(keys, frees, firsts_ms, mosts_ms, forgets_ms) AS l (key, free, first_ms, most_ms, forget_ms)
        JOIN login_attempts b ON b.key = l.key) AS c
  WHERE a.key = c.key;
END $$;

CREATE FUNCTION end_attempt(cleared text[], returned text[], began timestamptz) RETURNS void
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM FROM login_attempts WHERE key = ANY (cleared || returned) ORDER BY key COLLATE "C" FOR UPDATE;
  DELETE FROM login_attempts WHERE key = ANY (cleared);
  -- What came after it keeps its own wait.
  UPDATE login_attempts
  SET failures = greatest(failures - 1, 0), blocked_until = CASE WHEN last_at > began THEN blocked_until END
  WHERE key = ANY (returned);
END $$;
