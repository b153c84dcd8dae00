"""The dispatcher's loop in this process, with a real database and a printer process that this test plays."""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from multiprocessing import Pipe
from multiprocessing.connection import wait
from types import SimpleNamespace
from typing import Any

import pytest

from kps.core.address import TcpAddress
from kps.core.agenda import Task
from kps.core.look import what_was_found
from kps.core.routing import ClaimFor, PrinterRow, Routes
from kps.core.settings import DatabaseSettings, Settings
from kps.core.tickets import Printed, PrinterKey, ProofLevel, Token
from kps.core.work import Work, WorkKind
from kps.database import DatabaseTrouble
from kps.dispatcher.loop import Dispatcher
from kps.dispatcher.mailboxes import Mailbox
from kps.dispatcher.slip_maker import SlipMaker
from kps.process.channels import Channel
from kps.process.child import ChildStart, ChildTools
from kps.process.shared_stats import SharedStats, Stats
from tests.conftest import eventually
from tests.database.house import House, Instance, settings_of

PROVEN = Printed(ProofLevel.FENCE, 300)


class Scene:
    """A dispatcher that owns one device, and the device's mailbox in our hands."""

    def __init__(self, house: House, one: Instance, *printers: str, **settings: Any) -> None:
        self._ours, theirs = Pipe()
        shared = SharedStats()
        number = shared.take()
        pair = shared.pair(number)
        chosen = Settings(database=settings_of(house.target), **settings)
        start = ChildStart("dispatcher", 1, chosen, house.schema, one.me, number)
        # no log of its own: no line of it is dropped, and nobody asks for a file to be opened anew
        log = SimpleNamespace(dropped=0)
        self.dispatcher = Dispatcher(ChildTools(start, Channel(theirs), Stats(pair.stats), pair.lease_cells, log))  # type: ignore[arg-type]
        self._control = control = Channel(self._ours)
        self._thread = threading.Thread(target=self.dispatcher.run)
        rows = [house.row(name) for name in printers]
        for row in rows:
            control.send(("row", row))
        control.send(("rows_end", len(rows)))
        key = rows[0].key
        self._end, other = Pipe()
        control.send_end(("printer", key, 1, one.epochs[key]), other)
        self.box = Channel(self._end)
        self.box.send(("hello", [], 2))
        one.queue.set_state(
            key, one.epochs[key], state="ready", text="", paper="ok", response_ms=1, answers=True, cover_open=False,
            cutter_ok=True,
        )  # fmt: skip

    def start(self) -> None:
        """Let the loop turn, until the end of the test."""
        self._thread.start()

    def heard(self, kind: str) -> Any:
        """The next message of this kind; what comes before it is left out."""
        while (message := self.box.receive(15.0)) is not None:
            if message[0] == kind:
                return message
        pytest.fail(f"no {kind} came")

    def tickets(self, count: int, at: dict[int, Callable[[], None]] | None = None) -> list[int]:
        """The tickets that we are given, each of which makes room at once; `at` is called after so many."""
        got: list[int] = []
        while len(got) < count:
            _, kind, ticket, token = self.heard("work")
            assert kind == WorkKind.TICKET
            got.append(ticket)
            if at and len(got) in at:
                at[len(got)]()
            self.box.send(("room", token))
        return got

    def close(self) -> None:
        self._control.send(("stop",))
        self._thread.join()
        self.dispatcher._slips.maker.close()
        self.dispatcher._looks.backlog.close()
        self._ours.close()
        self._end.close()


@contextmanager
def scene(house: House, one: Instance, *printers: str, started: bool = True, **settings: Any) -> Iterator[Scene]:
    with closing(Scene(house, one, *printers, **settings)) as made:
        if started:
            made.start()
        yield made


@contextmanager
def slip_maker(house: House, one: Instance, settings: DatabaseSettings) -> Iterator[SlipMaker]:
    with closing(SlipMaker(Settings(database=settings), house.schema, one.me, "slips")) as made:
        yield made


# The order.


def port_of(row: PrinterRow) -> int:
    """The TCP port of a row's printer."""
    assert isinstance(row.address, TcpAddress)
    return row.address.port


