-- What the paper needs: numbers that show a gap, what is on paper already, and slips of our own.

-- The day of a moment at a place whose day begins `start` minutes after midnight. A zone that nobody knows is UTC.
CREATE FUNCTION kps.local_day(moment timestamptz, zone text, start int) RETURNS date LANGUAGE plpgsql STABLE AS $$
BEGIN
  RETURN ((moment AT TIME ZONE zone) - pg_catalog.make_interval(mins => start))::date;
EXCEPTION WHEN invalid_parameter_value THEN
  RETURN ((moment AT TIME ZONE 'UTC') - pg_catalog.make_interval(mins => start))::date;
END $$;

-- The last number of each station, brand and day, and beside it the one before: an UPDATE can return both.
CREATE TABLE kps.chain (
  station        text NOT NULL,
  brand          text NOT NULL,
  day            date NOT NULL,
  number         int NOT NULL,
  at             timestamptz NOT NULL,
  place          text NOT NULL,
  printer_key    text NOT NULL,
  printer_name   text NOT NULL,
  before_number  int,
  before_at      timestamptz,
  before_place   text,
  before_key     text,
  before_name    text,
  PRIMARY KEY (station, brand, day)
) WITH (fillfactor = 50);

ALTER TABLE kps.job
  ADD COLUMN chain_number    int,                            -- taken at the first sending, kept by every copy
  ADD COLUMN chain_day       date,
  ADD COLUMN before_number   int,
  ADD COLUMN before_at       timestamptz,
  ADD COLUMN before_place    text,
  ADD COLUMN before_key      text,
  ADD COLUMN before_name     text,
  ADD COLUMN backup_reason   text NOT NULL DEFAULT '',       -- why the printer of backup_for could not print it
  ADD COLUMN backup_for_key  text NOT NULL DEFAULT '',       -- its device
  ADD COLUMN elsewhere_told  boolean NOT NULL DEFAULT false; -- on the catch-up slip of that printer
CREATE INDEX job_elsewhere ON kps.job (backup_for_key) WHERE backup_for_key <> '' AND NOT elsewhere_told;

ALTER TABLE kps.printer
  ADD COLUMN unable_since timestamptz,                       -- begin of its last outage
  ADD COLUMN able_since   timestamptz,
  ADD COLUMN outages      int NOT NULL DEFAULT 0;            -- that it has caught up with

CREATE TABLE kps.printed_item (                              -- what may be on paper, as the first copy had it
  ticket_id     bigint NOT NULL,
  bill_item_id  bigint NOT NULL,
  station       text NOT NULL,
  brand         text NOT NULL,
  bill_id       bigint,                                      -- the item's bill and table, as last told to the station
  table_number  text NOT NULL,
  paper_table   text NOT NULL,                               -- the table that the paper names
  quantity      int NOT NULL,
  printed_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
  told          text NOT NULL DEFAULT '',                    -- void, cancelled: the station knows, nothing more follows
  moves         int NOT NULL DEFAULT 0,
  PRIMARY KEY (ticket_id, bill_item_id)
) WITH (fillfactor = 70);
CREATE INDEX printed_item_watched ON kps.printed_item (printed_at) WHERE told = '';

CREATE TABLE kps.slip (
  id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  dedupe_key    text NOT NULL UNIQUE,                        -- one event, one slip, whoever sees it first
  kind          text NOT NULL CHECK (kind IN ('void', 'cancelled', 'moved', 'outage', 'catch_up')),
  station       text NOT NULL DEFAULT '',                    -- goes along this route,
  brand         text NOT NULL DEFAULT '',
  target        text NOT NULL DEFAULT '',                    -- or to this device and no other
  timezone      text NOT NULL DEFAULT '',
  content       jsonb NOT NULL,
  state         text NOT NULL DEFAULT 'new' CHECK (state IN ('new', 'claimed', 'sending', 'printed', 'failed')),
  token         bigint NOT NULL DEFAULT nextval('kps.token_seq'),
  settled_token bigint,
  epoch         bigint NOT NULL DEFAULT 0,
  owner         uuid,
  printer_key   text NOT NULL DEFAULT '',
  printer_id    bigint,
  printer_name  text NOT NULL DEFAULT '',
  tries         int NOT NULL DEFAULT 0,
  sends         int NOT NULL DEFAULT 0,                      -- copies of which bytes may have left
  maybe_at      text[] NOT NULL DEFAULT '{}',                -- printers where an unproven copy may lie
  maybe_keys    text[] NOT NULL DEFAULT '{}',                -- their devices
  not_before    timestamptz,
  created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
  expires_at    timestamptz NOT NULL,
  finished_at   timestamptz,
  proof         text,
  error         text NOT NULL DEFAULT ''
) WITH (fillfactor = 70);
CREATE INDEX slip_open ON kps.slip (id) WHERE state IN ('new', 'claimed', 'sending');
