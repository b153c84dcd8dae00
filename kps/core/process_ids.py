"""Process IDs: the numbers that a printer repeats when everything that was sent before them is on paper.

A number of a database sequence becomes a text of four characters, because that is what `GS ( H` carries.
"""

from __future__ import annotations

from dataclasses import dataclass

IDS = 95**4
"""How many texts of four printable characters (20..7E) there are."""
_CONSTANT_OF_CLONES = b"1234"
"""Some printers answer this to everything, so it is never used."""
_STRIDE = 31_415_927
"""Coprime to 95^4 - 1: numbers side by side get texts far apart, so an answer off by one belongs to no ticket."""


@dataclass(frozen=True, slots=True)
class ProcessIds:
    """The three process IDs of one try to print; no other try ever has them."""

    number: int
    """Of the first; the others follow it. From `kps.process_id_seq`."""

    @property
    def ticket(self) -> bytes:
        """Stands behind the ticket."""
        return process_id_text(self.number)

    @property
    def again(self) -> bytes:
        """Asks once more on the same connection; its echo proves the ticket too."""
        return process_id_text(self.number + 1)

    @property
    def after(self) -> bytes:
        """Asks on a later connection whether the printer is done with all that is older; it proves nothing."""
        return process_id_text(self.number + 2)


def process_id_command(process_id: bytes) -> bytes:
    """`GS ( H` function 48: answered when all data before it is finished. Source: Epson ESC/POS reference."""
    return b"\x1d\x28\x48\x06\x00\x30\x30" + process_id


def process_id_text(number: int) -> bytes:
    """The process ID of a number >= 0, four bytes 20..7E; numbers that are 95^4 - 1 apart have the same."""
    value = number * _STRIDE % (IDS - 1)
    if value >= _number_of(_CONSTANT_OF_CLONES):
        value += 1
    return bytes(0x20 + value // 95**place % 95 for place in (3, 2, 1, 0))


def process_id_value(text: bytes) -> int:
    """The number, modulo 95^4 - 1, whose process ID this is. Raises ValueError if this service never uses the text."""
    value = _number_of(text)
    if text == _CONSTANT_OF_CLONES or not 0 <= value < IDS:
        raise ValueError(f"{text!r} is no process ID of ours")
    return (value - (value > _number_of(_CONSTANT_OF_CLONES))) * pow(_STRIDE, -1, IDS - 1) % (IDS - 1)


def _number_of(text: bytes) -> int:
    value = 0
    for byte in text:
        value = value * 95 + byte - 0x20
    return value
