"""The metrics that a scraper gets."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from snapshots import BAR, DESSERT, DISPATCHER, KITCHEN, KITCHEN_PROCESS, KITCHEN_WORKS

from kps.core.health import Snapshot
from kps.web.metrics import METRICS, KpsCollector, exposition


def registry_of(snapshot: Snapshot) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(KpsCollector(lambda: snapshot))
    return registry


def scrape(snapshot: Snapshot) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    _, body = exposition(registry_of(snapshot), "")
    samples: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
    for family in parse_text(body.decode()):
        for sample in family.samples:
            series = (sample.name, frozenset(sample.labels.items()))
            assert series not in samples, f"{series} stands twice in one scrape"
            samples[series] = sample.value
    return samples


def value(snapshot: Snapshot, name: str, /, **labels: str) -> float | None:
    return scrape(snapshot).get((name, frozenset(labels.items())))


def test_every_metric_of_the_list_is_exposed_with_its_type_and_nothing_else_is() -> None:
    _, body = exposition(registry_of(KITCHEN_WORKS), "")

    exposed = {}
    for family in parse_text(body.decode()):
        exposed[family.name + ("_total" if family.type == "counter" else "")] = (family.type, family.documentation)
        assert family.samples, f"{family.name} has no sample in a working kitchen"
    assert exposed == {info.name: (info.type, info.help) for info in METRICS}


def test_every_sample_has_the_labels_of_the_list() -> None:
    labels = {info.name: set(info.labels) for info in METRICS}

    for name, given in scrape(KITCHEN_WORKS):
        family = name.removesuffix("_bucket").removesuffix("_count").removesuffix("_sum")
        assert {label for label, _ in given} - {"le"} == labels[family]


def test_values_are_those_of_the_snapshot() -> None:
    assert value(KITCHEN_WORKS, "kps_tickets_printed_total", printer="Kitchen 1", proof="process_id") == 140
    assert value(KITCHEN_WORKS, "kps_printer_tickets_total", printer="Kitchen 1") == 148
    assert value(KITCHEN_WORKS, "kps_printer_ticket_failures_total", printer="Kitchen 1", reason="not_printed") == 3
    assert value(KITCHEN_WORKS, "kps_printer_fallbacks_total", **{"from": "Kitchen 1", "to": "吧台"}) == 4
    assert value(KITCHEN_WORKS, "kps_tickets_queued", printer="Kitchen 1") == 3
    assert value(KITCHEN_WORKS, "kps_poll_found_work_total") == 2
    assert value(KITCHEN_WORKS, "kps_child_restarts_total", child="Kitchen 1", reason="hung") == 1
    assert value(KITCHEN_WORKS, "kps_child_restarts_total", child="Kitchen 1", reason="signal") == 0
    assert value(KITCHEN_WORKS, "kps_child_state", child="Kitchen 1", state="up") == 1
    assert value(KITCHEN_WORKS, "kps_child_state", child="Kitchen 1", state="crash_loop") == 0
    assert value(KITCHEN_WORKS, "kps_build_info", version="0.1.0", instance="shop-7") == 1


def test_the_histogram_is_cumulative_with_its_count_and_sum() -> None:
    assert value(KITCHEN_WORKS, "kps_printer_print_seconds_bucket", printer="Kitchen 1", le="0.1") == 100
    assert value(KITCHEN_WORKS, "kps_printer_print_seconds_bucket", printer="Kitchen 1", le="+Inf") == 145
    assert value(KITCHEN_WORKS, "kps_printer_print_seconds_count", printer="Kitchen 1") == 145
    assert value(KITCHEN_WORKS, "kps_printer_print_seconds_sum", printer="Kitchen 1") == 31.5


def test_an_unknown_printer_is_neither_able_nor_unable() -> None:
    snapshot = replace(KITCHEN_WORKS, printers=(KITCHEN, BAR, DESSERT))

    assert value(snapshot, "kps_printer_able", printer="Kitchen 1") == 1
    assert value(snapshot, "kps_printer_able", printer="吧台") == 0
    assert value(snapshot, "kps_printer_able", printer="Dessert") is None


def test_two_printers_of_one_name_are_two_series() -> None:
    twins = replace(
        KITCHEN_WORKS,
        printers=(KITCHEN, replace(KITCHEN, id=9, brand_id="b2", key=":10.0.0.9:9100", queued=1)),
    )

    assert value(twins, "kps_printer_able", printer="Kitchen 1") == 1
    assert value(twins, "kps_printer_able", printer="Kitchen 1#2") == 1
    assert value(twins, "kps_tickets_queued", printer="Kitchen 1#2") == 1


def test_the_template_has_the_gauges_of_a_process_unless_a_printer_is_called_so() -> None:
    template = replace(DISPATCHER, name="template", kind="template", heartbeat_age_s=None)
    with_template = replace(KITCHEN_WORKS, template=template)
    assert value(KITCHEN_WORKS, "kps_child_up", child="template") is None
    assert value(with_template, "kps_child_up", child="template") == 1
    assert (
        value(replace(with_template, template=replace(template, state="dead")), "kps_child_up", child="template") == 0
    )
    named_so = replace(KITCHEN_PROCESS, name="template", state="stopping")
    printer = replace(with_template, children=(*KITCHEN_WORKS.children, named_so))
    assert value(printer, "kps_child_up", child="template") == 0


def test_a_service_that_has_just_started_can_be_scraped() -> None:
    empty = replace(KITCHEN_WORKS, children=(), printers=(), counters={}, failovers={}, snapshot_age_s=math.inf)

    assert value(empty, "kps_db_snapshot_age_seconds") == math.inf
    assert value(empty, "kps_claims_total") == 0


def test_lines_dropped_by_the_supervisor_itself_are_counted_with_the_childrens() -> None:
    snapshot = replace(KITCHEN_WORKS, counters={"counters.log_records_dropped": 9})

    assert value(snapshot, "kps_log_records_dropped_total", child="supervisor") == 9
    assert value(snapshot, "kps_log_records_dropped_total", child="Kitchen 1") == 7


def test_registering_asks_for_no_snapshot() -> None:
    def not_yet() -> Snapshot:
        raise AssertionError("there is no snapshot before the first round")

    CollectorRegistry().register(KpsCollector(not_yet))


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        ("", "text/plain; version=0.0.4"),
        ("text/html,*/*;q=0.1", "text/plain; version=0.0.4"),
        ("application/openmetrics-text;version=1.0.0,text/plain;q=0.5", "application/openmetrics-text; version=1.0.0"),
    ],
)
def test_the_body_fits_the_content_type_that_was_asked_for(accept: str, content_type: str) -> None:
    given, body = exposition(registry_of(KITCHEN_WORKS), accept)

    assert given.startswith(content_type)
    parse = parse_openmetrics if "openmetrics" in given else parse_text
    assert len(list(parse(body.decode()))) == len(METRICS)


@pytest.mark.parametrize(
    "accept", ["application/openmetrics-text; version=zzz", "text/plain; version=abc", ";;,,=", "\x7f"]
)
def test_an_odd_accept_header_gets_the_plain_format(accept: str) -> None:
    given, body = exposition(registry_of(KITCHEN_WORKS), accept)
    assert given.startswith("text/plain")
    assert b"kps_build_info" in body
