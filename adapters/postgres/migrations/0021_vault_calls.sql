-- Up Migration

-- Calls to vaults that count at this moment, booked by whichever process makes them. Nothing refers to it, and nothing is
-- lost with it but knowledge of the last seconds.
CREATE TABLE vault_calls (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  vault text NOT NULL,
  holder text NOT NULL,
  -- None: the holder waits.
  calls integer NOT NULL CHECK (calls >= 0),
  until timestamptz NOT NULL
);
CREATE INDEX vault_calls_vault ON vault_calls (vault);

CREATE FUNCTION book_vault_calls(
  by_holder text, of_vault text, max_calls integer, wanted integer, held_ms double precision
) RETURNS TABLE (id bigint, calls integer, wait_ms double precision, contended boolean) LANGUAGE plpgsql VOLATILE AS $$
#variable_conflict use_column
DECLARE
  at timestamptz;
  used bigint;
  free bigint;
  others boolean;
BEGIN
  -- Who books for the same vault waits here, and then sees what this one has booked.
  PERFORM pg_advisory_xact_lock(hashtextextended('vault_calls ' || of_vault, 0));
  at := clock_timestamp();
  DELETE FROM vault_calls v WHERE v.vault = of_vault AND v.until <= at;
  SELECT coalesce(sum(v.calls), 0), coalesce(bool_or(v.holder <> by_holder), false) INTO used, others
  FROM vault_calls v WHERE v.vault = of_vault;
  DELETE FROM vault_calls v WHERE v.vault = of_vault AND v.holder = by_holder AND v.calls = 0;
  free := least(wanted, max_calls - used);
  IF free > 0 THEN
    RETURN QUERY
      INSERT INTO vault_calls AS v (vault, holder, calls, until)
      VALUES (of_vault, by_holder, free, at + held_ms * interval '1 millisecond')
      RETURNING v.id, v.calls, 0::double precision, others;
    RETURN;
  END IF;
  INSERT INTO vault_calls (vault, holder, calls, until) VALUES (of_vault, by_holder, 0, at + interval '2 seconds');
  RETURN QUERY
    SELECT NULL::bigint, 0, extract(epoch FROM min(v.until) - at)::double precision * 1000, others
    FROM vault_calls v WHERE v.vault = of_vault AND v.calls > 0;
END $$;

CREATE FUNCTION settle_vault_calls(of_id bigint, made integer, counted_ms double precision)
RETURNS void LANGUAGE sql VOLATILE AS $$
  DELETE FROM vault_calls WHERE id = of_id AND made = 0;
  UPDATE vault_calls SET calls = made, until = clock_timestamp() + counted_ms * interval '1 millisecond'
  WHERE id = of_id AND made > 0;
$$;
