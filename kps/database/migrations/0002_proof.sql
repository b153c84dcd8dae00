-- What proof of print needs: process IDs, what was thrown away again, what a probe has shown.

-- Each sending takes a few process IDs: behind the ticket, to ask again, to ask later what became of it. Their texts
-- are these numbers in base 95, so a new database must not begin where an old one did.
CREATE SEQUENCE kps.process_id_seq INCREMENT BY 4;
SELECT setval('kps.process_id_seq', 4 * floor(random() * 1e9)::bigint + 1);

ALTER TABLE kps.job
  ADD COLUMN process_ids bigint[] NOT NULL DEFAULT '{}', -- first process ID of each sending
  ADD COLUMN cleared     int NOT NULL DEFAULT 0,         -- sendings that the printer threw away, proven
  ADD COLUMN maybe_keys  text[] NOT NULL DEFAULT '{}',   -- the devices of maybe_at, in the same places
  ADD COLUMN moved_from  text[] NOT NULL DEFAULT '{}',   -- printers that threw it away
  ADD COLUMN moved_keys  text[] NOT NULL DEFAULT '{}',   -- their devices, in the same places
  ADD COLUMN late_proof  text[] NOT NULL DEFAULT '{}',   -- printers that have proven their copy after it was given up
  ADD COLUMN told_back   text[] NOT NULL DEFAULT '{}';   -- devices of maybe_keys whose return is on record
UPDATE kps.job SET maybe_keys = array_fill(''::text, ARRAY[cardinality(maybe_at)]) WHERE maybe_at <> '{}';
CREATE INDEX job_unproven ON kps.job (ticket_id) WHERE maybe_keys <> '{}' OR moved_keys <> '{}';

ALTER TABLE kps.printer
  ADD COLUMN pushes         boolean NOT NULL DEFAULT false, -- probed: tells changes of its state by itself
  ADD COLUMN clears         boolean NOT NULL DEFAULT false, -- probed: throws its buffers away when asked
  ADD COLUMN firmware       text NOT NULL DEFAULT '',       -- at the probe
  ADD COLUMN serial         text NOT NULL DEFAULT '',
  ADD COLUMN demoted_at     timestamptz,                    -- lost its proof level by contrary evidence
  ADD COLUMN demoted_text   text NOT NULL DEFAULT '',
  ADD COLUMN cover_open     boolean,
  ADD COLUMN cutter_ok      boolean,
  ADD COLUMN borrowed_by    text NOT NULL DEFAULT '',       -- somebody at the printer has it for a probe
  ADD COLUMN borrowed_until timestamptz NOT NULL DEFAULT '-infinity';
