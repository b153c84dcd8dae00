"""A printer process in this test's hands, with a real database and a virtual printer: what it prepares of a ticket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from multiprocessing import Pipe
from types import SimpleNamespace

import pytest

from kps.core.abilities import Abilities
from kps.core.routing import PrinterRow
from kps.core.settings import Settings
from kps.core.tickets import Printed, ProofLevel
from kps.core.work import Work
from kps.demo.order_book import Line
from kps.demo.virtual_printer import VirtualPrinter
from kps.printer import drafts
from kps.printer.config import DeviceConfig
from kps.printer.loop import PrinterProcess
from kps.process.channels import Channel
from kps.process.child import ChildStart, ChildTools
from kps.process.clocks import boottime
from kps.process.shared_stats import LeaseCell, SharedStats, Stats
from tests.conftest import Database, eventually
from tests.database.house import House, Instance, settings_of

PROVEN = Printed(ProofLevel.FENCE, 300)
LIMIT_S = 15.0


class Scene:
    """A printer process whose steps this test takes; it also plays the dispatcher and the supervisor."""

    def __init__(self, house: House, one: Instance, printer: VirtualPrinter, opened: ExitStack) -> None:
        self._house = house
        self._one = one
        self.printer = printer
        house.printer("counter-1", station="counter", host=printer.host, port=printer.port)
        self.row: PrinterRow = house.row("counter-1")
        one.acquire(self.row)
        shared = SharedStats()
        number = shared.take()
        pair = shared.pair(number)
        pair.lease_cells[LeaseCell.TRUST_UNTIL] = boottime() + 600.0
        start = ChildStart(
            "printer-counter", 1, Settings(database=settings_of(house.target)), house.schema, one.me, number
        )
        ours, theirs = Pipe()
        self._control = opened.enter_context(closing(Channel(ours)))
        tools = ChildTools(start, Channel(theirs), Stats(pair.stats), pair.lease_cells, SimpleNamespace(dropped=0))  # type: ignore[arg-type]
        config = DeviceConfig(
            self.row.key, "counter", self.row.address, 5.0, (self.row.id,), abilities=Abilities(ProofLevel.PROCESS_ID)
        )
        self.process = PrinterProcess(tools, config, one.epochs[self.row.key])
        opened.callback(self.process._database.close)
        opened.callback(lambda: self.process._monitor.device.close())
        end, other = Pipe()
        self._box = opened.enter_context(closing(Channel(end)))
        self._control.send_end(("mailbox", 1), other)

    def greet(self) -> None:
        """Until it has connected to its printer."""
        eventually(self._connected)
        self.process._drafts.plan()

    def _connected(self) -> bool:
        self.process._read_control()
        self.process._keep_up()
        return self.process._monitor.unable is None and self.process._monitor.device.connected

    def announce(self, ticket: int) -> None:
        """Announce it, and let the process make of that what it will."""
        self._box.send(("soon", ticket, self.row.id))
        self.process._mailbox.read()
        self.process._keep_up()

    def claim(self, ticket: int) -> Work:
        """Claim it for this printer."""
        return self._one.claim(ticket, self.row).work

    def print(self, work: Work) -> str:
        """Hand it over; answers the text of the paper."""
        papers = len(self.printer.papers)
        self._box.send(("work", work.kind.value, work.id, work.token))
        self.process.step()
        return self.printer.wait_paper(papers + 1, LIMIT_S).text


@pytest.fixture
def here(house: House, one: Instance, pos_database: Database, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    # However slow this machine is: a test that is about an old draft says so.
    monkeypatch.setattr(drafts, "FRESH_S", 600.0)
    with ExitStack() as opened:
        printer = opened.enter_context(VirtualPrinter(name="counter", profile="epson-t20iii"))
        yield Scene(house, one, printer, opened)


def order(house: House, name: str = "Soto") -> int:
    """A ticket with one dish."""
    return house.pos.ticket("counter", items=[Line(name, 1, "counter")], table="5")


def rename(house: House, name: str) -> None:
    """The POS gives every dish this name."""
    house.pos.execute("UPDATE core_product SET name = %s", [name])


def test_what_was_drafted_is_printed(house: House, here: Scene) -> None:
    here.greet()
    ticket = order(house)
    here.announce(ticket)
    rename(house, "Later")

    text = here.print(here.claim(ticket))

    assert "Soto" in text
    assert "Later" not in text
    assert house.status(ticket) == "printed"
    assert "#001, first today" in text


@pytest.mark.parametrize("why", ["old", "not announced", "another one was announced", "not planned", "reconnected"])
def test_without_a_draft_of_its_own_a_ticket_is_read_at_its_promise(
    house: House, here: Scene, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    here.greet()
    ticket = order(house)
    match why:
        case "old":
            monkeypatch.setattr(drafts, "FRESH_S", -1.0)
            here.announce(ticket)
        case "another one was announced":
            here.announce(ticket)
            here.announce(order(house, "Other"))
        case "not planned":
            here.process._drafts._planned_on = 0
            here.announce(ticket)
        case "reconnected":
            here.process._database.connect()
            here.announce(ticket)
    rename(house, "Later")

    text = here.print(here.claim(ticket))

    assert "Later" in text
    assert "Soto" not in text
    assert house.status(ticket) == "printed"


def test_what_the_promise_says_otherwise_is_on_the_paper(house: House, one: Instance, here: Scene) -> None:
    here.greet()
    first, ticket = order(house, "Sate"), order(house)
    here.announce(ticket)
    # Another printer of the station takes the number that the draft foresaw.
    house.printer("counter-2", station="counter")
    one.acquire(house.row("counter-2"))
    claimed, _ = one.claim_and_send(first, house.row("counter-2"))
    one.settle(claimed, PROVEN)
    rename(house, "Later")

    text = here.print(here.claim(ticket))

    assert "#002, before: #001" in text
    assert "at counter-2" in text
    assert "Soto" in text


def test_a_ticket_that_a_draft_cannot_promise_is_promised_without(house: House, here: Scene) -> None:
    here.greet()
    ticket = order(house)
    here.announce(ticket)
    house.pos.reprint(ticket)  # now two papers have to agree who is first
    rename(house, "Later")

    assert "Later" in here.print(here.claim(ticket))


def test_what_changes_behind_a_draft_is_told_by_a_slip(house: House, one: Instance, here: Scene) -> None:
    here.greet()
    ticket = order(house)
    here.announce(ticket)
    house.pos.execute("UPDATE pos_billitem SET is_void = true, void_reason = 'changed my mind'")

    assert "Soto" in here.print(here.claim(ticket))

    assert one.queue.make_slips(minutes=45.0, stations=None).count == 1
    (slip,) = one.queue.look_slips()
    assert (slip.kind, slip.station) == ("void", "counter")


def test_a_ticket_with_nothing_left_to_cook_is_refused_as_without_a_draft(house: House, here: Scene) -> None:
    here.greet()
    ticket = order(house)
    house.pos.execute("UPDATE pos_billitem SET is_void = true")
    here.announce(ticket)
    work = here.claim(ticket)
    here._box.send(("work", work.kind.value, work.id, work.token))

    here.process.step()

    assert house.status(ticket) == "failed"
    assert here.printer.papers == []


def test_drafts_are_planned_in_a_pause_behind_the_first_ticket(house: House, here: Scene) -> None:
    eventually(here._connected)
    seen = [(here.process._drafts.unplanned, here.process._drafts.planned)]

    here.print(here.claim(order(house)))
    seen.append((here.process._drafts.unplanned, here.process._drafts.planned))
    here.process.step()
    seen.append((here.process._drafts.unplanned, here.process._drafts.planned))

    assert seen == [(False, False), (True, False), (False, True)]
