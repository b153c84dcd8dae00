"""Sensors of the device, and the status bytes that follow from them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Sensors:
    """The state of the device's sensors. Bits as in Epson's TM-T88III and TM-T85 guides."""

    paper_end: bool = False
    near_end: bool = False
    cover_open: bool = False
    cutter_error: bool = False
    taken_offline: bool = False
    """Offline without a cause that a host can read: the feed button, a menu."""
    drawer_open: bool = False

    @property
    def offline(self) -> bool:
        """Whether nothing is printed and nothing is taken from the receive buffer."""
        return self.paper_end or self.cover_open or self.cutter_error or self.taken_offline

    def causes(self) -> bytes:
        """Why it is offline, for `GS ( H` function 49; empty = the cause is not reported.

        Epson leaves the codes to each model (40 to 7F, up to ten of them); these are made up.
        """
        reported = ((self.cover_open, 0x41), (self.paper_end, 0x42), (self.cutter_error, 0x43))
        return bytes(code for holds, code in reported if holds)

    def real_time(self, n: int) -> bytes:
        """The answer to `DLE EOT n`, n = 1..4."""
        match n:
            case 1:
                bits = 0x04 * self.drawer_open | 0x08 * self.offline
            case 2:
                bits = 0x04 * self.cover_open | 0x20 * self.paper_end | 0x40 * self.cutter_error
            case 3:
                bits = 0x08 * self.cutter_error
            case 4:
                bits = 0x0C * (self.near_end or self.paper_end) | 0x60 * self.paper_end
            case _:
                raise ValueError(f"DLE EOT {n} does not exist")
        return bytes([0x12 | bits])

    def automatic(self, cutter_bit: int = 0x08) -> bytes:
        """The four bytes of automatic status back; LAN boards that answer `ESC v` disagree on the cutter's bit."""
        return bytes(
            [
                0x10 | 0x04 * self.drawer_open | 0x08 * self.offline | 0x20 * self.cover_open,
                cutter_bit * self.cutter_error,
                self._paper(),
                0,
            ]
        )

    def fence(self, n: int) -> bytes:
        """The answer to `GS r n`: 1 = paper, 2 = drawer."""
        return bytes([self._paper() if n in (1, 49) else int(self.drawer_open)])

    def _paper(self) -> int:
        return 0x03 * (self.near_end or self.paper_end) | 0x0C * self.paper_end


def asb_differs(mask: int, before: bytes, after: bytes) -> bool:
    """Whether a change of status is one that `GS a mask` asked for: bit 0 drawer, 1 online, 2 error, 3 paper."""
    watched = bytes(
        [
            0x04 * bool(mask & 1) | 0x68 * bool(mask & 2),
            0xFF * bool(mask & 4),
            0xFF * bool(mask & 8),
            0,
        ]
    )
    return any((a ^ b) & w for a, b, w in zip(before, after, watched, strict=True))
