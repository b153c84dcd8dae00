"""Settings from the environment; every fault is reported at once, by variable."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from kps.core.abilities import Abilities
from kps.core.device_files import parse_devices
from kps.core.networks import parse_networks
from kps.core.settings import DatabaseSettings, PrinterDownPolicy, Settings

EXIT_BAD_CONFIGURATION = 78
"""EX_CONFIG of sysexits: bad settings, or a port that stays taken."""


class BadConfiguration(Exception):
    """The environment holds settings that cannot be used; `faults` has one sentence per variable."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


def _names(value: Any) -> Any:
    """A comma separated list of names, compared trimmed and without case."""
    if isinstance(value, str):
        return frozenset(part.strip().lower() for part in value.split(",") if part.strip())
    return value


def _proof_levels(value: Any) -> Any:
    """Comma separated `printer=level`, with +pushes or +clears; a printer by its name or by ip:port."""
    if not isinstance(value, str):
        return value
    found = []
    for part in filter(None, map(str.strip, value.split(","))):
        name, equals, level = part.rpartition("=")
        if not equals or not name.strip():
            raise ValueError(f"{part!r} is not printer=level")
        found.append((name.strip().lower(), Abilities.parse(level)))
    return tuple(found)


def _networks(value: Any) -> Any:
    return parse_networks(value) if isinstance(value, str) else value


def _devices(value: Any) -> Any:
    return parse_devices(value) if isinstance(value, str) else value


def _parts(separator: str) -> BeforeValidator:
    """A list with that separator, in the spelling that was given."""

    def split(value: Any) -> Any:
        if isinstance(value, str):
            return tuple(part.strip() for part in value.split(separator) if part.strip())
        return value

    return BeforeValidator(split)


