"""What a probe finds out about printers that tell the truth, and about those that do not."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from kps.core.address import TcpAddress
from kps.core.process_ids import process_id_text
from kps.core.tickets import ProofLevel
from kps.demo.virtual_printer import Cap, EventKind, Unknown, VirtualPrinter
from kps.device import probe as steps
from kps.device.probe import Card, Findings, probe
from kps.device.probe_wire import Limits, ProbeFailed
from tests.device.watcher import Interrupted, Watcher

QUICK = Limits(
    connect_s=2.0, answer_s=0.25, quiet_s=0.15, change_s=0.5, clear_s=0.25, stalled_s=8.0, proof_s=lambda lines: 1.2
)
PATIENT = dataclasses.replace(QUICK, proof_s=lambda lines: 10.0)
"""For proofs that come, though not at once."""
STATUS_ONLY = frozenset({Cap.REALTIME, Cap.IDENTITY})


@contextmanager
def device(profile: str = "epson-t20iii", **changes: Any) -> Iterator[VirtualPrinter]:
    with VirtualPrinter(profile=profile, **changes) as printer:
        yield printer


def probed(printer: VirtualPrinter, person: Watcher | None = None, **options: Any) -> Findings:
    numbers = itertools.count(7_000_001, 4)
    options.setdefault("may_go_on", lambda: True)
    options.setdefault("limits", QUICK)
    return probe(
        TcpAddress(printer.host, printer.port),
        person or Watcher(printer),
        card=Card("kitchen-1", f"{printer.host}:{printer.port}", "2026-11-23 19:30"),
        next_id=lambda: process_id_text(next(numbers)),
        **options,
    )


def level(printer: VirtualPrinter, person: Watcher | None = None, limits: Limits = QUICK) -> ProofLevel | None:
    return probed(printer, person, limits=limits).abilities.level


@pytest.mark.parametrize(
    ("profile", "expected", "pushes", "clears"),
    [
        ("epson-t20iii", ProofLevel.PROCESS_ID, True, True),
        ("epson-u220", ProofLevel.FENCE, True, True),
        ("hprt-tp80k", ProofLevel.REALTIME, True, True),
        ("xprinter-80", ProofLevel.FENCE, True, False),
        ("generic", ProofLevel.FENCE, True, False),
        ("mute", ProofLevel.NONE, False, False),
    ],
)
def test_each_kind_of_printer_gets_the_level_that_it_shows(
    profile: str, expected: ProofLevel, pushes: bool, clears: bool
) -> None:
    with device(profile) as printer:
        abilities = probed(printer).abilities
        assert (abilities.level, abilities.pushes, abilities.clears) == (expected, pushes, clears)
        assert not printer.sensors.offline


def test_a_name_is_written_down_and_gains_no_level() -> None:
    with device("impostor", caps=STATUS_ONLY) as printer:
        found = probed(printer)
        assert (found.maker, found.model, found.abilities.level) == ("EPOSN", "TM-T88V", ProofLevel.REALTIME)
    with device() as printer:
        found = probed(printer)
        assert (found.maker, found.model, found.serial) == ("EPSON", "TM-T20III", "X5FT0001")
        assert found.abilities.firmware == "1.05 ESC/POS"


def test_the_card_names_the_printer_and_the_last_slip_its_level_and_every_paper_is_cut() -> None:
    with device() as printer:
        probed(printer)
        printer.wait_connections(0)
        printer.wait_text("LEVEL process_id")
        card = printer.papers[0]
        assert card.text.splitlines()[:3] == ["kitchen-1", f"{printer.host}:{printer.port}", "2026-11-23 19:30"]
        rulers = [line for line in card.text.splitlines() if line.startswith("12345678901")]
        assert [len(line) for line in rulers] == [48, 42, 32]
        assert printer.texts()[-1].splitlines()[2:] == ["LEVEL process_id", "pushes", "clears"]
        assert all(paper.complete for paper in printer.papers)


def test_a_real_printer_that_takes_its_time_is_waited_for() -> None:
    with device(speed="real", lines_per_s=60.0, cut_s=0.2) as printer:
        assert level(printer, limits=PATIENT) is ProofLevel.PROCESS_ID


def test_a_printer_with_a_receive_buffer_of_45_bytes_is_cleared() -> None:
    with device(receive_buffer=45) as printer:
        assert probed(printer).abilities.clears


# Nobody there.


@pytest.mark.parametrize(
    ("profile", "expected"),
    [("epson-t20iii", ProofLevel.REALTIME), ("generic", ProofLevel.REALTIME), ("mute", ProofLevel.NONE)],
)
def test_without_a_person_nothing_above_realtime_is_found(profile: str, expected: ProofLevel) -> None:
    with device(profile) as printer:
        person = Watcher(printer, present=False)
        abilities = probed(printer, person).abilities
        assert (abilities.level, abilities.pushes, abilities.clears) == (expected, False, False)
        assert person.asked == []
        sent = [event.text for event in printer.events if event.kind in (EventKind.COMMAND, EventKind.UNKNOWN)]
        assert "GS r" not in sent
        assert "GS ( H" not in sent


def test_without_a_person_a_printer_that_cannot_print_is_not_probed() -> None:
    with device() as printer:
        printer.paper_out()
        with pytest.raises(ProbeFailed, match="the printer cannot print: paper out"):
            probed(printer, Watcher(printer, present=False))


# Liars.


def test_answers_that_are_fine_with_the_cover_open_are_worth_nothing() -> None:
    with device(constant_ok=True) as printer:
        found = probed(printer)
        assert (found.abilities.level, found.abilities.pushes) == (ProofLevel.NONE, False)
        assert any("nothing that it says is worth anything" in remark for remark in found.remarks)


@pytest.mark.parametrize("fault", ["wrong", "constant", "lost", "previous"])
def test_a_process_id_that_does_not_come_back_as_it_was_sent_proves_nothing(fault: str) -> None:
    with device() as printer:
        printer.id_fault(fault)
        assert level(printer) is ProofLevel.FENCE


def test_an_id_that_is_lost_once_is_enough_for_doubt() -> None:
    with device() as printer:
        printer.id_fault("lost", times=1)
        assert level(printer) is ProofLevel.FENCE


@pytest.mark.parametrize("fault", ["late", "doubled", "latest_only"])
def test_a_true_process_id_counts_however_it_comes(fault: str) -> None:
    with device() as printer:
        printer.id_fault(fault)
        assert level(printer, limits=PATIENT) is ProofLevel.PROCESS_ID


def test_a_network_board_that_answers_the_fence_on_arrival_gets_no_fence() -> None:
    with device("generic") as printer:
        printer.fence_fault("at_arrival")
        found = probed(printer)
        assert found.abilities.level is ProofLevel.REALTIME
        assert any("its network board does" in remark for remark in found.remarks)


@pytest.mark.parametrize("fault", ["doubled", "stale", "lost"])
def test_a_fence_that_comes_twice_or_never_is_none(fault: str) -> None:
    with device("generic") as printer:
        printer.fence_fault(fault)
        assert level(printer) is ProofLevel.REALTIME


@pytest.mark.parametrize("noise", ["flow_control", "random", "trailing_text"])
def test_noise_around_the_answers_hides_no_process_id(noise: str) -> None:
    with device() as printer:
        printer.noise(noise)
        assert level(printer) is ProofLevel.PROCESS_ID


def test_answers_that_are_torn_by_others_prove_nothing() -> None:
    with device() as printer:
        printer.noise("asb_inside")
        assert level(printer) is ProofLevel.REALTIME


def test_a_printer_that_falls_silent_with_its_cover_open_is_real_and_pushes_nothing() -> None:
    with device(silent_when_not_ready=True) as printer:
        found = probed(printer)
        assert (found.abilities.level, found.abilities.pushes) == (ProofLevel.PROCESS_ID, False)
        assert "It falls silent when it cannot print." in found.remarks


def test_the_fence_of_a_printer_that_says_nothing_while_it_is_not_ready_is_not_believed() -> None:
    with device("generic", silent_when_not_ready=True) as printer:
        found = probed(printer)
        assert (found.abilities.level, found.abilities.pushes) == (ProofLevel.REALTIME, False)
        assert any("would go unseen" in remark for remark in found.remarks)
        assert any("LEVEL realtime" in text for text in printer.texts())


def test_a_printer_that_prints_what_it_does_not_know_gets_what_it_really_can() -> None:
    with device("xprinter-80", unknown=Unknown.GARBAGE) as printer:
        assert level(printer) is ProofLevel.FENCE


@pytest.mark.parametrize(
    ("question", "expected", "clears"),
    [
        (steps.FENCE_CAME_OUT, ProofLevel.PROCESS_ID, True),
        (steps.LINES_CAME_OUT, ProofLevel.FENCE, True),
        (steps.NOTHING_STRANGE, ProofLevel.FENCE, True),
        (steps.NOTHING_CAME_OUT, ProofLevel.PROCESS_ID, False),
    ],
)
def test_what_the_person_does_not_see_is_not_proven(question: str, expected: ProofLevel, clears: bool) -> None:
    with device() as printer:
        abilities = probed(printer, Watcher(printer, {question: False})).abilities
        assert (abilities.level, abilities.clears) == (expected, clears)


def test_a_printer_that_drops_data_proves_nothing_by_its_answers() -> None:
    with device(speed="real", lines_per_s=2000.0, overflow="drop", nic_buffer=2048, receive_buffer=1024) as printer:
        person = Watcher(printer, look_s=1.5)
        assert probed(printer, person, overflow=True, limits=PATIENT).abilities.level is ProofLevel.REALTIME
    with device(speed="real", lines_per_s=2000.0) as printer:
        assert probed(printer, overflow=True, limits=PATIENT).abilities.level is ProofLevel.PROCESS_ID


# Not carried out.


def test_a_printer_that_is_not_ready_is_probed_once_somebody_has_mended_it() -> None:
    with device() as printer:
        printer.paper_out()
        person = Watcher(printer)
        assert level(printer, person) is ProofLevel.PROCESS_ID
        assert person.asked[0] == "The printer cannot print: paper out. Have you mended that?"


def test_a_silent_printer_that_is_not_well_is_no_mute_one() -> None:
    with device(silent_when_not_ready=True) as printer:
        printer.paper_out()
        with pytest.raises(ProbeFailed, match="is not well"):
            probed(printer)


@pytest.mark.parametrize("question", [steps.CARD_IS_HERE, steps.OPEN_THE_COVER, steps.CLOSE_THE_COVER])
def test_without_the_card_or_a_hand_at_the_cover_there_is_no_result(question: str) -> None:
    with device() as printer, pytest.raises(ProbeFailed):
        probed(printer, Watcher(printer, {question: False}))


def test_a_printer_that_is_off_or_held_by_somebody_else_cannot_be_reached() -> None:
    with device() as printer:
        printer.power_off()
        with pytest.raises(ProbeFailed, match="cannot be reached: connection refused"):
            probed(printer)
        printer.power_on()
        printer.hang()
        with pytest.raises(ProbeFailed, match="no card was seen"):
            probed(printer, Watcher(printer, look_s=0.5))
        with pytest.raises(ProbeFailed, match="answers nothing now, and it has before"):
            probed(printer, Watcher(printer, present=False), has_answered=True)


def test_a_printer_that_somebody_else_lets_go_in_time_is_reached() -> None:
    with device() as printer:
        printer.reset_next("accept")
        assert level(printer, Watcher(printer, present=False)) is ProofLevel.REALTIME


def test_a_connection_that_breaks_in_the_middle_is_no_result() -> None:
    with device() as printer:
        person = Watcher(printer)
        printer.reset_next("after_cut")
        with pytest.raises(ProbeFailed, match="the connection broke"):
            probed(printer, person)


@pytest.mark.parametrize("question", [steps.FENCE_CAME_OUT, steps.LINES_CAME_OUT, steps.CLOSE_THE_COVER])
def test_a_probe_that_is_broken_off_leaves_no_uncut_slip_and_no_connection(question: str) -> None:
    with device() as printer:
        with pytest.raises(Interrupted):
            probed(printer, Watcher(printer, breaks_off_at=question))
        printer.close_cover()
        printer.wait_connections(0)
        papers = len(printer.papers)
        assert papers
        assert all(paper.complete for paper in printer.papers)
        printer.stop()
        assert len(printer.papers) == papers


def test_when_the_printer_is_not_ours_any_more_not_a_byte_follows() -> None:
    with device() as printer:
        ours = [True]

        class Slow(Watcher):
            def confirm(self, question: str) -> bool:
                if question == steps.FENCE_CAME_OUT:
                    ours[0] = False
                    self.papers_before = printer.bytes_in
                return super().confirm(question)

        person = Slow(printer)
        with pytest.raises(ProbeFailed, match="not borrowed any more"):
            probed(printer, person, may_go_on=lambda: ours[0])
        printer.wait_connections(0)
        assert printer.bytes_in == person.papers_before


def test_no_probe_sends_what_is_never_sent() -> None:
    with device() as printer:
        probed(printer)
        sent = [event.data[:3] for event in printer.events if event.kind is EventKind.REALTIME]
        assert {data[:2] for data in sent} <= {b"\x10\x04", b"\x10\x14"}
        assert [data for data in sent if data[:2] == b"\x10\x14"] == [b"\x10\x14\x08"]
