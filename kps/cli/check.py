"""Whether this host could run the service, in sentences. It only looks: it migrates and prints nothing."""

from __future__ import annotations

import http.client
import json
import os
import socket
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from kps.core.address import DeviceAddress, FileAddress, printer_key
from kps.core.clock import RIGHT_WITHIN_S, direction
from kps.core.limits import high_enough, too_low
from kps.core.networks import Reach
from kps.core.routing import PrinterRow, covers
from kps.core.settings import Settings
from kps.core.tickets import PrinterKey
from kps.database import Database, DatabaseTrouble
from kps.database.migrations import applied, available
from kps.database.names import addresses_of
from kps.database.pos import PosAdapter, introspect
from kps.database.pos.trigger import lacking_right
from kps.database.row_mappers import printer_rows
from kps.database.schema import SchemaUnusable, refuse_missing_rights
from kps.database.statements import Statements
from kps.database.statements.leases import Device as KnownDevice
from kps.device import Device
from kps.device.address import Unresolvable, resolved
from kps.device.connection import Ready, Unable
from kps.device.files import absence
from kps.health import url_here
from kps.paper.fonts import undrawable
from kps.process.limits import host_limits
from kps.supervisor.run_dir import RunDirUnusable, opened

HTTP_LIMIT_S = 2.0
RESOLVE_LIMIT_S = 2.0
OK, PROBLEM = "ok", "problem"


@dataclass(slots=True)
class _Findings:
    """What has been found so far. Each finding is shown at once, for the next one may take seconds."""

    say: Callable[[str], None]
    problems: int = 0
    printers: int = 0
    """Devices that this instance would have a process for."""

    def ok(self, text: str) -> None:
        self.say(f"{OK:<8} {text}")

    def problem(self, text: str) -> None:
        self.problems += 1
        self.say(f"{PROBLEM:<8} {text}")


def run(settings: Settings, say: Callable[[str], None]) -> bool:
    """Check everything that the service needs; returns whether nothing is wrong."""
    findings = _Findings(say)
    findings.ok(f"settings: instance {settings.instance_name}, database {_where(settings)}")
    database = Database(settings.database, "check")
    try:
        _check_database(database, settings, findings)
    except DatabaseTrouble as trouble:
        findings.problem(trouble.sentence)
    finally:
        database.close()
    _check_limits(findings)
    _check_ports(settings, findings)
    _check_fonts(settings, findings)
    _check_run_dir(findings, Path(settings.run_dir))
    if settings.log_dir:
        _check_folder(findings, "LOG_DIR", settings.log_dir)
    return findings.problems == 0


def _check_fonts(settings: Settings, findings: _Findings) -> None:
    lacking = undrawable(settings.font_dirs)
    if lacking:
        findings.problem(f"fonts: none here draws {', '.join(lacking)}: it comes out as [U+XXXX]")
    else:
        findings.ok("fonts: those of the installation are there")


def _check_run_dir(findings: _Findings, folder: Path) -> None:
    """Whether the service would take it."""
    if folder.exists() or folder.is_symlink():
        try:
            os.close(opened(folder))
        except (RunDirUnusable, OSError) as fault:
            findings.problem(str(fault))
            return
    _check_folder(findings, "RUN_DIR", str(folder))


def _check_folder(findings: _Findings, variable: str, folder: str) -> None:
    """The folder, or the nearest one above it that exists, must take files of ours; nothing is made."""
    path = Path(folder).absolute()
    standing = next(place for place in (path, *path.parents) if place.exists())
    if standing.is_dir() and os.access(standing, os.W_OK | os.X_OK):
        findings.ok(f"{variable} {folder}: can be written")
    else:
        findings.problem(f"{variable} {folder}: {standing} cannot be written")


def _where(settings: Settings) -> str:
    database = settings.database
    return f"{database.name} at {database.host}:{database.port} as {database.user}"


# The database.


class _Server(NamedTuple):
    version: str


class _Clock(NamedTuple):
    now: float
    """Seconds since 1970."""


def _check_database(database: Database, settings: Settings, findings: _Findings) -> None:
    database.connect()
    # Whatever we ask from here on, PostgreSQL itself refuses to change anything.
    database.query("SET default_transaction_read_only = on")
    server = database.query("SELECT current_setting('server_version') AS version", row=_Server)[0]
    findings.ok(f"database: connected, PostgreSQL {server.version}")
    try:
        pos = introspect(database)
    except SchemaUnusable as fault:
        findings.problem(str(fault))
        return
    findings.ok(f"adapter for the POS: {pos.name}")
    findings.ok(f"tables and rights: {pos.describe()}")
    migrated = _check_migrations(database, settings, findings)
    _check_trigger(database, settings, pos, findings, migrated=migrated)
    _check_clocks(database, pos, findings, migrated=migrated)
    _check_printers(database, settings, pos, findings, migrated=migrated)


