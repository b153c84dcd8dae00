"""The settings of a virtual printer: abilities, sizes, speed and behaviour, and profiles of known models."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Any


class Cap(StrEnum):
    """A question that the device can answer. What it cannot is swallowed, or printed as garbage."""

    REALTIME = "realtime"
    """`DLE EOT n`."""
    FENCE = "fence"
    """`GS r n`, answered when reached."""
    ASB = "asb"
    """`GS a n`, status pushed by itself."""
    PROCESS_ID = "process_id"
    """`GS ( H` function 48, answered when everything before it is on paper."""
    CLEAR = "clear"
    """`DLE DC4` function 8."""
    IDENTITY = "identity"
    """`GS I n`."""
    COUNTER = "counter"
    """`GS g 2`, counter 178: cuts."""
    OFFLINE_RESPONSE = "offline_response"
    """`GS ( H` function 49, sent when the printer goes offline."""


class Connections(StrEnum):
    """What becomes of a second connection, and whose print data goes in."""

    ONE_REFUSE = "one_refuse"
    """The listener is closed while one is connected."""
    ONE_HANG = "one_hang"
    """Others connect and are not read until the first has gone (Epson UB-E02)."""
    ONE_RESET = "one_reset"
    """Others are accepted and reset at once (Star IFBD-HE07/08)."""
    MANY_ONE_PRINTS = "many_one_prints"
    """All get status; print data of one waits until the paper of the other is cut or its sender has gone."""
    MANY_INTERLEAVE = "many_interleave"
    """All print at the same time, onto one paper."""


class Overflow(StrEnum):
    """What happens when the buffers are full."""

    CLOSE_WINDOW = "close_window"
    DROP = "drop"


class Unknown(StrEnum):
    """What happens to a command that the device does not know."""

    SWALLOW = "swallow"
    GARBAGE = "garbage"


class Speed(StrEnum):
    """How long printing takes."""

    FAST = "fast"
    """No time at all."""
    REAL = "real"
    """As the profile says."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Answers to `GS I`; None or '' = that number is not answered."""

    model: int | None = None
    kind: int | None = None
    firmware: str = ""
    maker: str = ""
    name: str = ""
    serial: str = ""


DEFAULT_CODE_PAGES: Mapping[int, str] = MappingProxyType(
    {
        0: "cp437",
        2: "cp850",
        3: "cp860",
        4: "cp863",
        5: "cp865",
        16: "cp1252",
        17: "cp866",
        18: "cp852",
        19: "cp858",
    }
)
"""`ESC t n` -> Python codec: the numbers of Epson's printers. Clones renumber them."""

STATUS_CAPS = frozenset({Cap.REALTIME, Cap.FENCE, Cap.ASB, Cap.IDENTITY})
ALL_CAPS = frozenset(Cap)
EPSON_CODE_PAGES: Mapping[int, str] = MappingProxyType(
    {**DEFAULT_CODE_PAGES, 13: "cp857", 14: "cp737", 33: "cp775", 46: "cp1251", 47: "cp1253"}
)
"""What Epson's later thermal printers (TM-T20II, TM-T88V and on) have besides."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything that makes one virtual printer differ from another. Times in seconds, sizes in bytes."""

    profile: str = "generic"
    caps: frozenset[Cap] = STATUS_CAPS
    identity: Identity = field(default_factory=Identity)
    raster: bool = True
    """False = `GS v 0` comes out as garbage, as on impact printers."""
    so_rcvbuf: int = 4096
    """Set before `listen`, or the kernel would hide that the window closes."""
    nic_buffer: int = 16384
    """Epson UB-E02: 16 KB in."""
    receive_buffer: int = 4096
    """Epson TM-T88III: 4 KB, or 45 bytes."""
    overflow: Overflow = Overflow.CLOSE_WINDOW
    lines_per_s: float = 50.0
    """Lines of 30 dot rows; infinity = no time."""
    cut_s: float = 0.5
    columns: int = 48
    """Characters of font A in a line."""
    dots: int = 576
    line_rows: int = 30
    """Dot rows of a line at the default spacing; taller characters take their own height."""
    code_pages: Mapping[int, str] = field(default_factory=lambda: DEFAULT_CODE_PAGES)
    kanji_default: bool = False
    """Whether bytes from 80 hex pair up as Chinese after `ESC @` and power-on, as on many clones."""
    idle_timeout: float | None = None
    """Seconds without data after which the printer closes a connection; None = never."""
    connections: Connections = Connections.MANY_ONE_PRINTS
    end_noticed_after: float = 0.0
    """Seconds after which it notices that a host has ended its connection; until then that counts as open."""
    reply_delay: float = 0.0
    reply_chunk: int | None = None
    """How many bytes of an answer are sent at a time, CHUNK_PAUSE apart; None = all together."""
    reply_buffer: int = 512
    """Bytes of answers that wait for a host that does not read; what is beyond is lost. Epson UB-E02: 512."""
    status_port: int | None = None
    """A second port that answers `ESC v`, also while the first is silent or hangs; 0 = any free one. Many Xprinter-type
    boards have it on 4000."""
    status_cutter_bit: int = 0x08
    """The cutter's bit in the second byte of that answer: 08 or 04 (vendor notes disagree)."""
    power_notice: bool = False
    """Whether `3B 31 00` is sent after power-on, to the first host that connects."""
    constant_ok: bool = False
    """Whether every `DLE EOT` is answered with "no trouble", as by some clones."""
    cover_loses_line: bool = False
    """Whether the line that is being printed when the cover opens is lost."""
    unknown: Unknown = Unknown.SWALLOW
    asb_at_boot: bool = False
    silent_when_not_ready: bool = False
    """Whether it answers nothing while offline, as some clones."""
    talks: bool = False
    """Whether it sends without end and unasked, from the first connection on, like a camera."""
    keep_raw: int | None = None
    """How many of the newest papers keep their raw bytes and bitmaps; None = all."""


