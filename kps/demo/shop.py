"""The POS's reference data: a shop with brands, stations, people, tables, a menu and printers."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from psycopg2 import sql
from psycopg2.extras import RealDictCursor

from kps.demo.order_book import MENU, TABLES, Product
from kps.demo.pos_tables import TEMPLATES

STATIONS: Final = {"kitchen": ("Dapur", 15), "bar": ("Bar", 5), "dessert": ("Dessert", 10)}
"""Station code -> its name and its target time in minutes."""
USERS: Final = (("kasir1", "Sari", "cashier"), ("waiter1", "Agus", "waiter"), ("manager1", "Wulan", "manager"))
MANAGER: Final = "manager1"
TAX_PERCENT: Final = Decimal(11)
SERVICE_PERCENT: Final = Decimal(5)

Row = dict[str, Any]
"""A row: column name -> value."""


class NoSuchRow(Exception):
    """The row that should be changed is not there."""


@dataclass(frozen=True, slots=True)
class BrandSeed:
    """A restaurant brand. `code` begins its bill numbers."""

    code: str
    name: str


@dataclass(frozen=True, slots=True)
class PrinterSeed:
    """A printer row. `brand` is a brand's code, '' the shop's first; `columns` are further columns by name."""

    host: str
    port: int
    station: str = "kitchen"
    priority: int = 1
    name: str = ""
    brand: str = ""
    columns: Mapping[str, object] = field(default_factory=dict)


DEFAULT_BRANDS: Final = (BrandSeed("DAPUR", "Dapur Nusantara"),)


def brand_of(cursor: RealDictCursor, code: str) -> Row:
    """Id, code and company of the brand with this code, of the first one for ''. Raises NoSuchRow."""
    cursor.execute(
        "SELECT id, code, company_id FROM core_brand WHERE %s IN ('', code) ORDER BY created_at, code LIMIT 1",
        [code],
    )
    return only(cursor)


def user_id(cursor: RealDictCursor, username: str) -> int:
    """Id of this user, or of the first one if there is no such name."""
    cursor.execute("SELECT id FROM core_user ORDER BY username = %s DESC, id LIMIT 1", [username])
    return int(only(cursor)["id"])


def table_of(cursor: RealDictCursor, number: str, brand_id: str) -> tuple[str, str]:
    """Id and label of a table, which is inserted if there is none of that number."""
    query = (
        "SELECT t.id, a.name || ' - ' || t.number AS label FROM tables_table t"
        " JOIN tables_tablearea a ON a.id = t.area_id WHERE t.number = %s ORDER BY t.created_at, t.id LIMIT 1"
    )
    cursor.execute(query, [number])
    if cursor.rowcount == 0:
        _insert_table(cursor, number, _area(cursor, brand_id))
        cursor.execute(query, [number])
    found = only(cursor)
    return found["id"], found["label"]


def _area(cursor: RealDictCursor, brand_id: str) -> str:
    cursor.execute("SELECT id FROM tables_tablearea ORDER BY brand_id = %s DESC, id LIMIT 1", [brand_id])
    return str(only(cursor)["id"])


def product_id(cursor: RealDictCursor, product: Product, brand_id: str) -> str:
    """Id of the dish of this name, which is inserted if there is none."""
    cursor.execute("SELECT id FROM core_product WHERE name = %s ORDER BY id LIMIT 1", [product.name])
    found = cursor.fetchone()
    return str(found["id"]) if found else _insert_product(cursor, product, brand_id)


def insert_shop(cursor: RealDictCursor, brands: Sequence[BrandSeed], timezone: str) -> None:
    """All reference data of a company with one store; people, tables and menu belong to the first brand."""
    company = _insert_company(cursor, timezone)
    store = _insert_store(cursor, company, timezone)
    brand_ids = [insert_brand(cursor, brand, company) for brand in brands]
    for username, first_name, role in USERS:
        _insert_user(cursor, username, first_name, role, company)
    area = _insert_area(cursor, brand_ids[0], company, store)
    for number in TABLES:
        _insert_table(cursor, number, area)
    for product in MENU:
        _insert_product(cursor, product, brand_ids[0])
    _insert_printer_brands(cursor)
    _insert_templates(cursor, company)


def _insert_company(cursor: RealDictCursor, timezone: str) -> str:
    values: Row = {
        "id": new_id(),
        "code": "NUSA",
        "name": "PT Nusantara Rasa",
        "logo": "",
        "timezone": timezone,
        "is_active": True,
        "point_expiry_months": 12,
        "points_per_currency": Decimal(1),
        **_stamps(),
    }
    return str(insert(cursor, "core_company", values))


def _insert_store(cursor: RealDictCursor, company: str, timezone: str) -> str:
    values: Row = {
        "id": new_id(),
        "store_code": "JKT01",
        "store_name": "Nusantara Menteng",
        "address": "Jakarta",
        "phone": "",
        "timezone": timezone,
        "is_active": True,
        "configured_at": now(),
        "company_id": company,
    }
    return str(insert(cursor, "core_store", values))


def insert_brand(cursor: RealDictCursor, brand: BrandSeed, company: str) -> str:
    """A brand with its menu's category and its stations; returns its id."""
    values: Row = {
        "id": new_id(),
        "code": brand.code,
        "name": brand.name,
        "address": "Jakarta",
        "phone": "",
        "tax_id": "",
        "tax_rate": TAX_PERCENT,
        "service_charge": SERVICE_PERCENT,
        "logo": "",
        "receipt_footer": "",
        "brand_type": "restaurant",
        "is_active": True,
        "company_id": company,
        **_stamps(),
    }
    brand_id = str(insert(cursor, "core_brand", values))
    category = {"id": new_id(), "name": "Menu", "sort_order": 0, "is_active": True, "icon": ""}
    insert(cursor, "core_category", {**category, "brand_id": brand_id})
    for order, code in enumerate(STATIONS):
        _insert_station(cursor, code, order, brand_id)
    return brand_id


