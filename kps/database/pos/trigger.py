"""What wakes KPS when the POS writes a ticket."""

from __future__ import annotations

from kps.database.connection import Database
from kps.database.pos.tables import TICKET

NOTIFY_TRIGGER = f"""
CREATE OR REPLACE FUNCTION kps.ticket_notify() RETURNS trigger LANGUAGE plpgsql SET search_path = '' AS $$
BEGIN
  IF pg_catalog.to_jsonb(NEW) ->> 'status' = 'new' THEN
    PERFORM pg_catalog.pg_notify('kps_ticket_new', '');
  END IF;
  RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER kps_ticket_notify AFTER INSERT OR UPDATE ON {TICKET}
  FOR EACH ROW EXECUTE FUNCTION kps.ticket_notify();
"""
"""No column list, no WHEN clause, no column by name: a later migration of the POS's columns must succeed.

OR REPLACE also enables one that is switched off.
"""

WAKES = f"""EXISTS (SELECT 1 FROM pg_trigger
             WHERE tgrelid = to_regclass('{TICKET}') AND tgname = 'kps_ticket_notify' AND tgenabled IN ('O', 'A'))"""
"""Whether the wake-up trigger is there, and fires for what the POS writes."""


def install_trigger(database: Database) -> None:
    """Create or enable the wake-up trigger. Raises DatabaseTrouble, also when the lock of the table is not free."""
    database.query(f"SET lock_timeout = '1s'; {NOTIFY_TRIGGER} SET lock_timeout = '2s'")


def lacking_right(database: Database) -> str:
    """What a user lacks who may not make the trigger; '' = nothing."""
    if database.query("SELECT 1 WHERE has_table_privilege(%s, 'TRIGGER')", [TICKET]):
        return ""
    return f"TRIGGER on {TICKET}"
