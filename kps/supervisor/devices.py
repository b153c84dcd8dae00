"""Printer rows -> the devices that need a process, each with a name of its own. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain, count

from kps.core.abilities import Abilities
from kps.core.address import DeviceAddress
from kps.core.routing import PrinterRow, covers
from kps.core.settings import Settings
from kps.core.tickets import PrinterKey
from kps.printer.config import DeviceConfig

NAME_LIMIT = 60
NOT_PRINTERS = frozenset({"dispatcher", "supervisor"})
"""Names that other processes bear in /status and /metrics."""


def wanted_devices(
    rows: Iterable[PrinterRow], addresses: Mapping[PrinterKey, DeviceAddress], settings: Settings
) -> dict[PrinterKey, DeviceConfig]:
    """One config per physical device that an active, usable, covered row names.

    All rows of a device are served with it, also those outside the instance's own stations and brands.
    """
    by_key: dict[PrinterKey, list[PrinterRow]] = {}
    all_by_key: dict[PrinterKey, list[PrinterRow]] = {}
    for row in rows:
        all_by_key.setdefault(row.key, []).append(row)
        if row.active and row.key and not (row.fault or row.absent):
            by_key.setdefault(row.key, []).append(row)
    taken = set(NOT_PRINTERS)
    found = {}
    for key in sorted(by_key, key=lambda key: min(row.id for row in by_key[key])):
        same = sorted(by_key[key], key=lambda row: row.id)
        name = _unique(same[0], taken)
        if any(covers(settings.stations, settings.brands, row) for row in same):
            found[key] = DeviceConfig(
                key=key,
                name=name,
                address=addresses.get(key, same[0].address),
                timeout_s=min(30.0, max(1.0, max(row.timeout_s for row in same))),
                rows=tuple(row.id for row in same),
                names=_names(name, all_by_key[key]),
            )
    return found


def vouched_for(config: DeviceConfig, settings: Settings) -> Abilities | None:
    """What PROOF_LEVELS says of a device, by a name or an address of it; None = nothing."""
    found = next((abilities for name, abilities in settings.proof_levels if name in config.names), None)
    return None if found is None else found.heard_on(fresh=config.address.fresh)


def vouched_for_none(rows: Iterable[PrinterRow], settings: Settings) -> tuple[str, ...]:
    """The names in PROOF_LEVELS that no printer row has, be it switched off or another instance's."""
    if not settings.proof_levels:
        return ()
    rows = list(rows)
    known = {name for row in rows for name in _names("", [row])}
    known |= {name for device in wanted_devices(rows, {}, settings).values() for name in device.names}
    return tuple(dict.fromkeys(name for name, _ in settings.proof_levels if name not in known))


def _names(own: str, rows: Iterable[PrinterRow]) -> tuple[str, ...]:
    """What a person may call the device of these rows, lower case: names and addresses, as written and as resolved."""
    found = [own]
    for row in rows:
        found += [row.name, str(row.address), row.key.partition(":")[2]]
    return tuple(dict.fromkeys(name.lower() for name in found if name))


def _unique(row: PrinterRow, taken: set[str]) -> str:
    """The row's name; with its station, its id, or its id and a number where another device is called the same."""
    plain = row.name[:NAME_LIMIT] or f"printer {row.id}"
    named = (plain, f"{plain} {row.station}"[:NAME_LIMIT], f"{plain} {row.id}")
    # A row may bear the very name that would be invented for another.
    name = next(name for name in chain(named, (f"{plain} {row.id}-{n}" for n in count(2))) if name.lower() not in taken)
    taken.add(name.lower())
    return name