def _check_migrations(database: Database, settings: Settings, findings: _Findings) -> bool:
    """Tell about schema kps; returns whether its tables are there and readable."""
    newest = available()[-1][0]
    if not database.query("SELECT 1 FROM pg_namespace WHERE nspname = 'kps'"):
        _tell_missing(database, settings, findings)
        return False
    if not database.query("SELECT 1 WHERE has_schema_privilege('kps', 'USAGE')"):
        findings.problem(f"schema kps: user {settings.database.user} lacks USAGE on it")
        return False
    present = applied(database)
    if present > newest:
        findings.problem(f"schema kps: version {present} was made by a newer KPS, this one knows {newest}")
        return False
    if present == newest:
        findings.ok(f"schema kps: version {present}, up to date")
    elif settings.auto_migrate:
        findings.ok(f"schema kps: version {present}, the next start brings it to {newest}")
    else:
        findings.problem(
            f"schema kps: version {present} of {newest}, and AUTO_MIGRATE is off: run what"
            f" `kps schema --after {present}` prints, then block C of the README again"
        )
    return present > 0 and _may_write(database, settings, findings)


def _tell_missing(database: Database, settings: Settings, findings: _Findings) -> None:
    if not settings.auto_migrate:
        findings.problem("schema kps: not there, and AUTO_MIGRATE is off: run what `kps schema` prints")
    elif database.query("SELECT 1 WHERE has_database_privilege(current_database(), 'CREATE')"):
        findings.ok("schema kps: not there yet, the first start makes it")
    else:
        findings.problem(
            f"schema kps: not there, and user {settings.database.user} lacks CREATE on database"
            f" {settings.database.name}: grant it, or run what `kps schema` prints"
        )


def _may_write(database: Database, settings: Settings, findings: _Findings) -> bool:
    try:
        refuse_missing_rights(database)
    except SchemaUnusable as fault:
        findings.problem(f"schema kps, user {settings.database.user}: {fault}")
        return False
    return True


def _check_trigger(
    database: Database, settings: Settings, pos: PosAdapter, findings: _Findings, *, migrated: bool
) -> None:
    if pos.has_trigger:
        findings.ok("wake-up trigger: present")
    elif not settings.notify_trigger:
        findings.ok("wake-up trigger: off by NOTIFY_TRIGGER, tickets are found by polling")
    elif not migrated and not settings.auto_migrate:
        findings.problem("wake-up trigger: absent, it is part of what `kps schema` prints")
    elif lacks := lacking_right(database):
        findings.problem(
            f"wake-up trigger: absent, and user {settings.database.user} lacks {lacks}:"
            " tickets would be found by polling"
        )
    else:
        findings.ok("wake-up trigger: absent, the next start makes it")


def _check_clocks(database: Database, pos: PosAdapter, findings: _Findings, *, migrated: bool) -> None:
    """The database's is the one that counts. Of the POS's the service learns when tickets come."""
    before = time.time()
    clock = database.query("SELECT extract(epoch FROM clock_timestamp())::float8 AS now", row=_Clock)[0].now
    took_s = time.time() - before
    _tell_clock(findings, "this host", clock - before - took_s / 2, took_s)
    if not migrated or not database.query("SELECT 1 WHERE to_regclass('kps.clock') IS NOT NULL"):
        return
    found = database.run(Statements(pos).pos_clock)[0]
    if found.known:
        _tell_clock(findings, "the POS", found.behind_s, 0.0)
    else:
        findings.ok("clock of the POS: not known yet, the service learns it when tickets come")


def _tell_clock(findings: _Findings, whose: str, behind_s: float, doubt_s: float) -> None:
    if abs(behind_s) < RIGHT_WITHIN_S + doubt_s:
        findings.ok(f"clock of {whose}: as the database's")
    else:
        findings.problem(f"clock of {whose}: {direction(behind_s)} the database's")


# The printers.


def _check_printers(
    database: Database, settings: Settings, pos: PosAdapter, findings: _Findings, *, migrated: bool
) -> None:
    found = printer_rows(database.run(Statements(pos).rows), {})
    rows = [row for row in found if covers(settings.stations, settings.brands, row)]
    if not any(row.active and not row.fault for row in rows):
        findings.problem("printers: the POS has no active printer row that this instance could serve")
    devices: dict[DeviceAddress, list[PrinterRow]] = {}
    for row in rows:
        if not row.active:
            findings.ok(f"printer {row.name} ({row.station}): switched off in the POS")
        elif row.fault:
            findings.problem(f"printer {row.name} ({row.station}): {row.fault}")
        else:
            devices.setdefault(row.address, []).append(row)
    findings.printers = len(devices)
    for named, sharing in devices.items():
        _check_device(database, settings, pos, findings, named, sharing, migrated=migrated)


