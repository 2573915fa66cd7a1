-- Up Migration

-- Who settles comes after who begins to write, or before: begin_kept_write looks, and then claims what it has looked at.
CREATE OR REPLACE FUNCTION take_kept_entry(
  writer_epoch bigint, of_vault text, of_entry text, taker uuid, lease_ms bigint
) RETURNS boolean LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  PERFORM pg_advisory_xact_lock(hashtextextended(of_vault, 0));
  UPDATE kept_entries k
  SET write_id = taker, write_epoch = writer_epoch, write_until = now() + make_interval(secs => lease_ms / 1000.0)
  WHERE vault_url = of_vault AND lower(entry_name) = lower(of_entry) AND NOT is_being_written(k, writer_epoch);
  RETURN FOUND;
END $$;
