-- Up Migration

-- With a Gateway goes what was delivered through it, whichever rule did.
CREATE FUNCTION forget_copies_of_gateway(writer_epoch bigint, of_gateway text) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
BEGIN
  PERFORM fence(writer_epoch);
  DELETE FROM gateway_copies WHERE gateway = of_gateway;
END $$;