def _clock(value: Any) -> Any:
    """`HH:MM` as minutes after midnight."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", value)
    if found is None:
        raise ValueError("must be a time of day, HH:MM")
    return int(found[1]) * 60 + int(found[2])


def _slip_stations(value: Any) -> Any:
    """`on`, `off`, or the stations for which it is on."""
    if not isinstance(value, str):
        return value
    if value.lower() in ("on", "true", "1", "yes"):
        return None
    return frozenset() if value.lower() in ("off", "false", "0", "no") else _names(value)


def languages() -> tuple[str, ...]:
    """The languages of our own words on the paper: English, and one for each catalogue."""
    folder = Path(__file__).parent / "paper" / "languages"
    return tuple(sorted({"en", *(file.stem for file in folder.glob("*.po"))}))


def _language(value: str) -> str:
    if value.lower() not in languages():
        raise ValueError(f"must be one of {', '.join(languages())}")
    return value.lower()


Words = Annotated[tuple[str, ...] | str, _parts(",")]
Folders = Annotated[tuple[str, ...] | str, _parts(":")]
ProofLevels = Annotated[tuple[tuple[str, Abilities], ...] | str, BeforeValidator(_proof_levels)]
Networks = Annotated[tuple[str, ...] | str, BeforeValidator(_networks)]
Devices = Annotated[tuple[str, ...] | str, BeforeValidator(_devices)]
Names = Annotated[frozenset[str] | str, BeforeValidator(_names)]
Seconds = Annotated[float, Field(ge=0, le=86_400)]


class Environment(BaseModel):
    """Every variable that KPS reads, with its default and limits."""

    model_config = ConfigDict(validate_default=True)

    db_host: str = Field("edge_db", min_length=1, description="host of the POS's PostgreSQL")
    db_port: int = Field(5432, ge=1, le=65535, description="its port")
    db_name: str = Field("fnb_edge_db", min_length=1, description="its database")
    db_user: str = Field("postgres", min_length=1, description="the role KPS works as")
    db_password: str = Field("postgres123", repr=False, description="its password")
    db_sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = Field(
        "prefer", description="libpq's sslmode"
    )
    db_schema: str = Field(
        "public", max_length=63, pattern=r"^[A-Za-z_][\w$]*$", description="the schema that holds the POS's tables"
    )
    poll_interval: float = Field(2.0, ge=0.05, le=3600, description="seconds between looks when nobody wakes us")
    max_tickets_per_poll: int = Field(10, ge=1, le=1000, description="tickets in one claim; it bounds no rate")
    max_print_retries: int = Field(
        3, ge=1, le=100, description="rounds, where the ticket has no max_retries of its own"
    )
    retry_delay_seconds: Seconds = Field(5.0, description="between the rounds of a ticket")
    health_check_port: int = Field(9100, ge=1, le=65535, description="HTTP: health, metrics, status")
    health_check_host: str = Field("0.0.0.0", min_length=1, description="address it listens on")  # noqa: S104
    pos_widget_port: int = Field(5001, ge=0, le=65535, description="HTTP that the POS's screens poll; 0 = off")
    http_token: str = Field("", repr=False, description="bearer token for /metrics and /status; empty = open")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="least level that is logged")
    log_dir: str = Field("./logs", description="folder of the log files; empty = stdout only")
    log_format: Literal["text", "json"] = Field("text", description="form of the lines")
    run_dir: str = Field("", description="folder of children.json; see README for its default")
    instance_name: str = Field(
        "kps", min_length=1, max_length=63, pattern=r"^[\w.-]+$", description="name of this instance"
    )
    site: str = Field(
        "", max_length=40, pattern=r"^[\w.-]*$", description="tells equal private addresses of several shops apart"
    )
    stations: Names = Field(frozenset(), description="limit this instance to these stations (comma separated)")
    brands: Names = Field(frozenset(), description="limit this instance to these brands, by code or id")
    auto_migrate: bool = Field(True, description="create and update schema kps at start")
    notify_trigger: bool = Field(True, description="create the wake-up trigger on the POS's ticket table")
    printer_networks: Networks = Field(
        "private", validate_default=True, description="where printers may be: networks (comma separated), private, any"
    )
    printer_devices: Devices = Field(
        "/dev/usb/lp*",
        validate_default=True,
        description="device files (patterns, comma separated) that printer rows may name; none",
    )
    printer_down_policy: PrinterDownPolicy = Field(
        PrinterDownPolicy.FAIL, description="fail: rounds are spent; hold: tickets wait for a printer"
    )
    hold_seconds: Seconds = Field(20.0, description="a blocked printer with a ticket inside is given this long")
    rescue_minutes: float = Field(
        30.0, ge=0, le=1440, description="failed for want of a printer: prints by itself within; 0 = off"
    )
    stale_after_minutes: float = Field(240.0, ge=1, le=100_000, description="backlog older than this fails at start")
    unroutable_grace_seconds: Seconds = Field(60.0, description="a ticket without a printer row waits this long")
    reclaim_seconds: float = Field(
        60.0, ge=1, le=86_400, description="a printing ticket without a live owner is taken over after"
    )
    drain_seconds: float = Field(20.0, ge=1, le=600, description="time to finish what is printing at a stop")
    late_after_minutes: float = Field(5.0, ge=0, le=1440, description="the paper says LATE from this age on")
    printer_idle_close_seconds: Seconds = Field(
        0.0, description="let go of an idle printer's socket after; 0 = hold it"
    )
    proof_levels: ProofLevels = Field(
        (), description="printer=level[+pushes][+clears], comma separated: outweighs what `kps printers probe` stored"
    )
    health_retention_days: float = Field(
        14.0, gt=0, le=3650, description="older health rows of our printers are deleted"
    )
    ticket_language: Annotated[str, AfterValidator(_language)] = Field(
        "en", description="language of our own words on the paper"
    )
    allergy_words: Words = Field((), description="further words (comma separated) that make an allergy banner")
    font_dirs: Folders = Field(
        (), description="folders (colon separated) searched for fonts before our own and the system's"
    )
    top_feed_lines: int = Field(0, ge=0, le=20, description="empty lines before the heading, for rails that clamp")
    beep: bool = Field(False, description="each paper is heard, where the printer's model can")
    day_start: Annotated[int | str, BeforeValidator(_clock)] = Field(
        "04:00", validate_default=True, description="HH:MM, store time: the paper chain begins anew"
    )
    void_slip_minutes: float = Field(
        45.0,
        ge=0,
        le=1440,
        description="a void, cancelled or moved item is told so long after its print; 0 = off",
    )
    void_slips: Annotated[frozenset[str] | str | None, BeforeValidator(_slip_stations)] = Field(
        "on", validate_default=True, description="on, off, or the stations (comma separated) that get such slips"
    )


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read the settings. Raises BadConfiguration naming every faulty variable."""
    given = {name.lower(): value for name, value in (os.environ if environ is None else environ).items()}
    known = {
        name: given[name]
        for name in Environment.model_fields
        if name in given and (given[name].strip() or name in _MAY_BE_EMPTY)
    }
    try:
        found = Environment.model_validate(_trimmed(known))
    except ValidationError as error:
        raise BadConfiguration(_faults(error, given)) from error
    if found.health_check_port == found.pos_widget_port:
        raise BadConfiguration([f"POS_WIDGET_PORT: must not be HEALTH_CHECK_PORT (both are {found.pos_widget_port})"])
    return _settings(found)


