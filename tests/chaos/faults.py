"""Carries out a plan of faults on a running chaos shop."""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import resource
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Final, assert_never

import psycopg2

from kps.demo.virtual_printer import VirtualPrinter
from tests.chaos.devices import Trouble
from tests.chaos.plan import Fault, Harm
from tests.chaos.proxy import Proxy, ReplyFault
from tests.chaos.shop import ChaosShop, Design

LOOK_S: Final = 0.05
"""Seconds between two checks that all instances run."""
DRAWN_FIRST_S: Final = 0.3
"""For so long all orders have a picture before a process dies half-sent. Shorter than any such fault."""

Undo = Callable[[], None]


class Missed(Exception):
    """The fault found no target: the process was just being replaced, for example."""


class Injector:
    """Runs in the main thread; `hit` counts the faults that found their target, by kind."""

    def __init__(self, shop: ChaosShop) -> None:
        self._shop = shop
        self._instances = {instance.name: instance for instance in shop.instances}
        self.hit: Counter[str] = Counter()
        self.missed = 0
        self._frozen = False
        self._jammed: set[str] = set()

    def carry_out(self, faults: Iterable[Fault], seconds: float) -> None:
        """Start and end each fault at its time, keep the instances running, and return after `seconds`."""
        began = time.monotonic()
        order = itertools.count()
        due: list[tuple[float, int, Undo]] = []
        for fault in faults:
            heapq.heappush(due, (fault.at_s, next(order), lambda fault=fault: self._begin(fault, due, order)))  # type: ignore[misc]
        while (now := time.monotonic() - began) < seconds or due:
            while due and due[0][0] <= time.monotonic() - began:
                heapq.heappop(due)[2]()
            self._shop.keep_running()
            self._shop.free_cutters(spare=self._jammed)
            time.sleep(min(LOOK_S, max(0.0, due[0][0] - now)) if due else LOOK_S)

    def _begin(self, fault: Fault, due: list[tuple[float, int, Undo]], order: itertools.count[int]) -> None:
        try:
            undo = self._do(fault)
        except Missed:
            self.missed += 1
            return
        self.hit[fault.kind] += 1
        if fault.kind is Harm.HALF_SENT:
            heapq.heappush(due, (fault.at_s + DRAWN_FIRST_S, next(order), self._shop.half_sent.touch))
        if undo is not None:
            heapq.heappush(due, (fault.at_s + fault.seconds, next(order), undo))

    def _do(self, fault: Fault) -> Undo | None:
        """Begin a fault; returns the function that ends it."""
        if isinstance(fault.kind, Trouble):
            return self._trouble(self._shop.printers[fault.target], fault.kind, fault.detail)
        return self._harm(fault.kind, fault.target, fault.detail)

    # -- processes, the database, the way there --------------------------------------------------------------------

    def _harm(self, kind: Harm, target: str, detail: str) -> Undo | None:
        match kind:
            case (
                Harm.KILL_SUPERVISOR
                | Harm.KILL_DISPATCHER
                | Harm.KILL_PRINTER_PROCESS
                | Harm.KILL_TEMPLATE
                | Harm.KILL_INSTANCE
            ):
                _signal(self._victims(kind, target), signal.SIGKILL)
                return None
            case (
                Harm.STOP_SUPERVISOR
                | Harm.STOP_DISPATCHER
                | Harm.STOP_PRINTER_PROCESS
                | Harm.STOP_TEMPLATE
                | Harm.STOP_INSTANCE
            ):
                return _stop(self._victims(kind, target))
            case Harm.HALF_SENT:
                return self._end_half_sent()
            case Harm.BACKEND_TERMINATED:
                self._terminate_a_backend()
                return None
            case Harm.DATABASE_RESTART:
                self._shop.server.restart(immediate=True)
                return None
            case Harm.DATABASE_FROZEN:
                return self._freeze_database()
            case Harm.DESCRIPTORS_EXHAUSTED:
                return self._exhaust(target, detail)
            case Harm.ROW_LOCKED:
                return self._lock_a_row(detail)
            case Harm.NAMES_SILENT:
                return self._silence_names()
            case Harm.WAY_CUT | Harm.WAY_SLOW:
                return _block_the_way(self._instances[target].proxy, kind, detail)
            case Harm.REPLY_CUT | Harm.REPLY_DROPPED:
                return self._fail_a_reply(kind, detail)
            case _:
                assert_never(kind)

    def _victims(self, kind: Harm, target: str) -> list[int]:
        """The processes that a fault is about. The naive loop is one process for all roles."""
        match kind:
            case Harm.KILL_SUPERVISOR | Harm.STOP_SUPERVISOR:
                return self._instances[target].find("supervisor")
            case Harm.KILL_DISPATCHER | Harm.STOP_DISPATCHER:
                return self._instances[target].find("dispatcher")
            case Harm.KILL_TEMPLATE | Harm.STOP_TEMPLATE:
                return self._instances[target].find("template")
            case Harm.KILL_INSTANCE | Harm.STOP_INSTANCE:
                return list(self._instances[target].processes())
        found = [pid for instance in self._shop.instances for pid in instance.find(target)]
        naive = self._shop.design is Design.NAIVE
        return [found[sum(map(ord, target)) % len(found)]] if naive and found else found

    def _exhaust(self, target: str, whose: str) -> Undo:
        """Lower the limits of running processes to what they have open now."""
        roles = self._instances[target].processes()
        wanted = {
            "supervisor": {pid for pid, role in roles.items() if role == "supervisor"},
            "dispatcher": {pid for pid, role in roles.items() if role == "dispatcher"},
            "printers": {pid for pid, role in roles.items() if role not in ("supervisor", "dispatcher", "template")},
        }.get(whose, set(roles))
        before: dict[int, tuple[int, int]] = {}
        for pid in wanted if self._shop.design is Design.KPS else roles:
            with contextlib.suppress(ProcessLookupError, FileNotFoundError):
                limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
                opened = len(os.listdir(f"/proc/{pid}/fd"))
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (opened, limits[1]))
                before[pid] = limits
        if not before:
            raise Missed

        def restore() -> None:
            for pid, limits in before.items():
                with contextlib.suppress(ProcessLookupError):
                    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)

        return restore

    def _end_half_sent(self) -> Undo:
        """Let the next printer process that sends after DRAWN_FIRST_S die. By then every order has a picture.

        Whether a process died is known only at the end.
        """
        self._shop.till.draws.set()

        def spare() -> None:
            self._shop.till.draws.clear()
            if self._shop.half_sent.exists():
                self._shop.half_sent.unlink(missing_ok=True)
                self.hit[Harm.HALF_SENT] -= 1
                self.missed += 1

        return spare

    def _freeze_database(self) -> Undo:
        self._shop.server.pause()
        self._frozen = True

        def thaw() -> None:
            self._shop.server.resume()
            self._frozen = False

        return thaw

    def _silence_names(self) -> Undo:
        names = self._shop.names
        if names is None:
            raise Missed
        names.silent = True

        def speak() -> None:
            names.silent = False

        return speak

    def _terminate_a_backend(self) -> None:
        try:
            hit = self._terminated()
        except psycopg2.Error:
            hit = self._terminated_again()  # this connection was broken by the last restart
        if not hit:
            raise Missed

    def _terminated_again(self) -> list[dict[str, object]]:
        try:
            return self._terminated()
        except psycopg2.Error as error:
            raise Missed from error

    def _terminated(self) -> list[dict[str, object]]:
        return self._shop.pos.rows(
            "SELECT pg_terminate_backend(pid) FROM (SELECT pid FROM pg_stat_activity"
            " WHERE application_name LIKE 'kps:%%' OR application_name = 'naive' ORDER BY random() LIMIT 1) x"
        )

    def _lock_a_row(self, which: str) -> Undo:
        """Lock a ticket or its bill in an open transaction, as the POS may do; best of a ticket that is being printed.

        The ticket cannot be claimed meanwhile, so it may be overtaken.
        """
        if self._frozen:
            raise Missed  # a connect would wait for the end of the freeze, which this thread has to bring
        try:
            connection = psycopg2.connect(self._shop.database.dsn, connect_timeout=2, options="-c lock_timeout=500")
        except psycopg2.Error as error:
            raise Missed from error
        try:
            with connection.cursor() as cursor:
                cursor.execute(
                    "SELECT id, bill_id FROM kitchen_kitchenticket ORDER BY status <> 'printing', id DESC LIMIT 1"
                )
                if (row := cursor.fetchone()) is None:
                    raise Missed
                cursor.execute(_LOCKS[which], {"ticket": row[0], "bill": row[1]})
        except psycopg2.Error as error:
            connection.close()
            raise Missed from error
        self._shop.locked.add(row[0])

        def end() -> None:
            with contextlib.suppress(psycopg2.Error):  # the server may have been restarted
                if not self._frozen:  # else it would wait for the end of the freeze, which this thread has to bring
                    connection.commit()
            connection.close()

        return end

    def _fail_a_reply(self, kind: Harm, statement: str) -> Undo:
        """Let the reply to the next such statement of each instance fail. Whether any did is known only at the end."""
        kps = self._shop.design is Design.KPS
        # A promise has three forms, of which two have longer names; the others are meant by their whole name.
        name = statement if statement == "promise" else f"{statement} "
        words = f"EXECUTE kps_{name}".encode() if kps else _NAIVE_WORDS.get(statement, b"'new'")
        proxies = [instance.proxy for instance in self._shop.instances]
        before = sum(proxy.failed_replies for proxy in proxies)
        for proxy in proxies:
            proxy.fail_next_reply(words, ReplyFault.CUT if kind is Harm.REPLY_CUT else ReplyFault.DROPPED)

        def spare() -> None:
            for proxy in proxies:
                proxy.stop_failing_replies()
            if sum(proxy.failed_replies for proxy in proxies) == before:
                self.hit[kind] -= 1
                self.missed += 1

        return spare

    # -- printers --------------------------------------------------------------------------------------------------

    def _trouble(self, printer: VirtualPrinter, kind: Trouble, detail: str) -> Undo | None:
        match kind:
            case Trouble.REFUSES:
                printer.power_off()
                return printer.power_on
            case Trouble.POWER_CYCLE:
                return _power_cycle(printer, detail)
            case Trouble.HANGS:
                printer.hang()
                return lambda: printer.hang(False)
            case Trouble.SILENT:
                printer.silent()
                return lambda: printer.silent(False)
            case Trouble.TALKATIVE:
                printer.talk()
                return lambda: printer.talk(False)
            case Trouble.PAPER_OUT:
                printer.paper_out(after_lines=int(detail))
                return printer.load_paper
            case Trouble.COVER_OPEN:
                printer.open_cover()
                return printer.close_cover
            case Trouble.CUTTER_JAM:
                return self._jam(printer)
            case Trouble.RESET:
                printer.reset_next(detail)
                return None
            case Trouble.WRONG_ID:
                return self._lie(printer, detail)
            case _:
                assert_never(kind)

    def _jam(self, printer: VirtualPrinter) -> Undo:
        """A jam at the next cut. The end also mends a cutter that was not used: an idle backup must not jam later."""
        printer.cutter_error(at_next_cut=True)
        self._jammed.add(printer.name)

        def free() -> None:
            self._jammed.discard(printer.name)
            printer.mend_cutter()

        return free

    def _lie(self, printer: VirtualPrinter, how: str) -> Undo:
        fault = getattr(printer, "id_fault", None)
        if fault is None or self._shop.design is Design.NAIVE:
            raise Missed
        fault(how, times=3)

        def mended() -> None:
            if not self._frozen:  # else it would wait for the end of the freeze, which this thread has to bring
                with contextlib.suppress(psycopg2.Error):
                    self._shop.probe(printer.name)

        return mended


