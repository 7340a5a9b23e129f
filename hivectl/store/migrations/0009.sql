-- Workers outside: how long each may be silent, what it is known to have said.
ALTER TABLE workers ADD COLUMN lease_us INTEGER NOT NULL DEFAULT 0;      -- of external ones
ALTER TABLE workers ADD COLUMN is_offline INTEGER NOT NULL DEFAULT 0;    -- its lease has lapsed, and that was told
DROP INDEX workers_lease;
CREATE INDEX workers_lease ON workers(lease_until_us) WHERE lease_until_us IS NOT NULL AND is_offline = 0;

ALTER TABLE executions ADD COLUMN outputs INTEGER NOT NULL DEFAULT 0;       -- messages its worker has posted
ALTER TABLE executions ADD COLUMN output_bytes INTEGER NOT NULL DEFAULT 0;  -- and their size