def test_a_printer_of_two_stations_gets_its_lowest_ticket_although_a_look_was_cut(house: House, one: Instance) -> None:
    house.printer("bar-1", station="bar", port=port_of(house.row("kitchen-1")))
    assert house.row("kitchen-1").key == house.row("bar-1").key
    tickets = [house.pos.ticket("kitchen") for _ in range(30)] + [house.pos.ticket("bar") for _ in range(10)]
    with scene(house, one, "kitchen-1", "bar-1") as here:
        assert here.tickets(40) == tickets


def test_a_limited_instance_reads_no_ticket_that_it_does_not_serve(house: House, one: Instance) -> None:
    house.printer("bar-1", station="bar", port=port_of(house.row("kitchen-1")))
    house.printer("dessert-1", station="dessert")
    for _ in range(3):
        house.pos.ticket("dessert")
    # Of the kitchen it has the printer, not the station.
    bar, kitchen = house.pos.ticket("bar"), house.pos.ticket("kitchen")
    with scene(house, one, "bar-1", "kitchen-1", "dessert-1", stations=frozenset({"bar"})) as here:
        assert here.tickets(2) == [bar, kitchen]
        assert {ticket.station for ticket in one.queue.look(20)} == {"dessert"}
        assert one.queue.look(20, served=here.dispatcher._looks.served()) == []


def test_a_look_that_was_cut_keeps_only_its_own_printers_waiting(house: House, one: Instance) -> None:
    for _ in range(30):
        house.pos.ticket("kitchen")
    bar = house.pos.ticket("bar")
    with scene(house, one, "kitchen-1") as here:
        here.tickets(1)
        seen = one.queue.look(20)
        last = max(ticket.id for ticket in seen if ticket.station == "kitchen")
        routes = Routes((house.row("kitchen-1"),))
        found = what_was_found(seen, 20, routes, None)
        assert found.ends == {house.row("kitchen-1").key: last}
        (other,) = [ticket for ticket in seen if ticket.id == bar]
        assert found.may_be_next(other, routes)


@pytest.mark.parametrize("trigger", [True, False])
def test_a_ticket_that_is_reset_meanwhile_comes_before_the_younger_ones(
    house: House, one: Instance, trigger: bool
) -> None:
    tickets = [house.pos.ticket("kitchen") for _ in range(12)]
    house.pos.execute("UPDATE kitchen_kitchenticket SET status = 'printed' WHERE id = %s", [tickets[0]])
    if not trigger:
        house.pos.execute("ALTER TABLE kitchen_kitchenticket DISABLE TRIGGER USER")
        house.schema = dataclasses.replace(house.schema, has_trigger=False)

    def reset() -> None:
        house.pos.execute("UPDATE kitchen_kitchenticket SET status = 'new' WHERE id = %s", [tickets[0]])
        if trigger:
            eventually(knows, what="the dispatcher has heard of it")

    def knows() -> bool:
        waiting = any(ticket.id == tickets[0] for ticket in here.dispatcher._decisions.left.tickets)
        return waiting or house.status(tickets[0]) == "printing"

    with scene(house, one, "kitchen-1") as here:
        got = here.tickets(12, at={3: reset})
    assert sorted(got) == sorted(tickets)
    # one that it has, one on the way
    assert got.index(tickets[0]) <= 5


# The announcement.


def test_an_idle_printer_is_told_once_that_a_ticket_comes() -> None:
    ours, theirs = Pipe()
    with ours, theirs:
        box, printer = Mailbox(PrinterKey("127.0.0.1:9100"), 1, Channel(ours), 1), Channel(theirs)
        work = Work(WorkKind.TICKET, 7, Token(1))
        box.announce()
        box.announce()
        assert (printer.receive(0), printer.receive(0)) == (("soon",), None)
        box.hand_over(work)
        box.in_hand.clear()
        box.announce()
        assert (printer.receive(0), printer.receive(0)) == (("work", "ticket", 7, 1), ("soon",))


