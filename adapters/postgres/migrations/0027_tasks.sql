-- Up Migration

-- What gateways are to do for somebody who waits for it, so that it is of no use after a crash: whoever waits takes a row that
-- is gone for a task that somebody may have claimed, and performs still. Bodies and results are sealed.
CREATE UNLOGGED TABLE tasks (
  id uuid PRIMARY KEY,
  addressee text COLLATE "C" NOT NULL,
  environment text COLLATE "C" NOT NULL,
  kind text NOT NULL,
  body bytea NOT NULL,
  state text NOT NULL DEFAULT 'Waiting' CHECK (state IN ('Waiting', 'Claimed', 'Done', 'Interrupted')),
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  claimable_until timestamptz NOT NULL,
  claimed_by uuid,
  -- Of the environment, when it was claimed.
  epoch bigint,
  deadline_at timestamptz,
  result bytea,
  CHECK ((state = 'Waiting') = (claimed_by IS NULL)),
  CHECK ((claimed_by IS NULL) = (epoch IS NULL) AND (claimed_by IS NULL) = (deadline_at IS NULL)),
  CHECK ((state = 'Done') = (result IS NOT NULL))
) WITH (fillfactor = 50);
CREATE INDEX tasks_waiting ON tasks (environment, addressee, created_at) WHERE state = 'Waiting';
CREATE INDEX tasks_claimed ON tasks (environment, epoch) WHERE state = 'Claimed';
CREATE INDEX tasks_claimable_until ON tasks (claimable_until);

-- Why there is none: 'Unknown' when no gateway of that name is registered, 'EnvironmentDiffers' when it works for another one.
CREATE FUNCTION add_task(
  new_id uuid, of_addressee text, of_environment text, of_kind text, sealed_body bytea, claimable_ms integer
) RETURNS text LANGUAGE plpgsql VOLATILE AS $$
DECLARE
  standing gateways;
BEGIN
  SELECT * INTO standing FROM gateways WHERE name = of_addressee AND revoked_at IS NULL AND registered_at IS NOT NULL;
  IF standing.id IS NULL THEN
    RETURN 'Unknown';
  END IF;
  IF standing.environment IS DISTINCT FROM of_environment THEN
    RETURN 'EnvironmentDiffers';
  END IF;
  INSERT INTO tasks (id, addressee, environment, kind, body, claimable_until)
  VALUES (new_id, of_addressee, of_environment, of_kind, sealed_body,
          clock_timestamp() + claimable_ms * interval '1 millisecond');
  PERFORM pg_notify('mazevault_tasks', 'gateway ' || of_addressee);
  RETURN 'Added';
END $$;

-- What was begun in an older epoch of the environment is over, whoever claims.
CREATE FUNCTION claim_tasks(
  by_gateway uuid, of_environment text, of_addressees text[], at_epoch bigint, most integer, deadline_ms integer
) RETURNS TABLE (id uuid, addressee text, environment text, kind text, body bytea) LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
BEGIN
  PERFORM FROM gateways g
  WHERE g.id = by_gateway AND g.environment = of_environment AND g.revoked_at IS NULL AND g.registered_at IS NOT NULL;
  IF NOT FOUND THEN
    RETURN;
  END IF;
  PERFORM pg_notify('mazevault_tasks', 'task ' || ended.id)
  FROM interrupt_tasks(of_environment, at_epoch) AS ended (id);
  RETURN QUERY
    UPDATE tasks t
    SET state = 'Claimed', claimed_by = by_gateway, epoch = at_epoch,
        deadline_at = clock_timestamp() + deadline_ms * interval '1 millisecond'
    WHERE t.id IN (
      SELECT w.id FROM tasks w
      WHERE w.state = 'Waiting' AND w.environment = of_environment AND w.addressee = ANY (of_addressees)
        AND w.claimable_until > clock_timestamp()
      ORDER BY w.created_at LIMIT most FOR UPDATE SKIP LOCKED
    )
    RETURNING t.id, t.addressee, t.environment, t.kind, t.body;
END $$;

CREATE FUNCTION interrupt_tasks(of_environment text, before_epoch bigint) RETURNS SETOF uuid LANGUAGE sql VOLATILE AS $$
  UPDATE tasks SET state = 'Interrupted', body = ''
  WHERE environment = of_environment AND state = 'Claimed' AND epoch < before_epoch
  RETURNING id;
$$;

-- Whether it was accepted: only of the gateway that claimed it, in the epoch that it was claimed in.
CREATE FUNCTION finish_task(of_id uuid, by_gateway uuid, of_environment text, of_epoch bigint, sealed_result bytea) RETURNS boolean
LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  UPDATE tasks SET state = 'Done', result = sealed_result, body = ''
  WHERE id = of_id AND state = 'Claimed' AND claimed_by = by_gateway AND environment = of_environment AND epoch = of_epoch;
  IF NOT FOUND THEN
    RETURN false;
  END IF;
  PERFORM pg_notify('mazevault_tasks', 'task ' || of_id);
  RETURN true;
END $$;

-- How it stands. Who is told that it ended is the only one who is: with that the row goes. `give_up` also ends one that is
-- claimed, and `withdraw` one that waits.
CREATE FUNCTION collect_task(of_id uuid, withdraw boolean, give_up boolean)
RETURNS TABLE (state text, left_ms integer, result bytea) LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
  task tasks;
BEGIN
  SELECT * INTO task FROM tasks WHERE id = of_id FOR UPDATE;
  IF task.id IS NULL THEN
    RETURN QUERY SELECT 'Gone', 0, NULL::bytea;
    RETURN;
  END IF;
  IF task.state IN ('Done', 'Interrupted') OR (task.state = 'Waiting' AND withdraw) OR (task.state = 'Claimed' AND give_up) THEN
    DELETE FROM tasks WHERE id = of_id;
  END IF;
  RETURN QUERY SELECT
    CASE WHEN task.state = 'Waiting' AND withdraw THEN 'Withdrawn' WHEN task.state = 'Claimed' AND give_up THEN 'Interrupted'
         ELSE task.state END,
    coalesce(ceil(extract(epoch FROM task.deadline_at - clock_timestamp()) * 1000), 0)::integer,
    task.result;
END $$;
