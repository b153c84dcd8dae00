-- The service's own tables. Nothing here references a table of the POS: a foreign key would make its purge fail.
CREATE SEQUENCE kps.token_seq;

CREATE TABLE kps.instance (
  owner      uuid PRIMARY KEY,                  -- new at every start of a supervisor
  name       text NOT NULL,
  host       text NOT NULL,
  started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  seen_at    timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);

CREATE TABLE kps.printer (
  printer_key   text PRIMARY KEY,               -- SITE:ip:port, the physical device
  name          text NOT NULL DEFAULT '',
  owner         uuid,                           -- kps.instance.owner of the lease holder
  owner_name    text NOT NULL DEFAULT '',
  epoch         bigint NOT NULL DEFAULT 0,      -- +1 at every change of owner or of its process; never reset
  expires_at    timestamptz NOT NULL DEFAULT '-infinity',
  yielded_by    uuid,                           -- gave the device up because it could not reach it
  yielded_until timestamptz,
  state         text NOT NULL DEFAULT 'starting',
  state_since   timestamptz NOT NULL DEFAULT clock_timestamp(),
  state_text    text NOT NULL DEFAULT '',
  held_by       text,                           -- the person who put the printer on hold
  paper         text NOT NULL DEFAULT 'unknown',
  response_ms   int,
  checked_at    timestamptz,
  answers       boolean,                        -- has it ever answered a status query
  proof_level   text,                           -- set by a probe only
  model         text,
  probed_at     timestamptz,
  alerted_at    timestamptz
) WITH (fillfactor = 50);

CREATE TABLE kps.job (
  ticket_id       bigint PRIMARY KEY,           -- of the POS's ticket, deliberately no foreign key
  state           text NOT NULL CHECK (state IN ('waiting', 'claimed', 'sending', 'requeued', 'printed', 'failed')),
  token           bigint NOT NULL DEFAULT nextval('kps.token_seq'),
  settled_token   bigint,                       -- the token under which the last outcome was written
  epoch           bigint NOT NULL DEFAULT 0,
  owner           uuid,
  printer_key     text,
  printer_id      bigint,                       -- the printer row used
  printer_name    text NOT NULL DEFAULT '',
  backup_for      text NOT NULL DEFAULT '',     -- name of the first printer of the route, if another one is used
  sends           int NOT NULL DEFAULT 0,       -- copies of which bytes may have left
  maybe_at        text[] NOT NULL DEFAULT '{}', -- printers where an unproven copy may lie
  round_open      boolean NOT NULL DEFAULT false,
  tried           text[] NOT NULL DEFAULT '{}', -- printer keys tried in this round
  not_before      timestamptz,
  first_seen_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  unrouted_at     timestamptz,                  -- since when it has had no printer row; NULL = it has one
  forced_printer  text,
  proof           text,
  printed_on      text NOT NULL DEFAULT '',
  deaths          int NOT NULL DEFAULT 0,       -- processes that died of it before a byte left
  unreached       boolean NOT NULL DEFAULT false, -- failed only because no printer could be reached
  rescue_from     timestamptz,                  -- since when it has been failed for want of a printer
  failed_attempts int,                          -- print_attempts when it failed
  claimed_at      timestamptz,
  sending_at      timestamptz,
  finished_at     timestamptz,
  error           text NOT NULL DEFAULT ''
) WITH (fillfactor = 70);
CREATE UNIQUE INDEX job_one_sending ON kps.job (printer_key) WHERE state = 'sending';
CREATE INDEX job_open ON kps.job (printer_key) WHERE state IN ('claimed', 'sending');
CREATE INDEX job_wait ON kps.job (not_before) WHERE not_before IS NOT NULL;
CREATE INDEX job_unreached ON kps.job (finished_at) WHERE unreached;
CREATE INDEX job_finished ON kps.job (finished_at) WHERE state = 'printed';
