-- Up Migration

-- Which migration a program must know at least to work on this schema. One that knows it goes on where newer ones have migrated, also
-- when it starts anew: replicas of before and after run side by side, and an upgrade can be taken back. A migration that takes
-- away what programs of the last release have used sets it to the last migration of that release, which none older may meet.
CREATE TABLE compatibility (
  singleton boolean PRIMARY KEY DEFAULT true CHECK (singleton),
  least_migration text NOT NULL
);
INSERT INTO compatibility (least_migration) VALUES ('0039_compatibility');
