"""The supervisor's maintenance thread: when it looks, and what it tells the main loop."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from kps.config import load
from kps.core.tickets import PrinterKey
from kps.database.statements.leases import LEASE_TTL_S
from kps.demo.orders import PosWriter
from kps.process.clocks import boottime
from kps.supervisor.lease_keeper import (
    BORROWED_EVERY_S,
    HURRY_S,
    LAPSED_AFTER_S,
    RENEW_EVERY_S,
    renew_in,
)
from kps.supervisor.maintenance import Maintenance
from kps.supervisor.maintenance_events import LeaseTaken
from tests.conftest import Database, eventually
from tests.service.harness import environment

ME, OTHER = "me", "other"
KEY = PrinterKey(":192.0.2.1:9100")


@dataclass(frozen=True, slots=True)
class Shown:
    """A device as a renewal shows it."""

    owner: str
    lapsed_s: float
    borrowed: bool = False
    printer_key: PrinterKey = KEY

    @property
    def live(self) -> bool:
        return self.lapsed_s < 0


@pytest.fixture
def maintenance(pos: PosWriter, pos_database: Database, tmp_path: Path) -> Iterator[Maintenance]:
    """Of an instance that serves one printer, which nobody owns yet."""
    pos.add_printer("192.0.2.1", 9100, "kitchen", 1, "kitchen-1")
    made = Maintenance(
        load(environment(pos_database, tmp_path, PRINTER_NETWORKS="any")),
        "00000000-0000-4000-8000-000000000001",
        lambda: None,
    )
    made.start("")
    yield made
    made.quit(10.0)
    assert not made.thread.is_alive()


def test_the_end_of_a_lease_that_is_not_renewed_is_not_slept_through() -> None:
    found = renew_in([Shown(OTHER, -5.0), Shown(OTHER, -0.4)], {KEY}, ME)
    assert found == pytest.approx(0.4 + LAPSED_AFTER_S)


@pytest.mark.parametrize(
    "device",
    [
        pytest.param(Shown(OTHER, -4.5), id="it is renewed in time"),
        pytest.param(Shown(ME, -0.4), id="ours"),
        pytest.param(Shown(OTHER, 3.0), id="it ended, and nobody may take it"),
        pytest.param(Shown(OTHER, -0.4, printer_key=PrinterKey("elsewhere")), id="we do not serve it"),
    ],
)
def test_nothing_else_makes_leases_be_renewed_sooner(device: Shown) -> None:
    assert renew_in([device], {KEY}, ME) == RENEW_EVERY_S


def test_leases_that_end_at_this_moment_do_not_make_the_database_be_asked_without_a_pause() -> None:
    assert renew_in([Shown(OTHER, -0.001)], {KEY}, ME) == HURRY_S


def test_a_borrowed_device_is_looked_at_more_often_since_its_tickets_wait() -> None:
    assert renew_in([Shown(ME, -25.0, borrowed=True)], {KEY}, ME) == BORROWED_EVERY_S


def test_a_lease_comes_with_the_trust_in_it_so_that_nobody_waits_for_its_renewal(maintenance: Maintenance) -> None:
    def taken() -> list[LeaseTaken]:
        return [event for event in list(maintenance.events) if isinstance(event, LeaseTaken)]

    (lease,) = eventually(taken, what="the lease")
    assert 0 < lease.trusted_until - boottime() <= LEASE_TTL_S


def test_what_has_been_taken_is_shown(maintenance: Maintenance) -> None:
    (device,) = eventually(lambda: maintenance.devices, what="a view of it")
    assert (device.printer_key, device.owner, device.live) == (KEY, "00000000-0000-4000-8000-000000000001", True)