def _insert_station(cursor: RealDictCursor, code: str, display_order: int, brand_id: str) -> None:
    name, minutes = STATIONS[code]
    values: Row = {
        "name": name,
        "code": code,
        "target_prep_time": minutes,
        "warning_threshold": 5,
        "color": "",
        "icon": "",
        "is_active": True,
        "display_order": display_order,
        "brand_id": brand_id,
    }
    insert(cursor, "kitchen_kitchenstation", values)


def _insert_user(cursor: RealDictCursor, username: str, first_name: str, role: str, company: str) -> None:
    values: Row = {
        "password": "!",  # Django's sign for an account without a password
        "is_superuser": False,
        "username": username,
        "first_name": first_name,
        "last_name": "",
        "email": "",
        "is_staff": False,
        "is_active": True,
        "date_joined": now(),
        "role": role,
        "role_scope": "store",
        "pin": "",
        "company_id": company,
    }
    insert(cursor, "core_user", values)


def _insert_area(cursor: RealDictCursor, brand_id: str, company: str, store: str) -> str:
    values: Row = {
        "id": new_id(),
        "name": "Lantai 1",
        "description": "",
        "sort_order": 0,
        "is_active": True,
        "floor_image": "",
        "brand_id": brand_id,
        "company_id": company,
        "store_id": store,
        **_stamps(),
    }
    return str(insert(cursor, "tables_tablearea", values))


def _insert_table(cursor: RealDictCursor, number: str, area: str) -> None:
    values: Row = {
        "id": new_id(),
        "number": number,
        "capacity": 4,
        "status": "available",
        "qr_code": "",
        "is_active": True,
        "shape": "rect",
        "area_id": area,
        **_stamps(),
    }
    insert(cursor, "tables_table", values)


