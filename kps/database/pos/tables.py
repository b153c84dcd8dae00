"""The POS's tables by name, and the columns of them that KPS reads and writes."""

from __future__ import annotations

from typing import Final

TICKET: Final = "kitchen_kitchenticket"
TICKET_ITEM: Final = "kitchen_kitchenticketitem"
PRINTER: Final = "kitchen_stationprinter"
HEALTH: Final = "kitchen_printerhealthcheck"
KITCHEN_TEMPLATE: Final = "kitchen_kitchentickettemplate"
CHECKER_TEMPLATE: Final = "kitchen_checkertemplate"
ORDER: Final = "kitchen_kitchenorder"
STATION: Final = "kitchen_kitchenstation"
LOG_TABLES: Final = ("kitchen_kitchenticketlog", "kitchen_kitchenlog")
"""The audit table is the first of these that is there."""
BILL: Final = "pos_bill"
BILL_ITEM: Final = "pos_billitem"
BRAND: Final = "core_brand"
STORE: Final = "core_store"
COMPANY: Final = "core_company"
PRODUCT: Final = "core_product"
USER: Final = "core_user"
TABLE: Final = "tables_table"

READ: Final[dict[str, tuple[str, ...]]] = {
    TICKET: (
        "id", "printer_target", "status", "print_attempts", "max_retries", "printer_ip", "error_message",
        "last_error_at", "created_at", "printed_at", "is_reprint", "bill_id", "original_ticket_id",
    ),
    TICKET_ITEM: ("id", "quantity", "bill_item_id", "kitchen_ticket_id"),
    PRINTER: (
        "id", "station_code", "printer_name", "printer_ip", "printer_port", "printer_brand", "printer_type",
        "timeout_seconds", "priority", "is_active", "paper_width_mm", "chars_per_line", "last_print_at",
        "last_error_at", "last_error_message", "total_prints", "failed_prints", "brand_id",
    ),
    BILL: (
        "id", "bill_number", "bill_type", "status", "customer_name", "guest_count", "queue_number", "notes",
        "brand_id", "created_by_id", "store_id", "table_id",
    ),
    BILL_ITEM: (
        "id", "quantity", "notes", "modifiers", "printer_target", "is_void", "void_reason", "bill_id", "product_id",
    ),
    BRAND: ("id", "code", "name", "company_id"),
    STORE: ("id", "timezone"),
    COMPANY: ("id", "timezone"),
    PRODUCT: ("id", "name"),
    USER: ("id", "username", "first_name", "last_name"),
    TABLE: ("id", "number"),
}  # fmt: skip
"""Without these KPS waits."""
WISHED: Final[dict[str, tuple[str, ...]]] = {
    ORDER: ("id", "station", "priority", "item_ids", "bill_id"),
    STATION: ("id", "code", "target_prep_time", "brand_id"),
}
"""Tables that a POS may lack; the paper then says less."""
UPDATED: Final[dict[str, tuple[str, ...]]] = {
    TICKET: ("status", "print_attempts", "printer_ip", "error_message", "last_error_at", "printed_at"),
    PRINTER: ("last_print_at", "last_error_at", "last_error_message", "total_prints", "failed_prints"),
}
LOG_COLUMNS: Final = (
    "timestamp", "old_status", "new_status", "action", "actor", "printer_ip", "error_code", "error_message",
    "duration_ms", "metadata", "ticket_id",
)  # fmt: skip
HEALTH_COLUMNS: Final = (
    "checked_at", "is_online", "response_time_ms", "paper_status", "error_code", "error_message",
    "temperature_ok", "cutter_ok", "printer_id",
)  # fmt: skip
TEMPLATES: Final = (KITCHEN_TEMPLATE, CHECKER_TEMPLATE)
TEMPLATE_COLUMNS: Final = ("is_active", "header_line_1", "header_line_2", "feed_lines", "updated_at", "brand_id")

CANCELLED: Final = "('cancelled', 'canceled', 'void', 'voided')"
"""What the lower status of a bill may be that nobody wants any more, as an SQL list."""
PAID: Final = "('paid', 'completed', 'closed', 'settled', 'refunded')"
"""The same of one that is done with."""
