"""What is counted: by whom, for how long, and where it shows. Real processes, scraped over HTTP."""

from __future__ import annotations

import os
import signal
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from kps.demo.orders import PosWriter
from tests.conftest import Database, eventually
from tests.service.harness import Service, shop

Series = tuple[str, frozenset[tuple[str, str]]]


def series(name: str, **labels: str) -> Series:
    return name, frozenset(labels.items())


def scrape(service: Service, *kinds: str) -> dict[Series, float]:
    """All samples of /metrics; of these kinds of metrics only, if some are named."""
    return {
        series(sample.name, **sample.labels): sample.value
        for family in text_string_to_metric_families(service.get("/metrics").body)
        if not kinds or family.type in kinds
        for sample in family.samples
    }


def names(document: dict[str, list[dict[str, str]]]) -> list[str]:
    return [process["name"] for process in document["processes"]]


def test_a_printer_that_is_removed_vanishes_and_what_it_has_counted_stays(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, {"kitchen-1": ("kitchen", 1), "bar-1": ("bar", 1)}) as here:
        here.printed(pos.ticket("bar"))
        printed = series("kps_tickets_printed_total", printer="bar-1", proof="process_id")
        tries = series("kps_printer_tickets_total", printer="bar-1")
        eventually(lambda: scrape(here.service).get(tries) == 1, what="the ticket is counted")
        before = scrape(here.service, "counter", "histogram")

        pos.update_printer(here.rows["bar-1"], is_active=False)
        here.service.signal(signal.SIGHUP)
        eventually(lambda: "bar-1" not in names(here.service.health()), what="its process has vanished")
        after = scrape(here.service)
        assert names(here.service.status()) == ["dispatcher", "kitchen-1"]
        assert not [one for one in after if one[0].startswith("kps_child_") and ("child", "bar-1") in one[1]
                    and not one[0].endswith("_total")]  # fmt: skip
        assert {one: (value, after.get(one)) for one, value in before.items() if after.get(one, -1) < value} == {}
        assert here.service.status()["tickets"]["processed"] == 1

        pos.update_printer(here.rows["bar-1"], is_active=True)
        here.service.signal(signal.SIGHUP)
        here.service.wait_for_child("bar-1")
        here.printed(pos.ticket("bar"))
        eventually(lambda: scrape(here.service).get(tries) == 2, what="its successor counts on")
        assert printed[0] in {name for name, _ in scrape(here.service)}


def test_no_counter_falls_when_children_and_connections_die_and_the_supervisors_own_errors_show(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, {"bar-1": ("bar", 1)}) as here:
        here.printed(pos.ticket("bar"))
        pos.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

        def told() -> bool:
            found = scrape(here.service)
            errors = [
                found.get(series("kps_db_errors_total", child=child), 0)
                for child in ("supervisor", "dispatcher", "bar-1")
            ]
            return all(errors) and found.get(series("kps_listener_reconnects_total"), 0) == 1

        def work() -> bool:
            # A printer process notices that its connection is gone when it needs it.
            here.printed(pos.ticket("bar"))
            return told()

        eventually(work, timeout=30.0, what="everybody has noticed, and says so")
        before = scrape(here.service, "counter", "histogram")
        children = here.service.children()
        for pid in children.values():
            os.kill(pid, signal.SIGKILL)
        for name, pid in children.items():
            here.service.wait_for_child(name, other_than=pid)
        here.printed(pos.ticket("bar"))
        eventually(
            lambda: scrape(here.service).get(series("kps_claims_total"), 0) > before[series("kps_claims_total")],
            what="the new processes have counted",
        )
        after = scrape(here.service, "counter", "histogram")
        assert {one: (value, after.get(one)) for one, value in before.items() if after.get(one, -1) < value} == {}


def test_each_waiting_ticket_is_counted_once_at_the_device_that_it_waits_for(
    pos: PosWriter, pos_database: Database, tmp_path: Path
) -> None:
    with shop(pos, pos_database, tmp_path, {"kitchen-1": ("kitchen", 1)}, PRINTER_DOWN_POLICY="hold") as here:
        device = here.printers["kitchen-1"]
        pos.add_printer(device.host, device.port, "bar", 1, "bar-1", timeout_seconds=2)
        eventually(lambda: len(here.service.health()["printers"]) == 2, what="the second row is known")
        device.power_off()
        for station in ("kitchen", "kitchen", "kitchen", "bar", "bar"):
            pos.ticket(station)

        def queued() -> dict[Series, float]:
            found = scrape(here.service).items()
            return {one: value for one, value in found if one[0] == "kps_tickets_queued"}

        eventually(
            lambda: queued() == {series("kps_tickets_queued", printer="kitchen-1"): 5},
            timeout=20.0,
            what="one queue of five tickets",
        )
        rows = {row["name"]: row["queued"] for row in here.service.health()["printers"]}
        assert rows == {"kitchen-1": 3, "bar-1": 2}
