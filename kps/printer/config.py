"""What a printer process is told about its device."""

from __future__ import annotations

from dataclasses import dataclass, field

from kps.core.address import DeviceAddress
from kps.core.proof import Abilities
from kps.core.tickets import PrinterKey


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
    contested: bool = False
    """Its last owner vanished without letting go, and may still hold the device's only connection."""
