"""What maintenance and the lease keeper report to the main loop."""

from __future__ import annotations

from dataclasses import dataclass

from kps.core.abilities import Abilities
from kps.core.address import DeviceAddress
from kps.core.routing import PrinterRow
from kps.core.tickets import PrinterKey
from kps.database.pos import PosAdapter
from kps.supervisor.lease_keeper import Borrowed, LeaseLost


@dataclass(frozen=True, slots=True)
class SchemaKnown:
    """The POS's tables are there and usable; children may start."""

    schema: PosAdapter


@dataclass(frozen=True, slots=True)
class RowsRead:
    """The printer rows as they are now, in routing order, with the keys of their devices."""

    rows: tuple[PrinterRow, ...]
    addresses: dict[PrinterKey, DeviceAddress]


@dataclass(frozen=True, slots=True)
class LeaseTaken:
    """The printer is ours under this epoch."""

    key: PrinterKey
    epoch: int
    answers: bool | None
    abilities: Abilities
    contested_s: float
    """For so long its last owner, which vanished, may still be connected to the device."""
    trusted_until: float
    """BOOTTIME until which the lease is surely ours, if it is not renewed."""


@dataclass(frozen=True, slots=True)
class Released:
    """What a dead process had in hand has been given back.

    `epoch` is that of its next incarnation; None = the lease is not ours any more, and nothing was given back.
    """

    key: PrinterKey
    generation: int
    epoch: int | None
    count: int


@dataclass(frozen=True, slots=True)
class Reclaimed:
    """`printing` tickets without a live owner have been taken over."""

    count: int


Event = SchemaKnown | RowsRead | LeaseTaken | LeaseLost | Borrowed | Released | Reclaimed