def _check_device(
    database: Database,
    settings: Settings,
    pos: PosAdapter,
    findings: _Findings,
    named: DeviceAddress,
    rows: list[PrinterRow],
    *,
    migrated: bool,
) -> None:
    title = f"printer {', '.join(f'{row.name} ({row.station})' for row in rows)} at {named}"
    try:
        address = resolved(named, limit_s=RESOLVE_LIMIT_S)
    except Unresolvable:
        findings.problem(f"{title}: its host name cannot be resolved")
        return
    absent = refused = ""
    if isinstance(address, FileAddress):
        absent = absence(address, settings)
    else:
        reach = Reach.of(settings, addresses_of(settings.database.host))
        refused = reach.refusal(address.host, address.port)
    if refused:
        findings.problem(f"{title}: {refused}")
        return
    owner = _owner(database, pos, printer_key(settings.site, address)) if migrated else None
    if owner is not None:
        # Many printers serve one connection only: a question now would disturb the tickets.
        _tell_owned(findings, title, owner)
        return
    if absent:
        findings.problem(f"{title}: no instance serves it, and this one cannot: {absent}")
        return
    device = Device(address, timeout_s=min(row.timeout_s for row in rows), pulse=_nothing, answers=None)
    answer = device.ask()
    device.close()
    _tell_answer(findings, title, device, answer)


def _owner(database: Database, pos: PosAdapter, key: PrinterKey) -> KnownDevice | None:
    """The device's row in schema kps if a running instance owns it, or a probe has borrowed it."""
    rows = database.run(Statements(pos).printers, keys=[key])
    return rows[0] if rows and (rows[0].live or rows[0].borrowed) else None


def _tell_owned(findings: _Findings, title: str, owner: KnownDevice) -> None:
    if owner.borrowed:
        findings.ok(f"{title}: {owner.state_text}")
        return
    held = f"{title}: held by the running instance {owner.owner_name}"
    if owner.state in ("ready", "starting"):
        findings.ok(f"{held}, {owner.state}")
    else:
        findings.problem(f"{held}, which says: {owner.state_text or owner.state.replace('_', ' ')}")


def _tell_answer(findings: _Findings, title: str, device: Device, answer: Ready | Unable) -> None:
    match answer:
        case Ready(status, response_ms):
            said = "answers" if device.answers else "takes the connection, answers no status question"
            findings.ok(f"{title}: {said}, {response_ms} ms, paper {status.paper}")
        case Unable(alive=True, text=text):
            findings.problem(f"{title}: cannot print: {text}")
        case Unable(text=text):
            findings.problem(f"{title}: busy or unreachable: {text}")


def _nothing() -> None:
    """Nobody waits for a sign of life from us."""


# The host.


def _check_limits(findings: _Findings) -> None:
    """Of this process, which may have other ones than the service: both are best started in the same way."""
    limits = host_limits()
    for sentence in too_low(limits, findings.printers):
        findings.problem(f"limits: {sentence}")
    for sentence in high_enough(limits, findings.printers):
        findings.ok(f"limits: {sentence}")
    if not limits:
        findings.ok("limits: none is set")


# The ports.


def _check_ports(settings: Settings, findings: _Findings) -> None:
    _check_port(findings, settings.health_host, settings.health_port, "HEALTH_CHECK_PORT", "/ping", _is_ping)
    if not settings.widget_port:
        findings.ok("POS_WIDGET_PORT: off")
        return
    _check_port(findings, settings.health_host, settings.widget_port, "POS_WIDGET_PORT", "/health", _is_widget)


def _check_port(
    findings: _Findings, host: str, port: int, variable: str, path: str, ours: Callable[[dict[str, Any]], bool]
) -> None:
    fault = _fault_of_listening(host, port)
    if not fault:
        findings.ok(f"{variable} {port}: free")
    elif ours(_ask(host, port, path)):
        findings.ok(f"{variable} {port}: served by a running KPS")
    else:
        findings.problem(f"{variable} {port}: cannot listen on {host}: {fault}")


def _fault_of_listening(host: str, port: int) -> str:
    """Why a server could not listen there now; '' if it could."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        return error.strerror or str(error)
    return ""


def _is_ping(answer: dict[str, Any]) -> bool:
    return answer.get("service") == "kitchen_printer_service"


def _is_widget(answer: dict[str, Any]) -> bool:
    return "agent_name" in answer


def _ask(host: str, port: int, path: str) -> dict[str, Any]:
    """The JSON object that this host answers there; {} for anything else."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url_here(host, port, path), timeout=HTTP_LIMIT_S) as answer:
            found = json.loads(answer.read(100_000))
    except (OSError, ValueError, http.client.HTTPException):
        return {}
    return found if isinstance(found, dict) else {}