def _insert_product(cursor: RealDictCursor, product: Product, brand_id: str) -> str:
    cursor.execute("SELECT id, company_id FROM core_brand WHERE id = %s", [brand_id])
    company = only(cursor)["company_id"]
    cursor.execute("SELECT id FROM core_category WHERE brand_id = %s ORDER BY sort_order LIMIT 1", [brand_id])
    category = cursor.fetchone()
    values: Row = {
        "id": new_id(),
        "name": product.name,
        "sku": "",
        "price": product.price,
        "cost": Decimal(0),
        "image": "",
        "description": "",
        "printer_target": product.station,
        "is_active": True,
        "track_stock": False,
        "stock_quantity": Decimal(0),
        "low_stock_alert": 0,
        "sort_order": 0,
        "brand_id": brand_id,
        "category_id": category["id"] if category else None,
        "company_id": company,
        **_stamps(),
    }
    return str(insert(cursor, "core_product", values))


def _insert_printer_brands(cursor: RealDictCursor) -> None:
    for code, name, profile in (("HRPT", "HRPT", "HRPTProfile"), ("EPSON", "Epson", "EpsonProfile")):
        values: Row = {"code": code, "name": name, "profile_class": profile, "description": "", "is_active": True}
        insert(cursor, "kitchen_printerbrand", {**values, **_stamps()})


def _insert_templates(cursor: RealDictCursor, company: str) -> None:
    """The company's templates, for all brands; nothing where the POS is too old to have any."""
    shared: Row = {
        "template_name": "Default",
        "is_active": True,
        "header_line_2": "",
        "footer_line_1": "",
        "footer_line_2": "",
        "auto_cut": True,
        "feed_lines": 3,
        "company_id": company,
        **_stamps(),
    }
    headers = {"kitchen_kitchentickettemplate": "KITCHEN TICKET", "kitchen_checkertemplate": "CHECKER"}
    for table in sorted(TEMPLATES):
        known = columns_of(cursor, table)
        shown = {name: True for name in known if name.startswith("show_")}
        width = {"paper_width": 80} if "paper_width" in known else {}
        if known:
            insert(cursor, table, {**shared, **shown, **width, "header_line_1": headers[table]})


def insert_printer(cursor: RealDictCursor, printer: PrinterSeed) -> int:
    """A printer row; returns its id."""
    values: Row = {
        "station_code": printer.station,
        "printer_name": printer.name or f"{printer.station} {printer.priority}",
        "printer_ip": printer.host,
        "printer_port": printer.port,
        "printer_brand": "HRPT",
        "printer_type": "network",
        "timeout_seconds": 5,
        "priority": printer.priority,
        "is_active": True,
        "paper_width_mm": 80,
        "chars_per_line": 48,
        "last_error_message": "",
        "total_prints": 0,
        "failed_prints": 0,
        "brand_id": brand_of(cursor, printer.brand)["id"],
        **_stamps(),
        **printer.columns,
    }
    return int(insert(cursor, "kitchen_stationprinter", values))


def insert(cursor: RealDictCursor, table: str, values: Row) -> Any:
    """Insert a row; returns its id."""
    statement = sql.SQL("INSERT INTO {} ({}) VALUES ({}) RETURNING id").format(
        sql.Identifier(table),
        sql.SQL(", ").join(map(sql.Identifier, values)),
        sql.SQL(", ").join(sql.Placeholder() * len(values)),
    )
    cursor.execute(statement, list(values.values()))
    return only(cursor)["id"]


def columns_of(cursor: RealDictCursor, table: str) -> frozenset[str]:
    """The columns of a table; none if it does not exist."""
    cursor.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 AND NOT attisdropped",
        [table],
    )
    return frozenset(row["attname"] for row in cursor.fetchall())


def new_id() -> str:
    """A fresh UUID, as text."""
    return str(uuid.uuid4())


def now() -> datetime:
    """The time by this host's clock: the POS writes times of its own host."""
    return datetime.now(UTC)


def _stamps() -> Row:
    moment = now()
    return {"created_at": moment, "updated_at": moment}


def only(cursor: RealDictCursor) -> Row:
    """The next row; there must be one."""
    row = cursor.fetchone()
    if row is None:
        raise NoSuchRow(f"no row for: {cursor.query!r}")
    return dict(row)