_LOCKS: Final = {
    "ticket": "SELECT 1 FROM kitchen_kitchenticket WHERE id = %(ticket)s FOR UPDATE",
    "saved ticket": "UPDATE kitchen_kitchenticket SET max_retries = max_retries WHERE id = %(ticket)s",
    "bill": "SELECT 1 FROM pos_bill WHERE id = %(bill)s FOR UPDATE",
}
_NAIVE_WORDS: Final = {"claim": b"'printing'", "promise": b"'printing'", "settle": b"'printed'"}


def _block_the_way(proxy: Proxy, kind: Harm, detail: str) -> Undo:
    if kind is Harm.WAY_CUT:
        proxy.cut()
        return proxy.mend
    proxy.slow(float(detail))
    return lambda: proxy.slow(0.0)


def _power_cycle(printer: VirtualPrinter, detail: str) -> Undo | None:
    """Off and on again, at once, or after the cover was open for a while."""
    if not detail:
        printer.power_cycle()
        return None
    printer.open_cover()

    def off_and_on() -> None:
        printer.power_cycle()
        printer.close_cover()

    return off_and_on


def _signal(pids: list[int], number: signal.Signals) -> None:
    """Raises Missed if there is none."""
    hit = 0
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            hit += 1
    if not hit:
        raise Missed


def _stop(pids: list[int]) -> Undo:
    """SIGSTOP, undone by pidfd, because the process id may have been reused by then."""
    descriptors = []
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            descriptor = os.pidfd_open(pid)
            signal.pidfd_send_signal(descriptor, signal.SIGSTOP)
            descriptors.append(descriptor)
    if not descriptors:
        raise Missed

    def go_on() -> None:
        for descriptor in descriptors:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGCONT)
            os.close(descriptor)

    return go_on
