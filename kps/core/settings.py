"""What an operator may set, as plain values that every process can be given."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from kps.core.abilities import Abilities


class PrinterDownPolicy(StrEnum):
    """What becomes of tickets none of whose printers can print."""

    FAIL = "fail"
    """Rounds are spent, `failed` after the last, rescue later."""
    HOLD = "hold"
    """Tickets stay `new`, no round is spent, until a printer is able."""


@dataclass(frozen=True, slots=True)
class DatabaseSettings:
    """How to reach the POS's database."""

    host: str = "edge_db"
    port: int = 5432
    name: str = "fnb_edge_db"
    user: str = "postgres"
    password: str = field(default="postgres123", repr=False)
    sslmode: str = "prefer"
    schema: str = "public"
    """Where the POS's tables are; ours are in schema kps."""


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of one instance; times in the unit that the name says."""

    database: DatabaseSettings = field(default_factory=DatabaseSettings)
    instance_name: str = "kps"
    site: str = ""
    stations: frozenset[str] = frozenset()
    """Normalised station codes that this instance serves; empty = all."""
    brands: frozenset[str] = frozenset()
    """Brand codes or ids (lower case) that this instance serves; empty = all."""
    poll_interval_s: float = 2.0
    max_tickets_per_poll: int = 10
    max_print_retries: int = 3
    retry_delay_s: float = 5.0
    health_host: str = "0.0.0.0"  # noqa: S104 - probes, scrapers and POS screens are on other hosts
    health_port: int = 9100
    widget_port: int = 5001
    http_token: str = field(default="", repr=False)
    log_level: str = "INFO"
    log_dir: str = "./logs"
    log_format: str = "text"
    run_dir: str = ""
    auto_migrate: bool = True
    notify_trigger: bool = True
    printer_networks: tuple[str, ...] = ("private",)
    """Where printers may be, see `kps.core.networks`; `any` alone = everywhere."""
    printer_devices: tuple[str, ...] = ("/dev/usb/lp*",)
    """Patterns of the device files that printer rows may name, see `kps.core.device_files`; none = no file at all."""
    printer_down_policy: PrinterDownPolicy = PrinterDownPolicy.FAIL
    hold_s: float = 20.0
    rescue_minutes: float = 30.0
    stale_after_minutes: float = 240.0
    unroutable_grace_s: float = 60.0
    reclaim_s: float = 60.0
    drain_s: float = 20.0
    late_after_minutes: float = 5.0
    idle_close_s: float = 0.0
    """PRINTER_IDLE_CLOSE_SECONDS; 0 = hold the socket."""
    proof_levels: tuple[tuple[str, Abilities], ...] = ()
    """What somebody vouches for, by printer name (lower case) or ip:port; outweighs what a probe has stored."""
    health_retention_days: float = 14.0
    ticket_language: str = "en"
    """Of our own words on the paper; a catalogue in kps/paper/languages."""
    allergy_words: tuple[str, ...] = ()
    """Beginnings of words that make an allergy banner, besides those that KPS knows."""
    font_dirs: tuple[str, ...] = ()
    """Folders that are searched for fonts before the system's."""
    top_feed_lines: int = 0
    beep: bool = False
    day_start_minutes: int = 240
    """Minutes after midnight, store time, at which the paper chain begins anew."""
    void_slip_minutes: float = 45.0
    """For how long after its print a change of an item is told to its station; 0 = never."""
    void_slip_stations: frozenset[str] | None = None
    """Normalised codes of the stations that get such slips; None = all."""
