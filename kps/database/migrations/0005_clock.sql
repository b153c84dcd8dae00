-- How far the clock of the POS's web host, which writes created_at, is behind this database's. One row, once it is known.
CREATE TABLE kps.clock (
  one        boolean PRIMARY KEY DEFAULT true CHECK (one),
  behind_s   float8 NOT NULL,                   -- negative: it is ahead; 0: right within half a minute
  learned_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
