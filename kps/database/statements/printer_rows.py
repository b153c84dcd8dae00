"""The printer rows of the POS."""

from __future__ import annotations

from typing import NamedTuple

from kps.database.connection import Statement
from kps.database.pos import PosAdapter


class PosRow(NamedTuple):
    """A printer row of the POS."""

    id: int
    station: str
    name: str
    host: str | None
    port: int
    kind: str
    timeout_s: int
    priority: int
    active: bool
    brand: str
    brand_code: str
    brand_name: str
    total_prints: int
    failed_prints: int


def rows(pos: PosAdapter) -> Statement[PosRow]:
    """All printer rows of the POS, in routing order."""
    return Statement(
        "rows",
        PosRow,
        f"""SELECT sp.id, lower(btrim(sp.station_code)) AS station, btrim(sp.printer_name) AS name,
       btrim({pos.printer_address()}) AS host, sp.printer_port AS port,
       lower(btrim(sp.printer_type)) AS kind, sp.timeout_seconds AS timeout_s, sp.priority, sp.is_active AS active,
       sp.brand_id::text AS brand, lower(coalesce(br.code, '')) AS brand_code, coalesce(br.name, '') AS brand_name,
       sp.total_prints, sp.failed_prints
  FROM {pos.printers} sp LEFT JOIN {pos.brands} br ON br.id = sp.brand_id
 ORDER BY sp.priority, sp.id""",
    )