_MAY_BE_EMPTY = frozenset({"log_dir"})
_CASELESS = {"log_level": str.upper, "log_format": str.lower, "printer_down_policy": str.lower, "db_sslmode": str.lower}


def _trimmed(known: dict[str, str]) -> dict[str, str]:
    out = {}
    for name, value in known.items():
        kept = value if "password" in name or "token" in name else value.strip()
        out[name] = _CASELESS.get(name, lambda text: text)(kept)
    return out


def _faults(error: ValidationError, given: Mapping[str, str]) -> list[str]:
    faults = []
    for fault in error.errors():
        name = str(fault["loc"][0])
        secret = "password" in name or "token" in name
        shown = "" if secret else f" (it is {given.get(name, '')!r})"
        text = re.sub(r"^Value error, ", "", re.sub(r"^Input should be ", "must be ", fault["msg"]))
        faults.append(f"{name.upper()}: {text}{shown}")
    return sorted(set(faults))


def _settings(found: Environment) -> Settings:
    return Settings(
        database=DatabaseSettings(
            host=found.db_host, port=found.db_port, name=found.db_name, user=found.db_user,
            password=found.db_password, sslmode=found.db_sslmode, schema=found.db_schema,
        ),
        instance_name=found.instance_name,
        site=found.site,
        stations=frozenset(found.stations),
        brands=frozenset(found.brands),
        poll_interval_s=found.poll_interval,
        max_tickets_per_poll=found.max_tickets_per_poll,
        max_print_retries=found.max_print_retries,
        retry_delay_s=found.retry_delay_seconds,
        health_host=found.health_check_host,
        health_port=found.health_check_port,
        widget_port=found.pos_widget_port,
        http_token=found.http_token,
        log_level=found.log_level,
        log_dir=found.log_dir,
        log_format=found.log_format,
        run_dir=found.run_dir or str(default_run_dir(found.instance_name)),
        auto_migrate=found.auto_migrate,
        notify_trigger=found.notify_trigger,
        printer_networks=tuple(found.printer_networks),
        printer_devices=tuple(found.printer_devices),
        printer_down_policy=found.printer_down_policy,
        hold_s=found.hold_seconds,
        rescue_minutes=found.rescue_minutes,
        stale_after_minutes=found.stale_after_minutes,
        unroutable_grace_s=found.unroutable_grace_seconds,
        reclaim_s=found.reclaim_seconds,
        drain_s=found.drain_seconds,
        late_after_minutes=found.late_after_minutes,
        idle_close_s=found.printer_idle_close_seconds,
        proof_levels=tuple(found.proof_levels),  # type: ignore[arg-type]  # the validator has made pairs of the text
        health_retention_days=found.health_retention_days,
        ticket_language=found.ticket_language,
        allergy_words=tuple(found.allergy_words),
        font_dirs=tuple(found.font_dirs),
        top_feed_lines=found.top_feed_lines,
        beep=found.beep,
        day_start_minutes=int(found.day_start),
        void_slip_minutes=found.void_slip_minutes,
        void_slip_stations=None if found.void_slips is None else frozenset(found.void_slips),
    )  # fmt: skip


def default_run_dir(instance_name: str) -> Path:
    """Where the next start of this instance by the same user finds what this one left."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime and os.path.isdir(runtime):
        return Path(runtime) / f"kps-{instance_name}"
    return Path(tempfile.gettempdir()) / f"kps-{os.getuid()}-{instance_name}"
