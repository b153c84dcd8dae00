"""Whether the database has what KPS needs: the rights on schema kps, and how what is missing is said."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kps.database.connection import Database

_OURS: dict[str, tuple[str, ...]] = {
    "chain": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "clock": ("SELECT", "INSERT", "UPDATE"),
    "instance": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "job": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "printed_item": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "printer": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "slip": ("SELECT", "INSERT", "UPDATE", "DELETE"),
    "schema_version": ("SELECT",),
    "process_id_seq": ("USAGE", "SELECT"),
    "token_seq": ("USAGE",),
}
"""What the migrations make, and the rights on it. Whatever else lies in schema kps is not ours."""


class SchemaUnusable(Exception):
    """The database lacks tables, columns or rights that KPS needs; the message names them in one sentence."""


class LackingRight(NamedTuple):
    """A right on a table or sequence that the user lacks."""

    relation: str
    privilege: str
    columns: str | None
    """None = the whole of it."""


def refuse_missing_rights(database: Database) -> None:
    """A migration that an administrator has run gives no rights. Raises SchemaUnusable, or DatabaseTrouble.

    Looks at what is there of schema kps; before the first migration that is nothing.
    """
    if database.query("SELECT 1 FROM pg_namespace WHERE nspname = 'kps' AND NOT has_schema_privilege(oid, 'USAGE')"):
        raise SchemaUnusable("rights are missing: USAGE on schema kps")
    wanted = [(name, right) for name, rights in _OURS.items() for right in rights]
    rows = database.query(
        """SELECT 'kps.' || c.relname AS relation, w.r AS privilege, lacking.columns
             FROM unnest(%(names)s::text[], %(rights)s::text[]) WITH ORDINALITY AS w(t, r, n)
             JOIN pg_class c ON c.relnamespace = to_regnamespace('kps') AND c.relname = w.t
                            AND c.relkind IN ('r', 'S')
            CROSS JOIN LATERAL (
              SELECT count(*) AS count,
                     CASE WHEN w.r NOT IN ('DELETE', 'USAGE') AND has_any_column_privilege(c.oid, w.r)
                          THEN string_agg(a.attname, ', ' ORDER BY a.attnum) END AS columns
                FROM pg_attribute a
               WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
                 AND w.r NOT IN ('DELETE', 'USAGE') AND NOT has_column_privilege(c.oid, a.attnum, w.r)
            ) lacking
            WHERE CASE w.r WHEN 'USAGE' THEN NOT has_sequence_privilege(c.oid, 'USAGE, UPDATE')
                           WHEN 'DELETE' THEN NOT has_table_privilege(c.oid, 'DELETE') ELSE lacking.count > 0 END
            ORDER BY w.n""",
        {"names": [name for name, _ in wanted], "rights": [right for _, right in wanted]},
        row=LackingRight,
    )
    refuse_lacking(rows)


def refuse_lacking(rights: Sequence[LackingRight]) -> None:
    """Raise SchemaUnusable if there are any."""
    if rights:
        missing = ", ".join(
            f"{lacking.privilege} on {lacking.relation}" + (f" ({lacking.columns})" if lacking.columns else "")
            for lacking in rights
        )
        raise SchemaUnusable(f"rights are missing: {missing}")