def test_a_ticket_that_somebody_has_locked_is_announced_once(house: House, one: Instance) -> None:
    ticket = house.pos.ticket("kitchen")
    tries: set[float] = set()

    def tried_often() -> bool:  # each 50 ms
        tries.add(here.dispatcher._agenda.at(Task.LOOK))
        return len(tries) > 10

    with house.instance("pos").transaction() as raw:
        raw.cursor().execute("SELECT 1 FROM kitchen_kitchenticket WHERE id = %s FOR UPDATE", [ticket])
        with scene(house, one, "kitchen-1") as here:
            here.heard("soon")
            eventually(tried_often, what="ten tries")
            assert here.box.receive(0) is None


# Slips.


def slip(house: House, one: Instance) -> None:
    key = house.row("kitchen-1").key
    house.pos.execute(
        "INSERT INTO kps.slip (dedupe_key, kind, target, timezone, content, expires_at)"
        " VALUES ('x', 'outage', %s, 'UTC', '{}', clock_timestamp() + interval '30 minutes')",
        [key],
    )


def test_a_slip_that_is_given_back_is_handed_out_again_although_no_look_comes_to_an_end(
    house: House, one: Instance
) -> None:
    slip(house, one)
    other = house.instance("pos")
    with scene(house, one, "kitchen-1") as here, other.transaction() as raw:
        raw.cursor().execute("LOCK TABLE kps.printed_item")
        for _ in range(2):
            _, kind, number, token = here.heard("work")
            one.queue.release([Work(WorkKind(kind), number, Token(token))], "its printer is gone")
            here.box.send(("room", token))
            assert kind == WorkKind.SLIP


def test_a_look_that_waited_for_a_lock_earns_no_pause(house: House, one: Instance) -> None:
    ticket = house.pos.ticket(items=[("Soto", 1)], table="5")
    row = house.row("kitchen-1")
    (claimed,) = one.queue.claim(WorkKind.TICKET, [(one.seen(ticket), ClaimFor(row, ""), one.epochs[row.key])])
    one.send(claimed)
    one.settle(claimed, PROVEN)
    with slip_maker(house, one, settings_of(house.target)) as maker:
        with house.instance("pos").transaction() as raw:
            raw.cursor().execute("LOCK TABLE kps.printed_item")
            maker.begin()
            raw.cursor().execute("SELECT pg_sleep(0.5)")
        assert wait([maker.fileno()], 10)
        assert maker.take() == 0
        house.pos.void_item(house.pos.ticket_items(ticket)[0]["bill_item_id"])
        maker.begin()
        assert wait([maker.fileno()], 10)
        assert (maker.take(), maker.open) == (1, True)


def test_trouble_of_the_maker_is_raised_once(house: House, one: Instance) -> None:
    nowhere = dataclasses.replace(settings_of(house.target), port=1)
    with slip_maker(house, one, nowhere) as maker:
        maker.begin()
        assert wait([maker.fileno()], 10)
        with pytest.raises(DatabaseTrouble):
            maker.take()
        assert (maker.take(), maker.failures, maker.open) == (None, 1, True)


def test_a_slip_maker_without_a_connection_says_so_and_makes_slips_again(
    house: House, one: Instance, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_of(house.target)
    role = f"{settings.name}_few"
    house.pos.execute(f"CREATE ROLE {role} LOGIN PASSWORD 'few' CONNECTION LIMIT 0 IN ROLE {settings.user}")
    try:
        few = dataclasses.replace(settings, user=role, password="few")
        with scene(house, one, "kitchen-1", started=False) as here, caplog.at_level(logging.WARNING, "kps.dispatcher"):
            here.dispatcher._slips.maker.close()
            here.dispatcher._slips.maker = maker = SlipMaker(Settings(database=few), house.schema, one.me, "slips")
            here.start()
            eventually(lambda: caplog.records, what="a word of it")
            assert [record.getMessage() for record in caplog.records] == ["database trouble"]
            assert "too many connections" in caplog.records[0].cause  # type: ignore[attr-defined]
            assert maker.errors == 1
            house.pos.execute(f"ALTER ROLE {role} CONNECTION LIMIT -1")
            eventually(lambda: maker.failures == 0, what="a look that ends well")
    finally:
        house.pos.execute(f"DROP ROLE {role}")
