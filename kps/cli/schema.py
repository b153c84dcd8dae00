"""The SQL of schema kps as one script, for a database in which the service may not create anything itself."""

from __future__ import annotations

from kps.database.migrations import available
from kps.database.migrations import step_sql as migration_sql
from kps.database.pos.trigger import NOTIFY_TRIGGER

_HEAD = """-- Everything that KPS needs in the POS's database; run it as the owner of the POS's tables.
BEGIN READ WRITE;
SET LOCAL search_path = "{schema}", pg_temp;
"""
_TRIGGER = """
-- The wake-up trigger on the POS's ticket table. Without it tickets are found by polling.
"""
_RIGHTS = """
-- If KPS works as another role than the one that runs this script (README, block C), after every migration anew:
-- GRANT USAGE ON SCHEMA kps TO kps_service;
-- GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA kps TO kps_service;
-- GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA kps TO kps_service;
COMMIT;
"""


def script(after: int = 0, schema: str = "public") -> str:
    """All migrations with a higher number than `after`, in one transaction; with the trigger if that is 0.

    `schema` holds the POS's tables.
    """
    parts = [f"\n-- {name}\n{migration_sql(number, sql)}\n" for number, name, sql in available() if number > after]
    if not parts:
        return f"-- Schema kps has no migration after {after}.\n"
    trigger = _TRIGGER + NOTIFY_TRIGGER if after == 0 else ""
    return _HEAD.format(schema=schema) + "".join(parts) + trigger + _RIGHTS
