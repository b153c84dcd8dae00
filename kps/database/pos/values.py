"""What becomes of the POS's own words and JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from kps.core.tickets import Priority, Template


def priority(text: str) -> Priority:
    """The POS's word; one that nobody knows is no reason to hurry."""
    return next((known for known in Priority if known == text.strip().lower()), Priority.NORMAL)


def modifiers(value: Any) -> tuple[str, ...]:
    """The POS stores a JSON list of {id, name, price}; anything else is shown rather than dropped."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return (value,) if value else ()
    if isinstance(value, dict) and value.get("name"):
        value = [value]
    if not isinstance(value, list):
        return () if value in (None, {}) else (json.dumps(value, ensure_ascii=False),)
    names = []
    for entry in value:
        name = entry.get("name") if isinstance(entry, dict) else entry
        if isinstance(name, str) and name.strip(" +"):
            names.append(name)
        elif entry not in ("", None, {}):
            # Shown as it is stored rather than dropped: a cook can ask what it means.
            names.append(json.dumps(entry, ensure_ascii=False))
    return tuple(names)


def template(value: Mapping[str, Any] | None, checker: bool) -> Template:
    """The POS's template; a switch that its schema lacks keeps our default."""
    if not value:
        return Template(header_lines=("CHECKER",) if checker else ())
    default = Template()
    switches = {
        name: bool(value[name])
        for name in (
            "show_bill_number", "show_table_number", "show_customer_name", "show_station_name", "show_date_time",
            "show_item_qty", "show_item_notes", "show_station_label", "show_checkbox", "auto_cut",
        )
        if value.get(name) is not None
    }  # fmt: skip
    return Template(
        header_lines=_lines(value, "header_line_1", "header_line_2"),
        footer_lines=_lines(value, "footer_line_1", "footer_line_2"),
        feed_lines=default.feed_lines if value.get("feed_lines") is None else int(value["feed_lines"]),
        **switches,
    )


def _lines(value: Mapping[str, Any], *names: str) -> tuple[str, ...]:
    return tuple(str(value[name]) for name in names if value.get(name))