PROFILES: Mapping[str, Settings] = MappingProxyType(
    {
        settings.profile: settings
        for settings in (
            Settings("generic", identity=Identity(0x20, 0x02, "1.0", "GENERIC", "POS-80", "0001")),
            Settings(
                "epson-t20iii",
                ALL_CAPS,
                Identity(0x63, 0x02, "1.05 ESC/POS", "EPSON", "TM-T20III", "X5FT0001"),
                code_pages=EPSON_CODE_PAGES,
            ),
            Settings(
                "epson-u220",
                ALL_CAPS - {Cap.PROCESS_ID, Cap.OFFLINE_RESPONSE},
                Identity(0x0D, 0x02, "1.00", "EPSON", "TM-U220", ""),
                raster=False,
                lines_per_s=5.0,
                columns=33,
                dots=400,
            ),
            Settings(
                "hprt-tp80k",
                frozenset({Cap.REALTIME, Cap.ASB, Cap.CLEAR, Cap.IDENTITY}),
                Identity(0x27, 0x02, "1.0", "HPRT", "CAPD347", ""),
                asb_at_boot=True,
            ),
            Settings("xprinter-80", STATUS_CAPS, status_port=4000),
            Settings("impostor", STATUS_CAPS, Identity(0x20, 0x02, "1.0", "EPOSN", "TM-T88V", "")),
            Settings("mute", frozenset()),
        )
    }
)
"""Models by name. `xprinter-80` answers no `GS I` unless it is given an `identity`. `impostor` gives the name of an
Epson; `mute` answers nothing at all."""


class UnknownProfile(ValueError):
    """No profile has this name; the message lists those there are."""


def settings_for(profile: str = "generic", speed: Speed | str = Speed.FAST, **changes: Any) -> Settings:
    """The settings of a profile at a speed, with some fields changed by name.

    Enums may be given as their words. Raises UnknownProfile, ValueError for an unknown word or an impossible size,
    TypeError for an unknown field.
    """
    if profile not in PROFILES:
        raise UnknownProfile(f"unknown printer profile {profile!r}; there are: {', '.join(PROFILES)}")
    settings = PROFILES[profile]
    if Speed(speed) is Speed.FAST:
        settings = replace(settings, lines_per_s=math.inf, cut_s=0.0)
    settings = replace(settings, **changes)
    if settings.reply_chunk is not None and settings.reply_chunk < 1:
        raise ValueError(f"an answer is sent at least one byte at a time, not {settings.reply_chunk}")
    if settings.status_cutter_bit not in (0x04, 0x08):
        raise ValueError(f"the cutter's bit is 04 or 08, not {settings.status_cutter_bit:02x}")
    return replace(
        settings,
        caps=frozenset(Cap(cap) for cap in settings.caps),
        connections=Connections(settings.connections),
        overflow=Overflow(settings.overflow),
        unknown=Unknown(settings.unknown),
    )
