"""What a printer process is told about its device."""

from __future__ import annotations

from dataclasses import dataclass, field

from kps.core.abilities import Abilities
from kps.core.address import DeviceAddress
from kps.core.tickets import PrinterKey

VANISHED_S = 30.0
"""How long a device may still be held by an owner that vanished: its host may be alive, and its process stand still."""
DIED_S = 10.0
"""The same of a process of this host that is dead. Its connection has ended; but there are printers that take the next
one only when they have printed what the last one sent, or notice late that it has gone."""


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """One physical device, as the POS's printer rows describe it; small enough for one frame."""

    key: PrinterKey
    name: str
    """Of the process, its log file and its metrics: unique in the instance."""
    address: DeviceAddress
    """Resolved, or as in the row if it could not be."""
    timeout_s: float
    rows: tuple[int, ...]
    """Ids of the printer rows that name this device."""
    names: tuple[str, ...] = ()
    """What PROOF_LEVELS may call it, lower case: the names and addresses of all its rows. For the supervisor."""
    answers: bool | None = None
    """Whether it has ever answered a status query; None = nobody knows."""
    abilities: Abilities = field(default_factory=Abilities)
    """What a probe has proven of it, or somebody vouches for."""
    contested_s: float = 0.0
    """For so long its last owner, which has not let go of it, may hold the device's only connection."""
