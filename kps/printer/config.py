"""What the supervisor tells a printer process about its device."""

from __future__ import annotations

from dataclasses import dataclass, field

from kps.core.abilities import Abilities
from kps.core.address import DeviceAddress
from kps.core.tickets import PrinterKey

VANISHED_S = 30.0
"""How long an instance that vanished may still be connected to the device: perhaps its process only stands still."""
DIED_S = 10.0
"""The same for a process of this host that is dead. Its connection has ended; but some printers accept the next one
only when they have printed what came over the last one, or notice late that it is gone."""


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """One physical device, as the POS's printer rows describe it; small enough for one frame."""

    key: PrinterKey
    name: str
    """Name of the process, its log file and its metrics; unique in the instance."""
    address: DeviceAddress
    """With an IP address, or with the host name of the row if that could not be resolved."""
    timeout_s: float
    rows: tuple[int, ...]
    """Ids of the printer rows that name this device."""
    names: tuple[str, ...] = ()
    """Names and addresses of all its rows, lower case: what PROOF_LEVELS may call it. Only the supervisor uses them."""
    answers: bool | None = None
    """Whether it has ever answered a status question; None = not known."""
    abilities: Abilities = field(default_factory=Abilities)
    """What a probe has shown that it can do, or PROOF_LEVELS says."""
    contested_s: float = 0.0
    """Seconds for which the connection of its last owner, which did not close it, may still block the device."""
