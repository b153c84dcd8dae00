"""Settings from the environment: their defaults, their limits, and every fault at once."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest

from kps.config import EXIT_BAD_CONFIGURATION, BadConfiguration, Environment, default_run_dir, load
from kps.core.abilities import Abilities
from kps.core.settings import DatabaseSettings, PrinterDownPolicy, Settings
from kps.core.tickets import ProofLevel

PROMISED = {
    # the product's document
    "DB_HOST": "edge_db",
    "DB_PORT": 5432,
    "DB_NAME": "fnb_edge_db",
    "DB_USER": "postgres",
    "DB_PASSWORD": "postgres123",
    "POLL_INTERVAL": 2.0,
    "MAX_TICKETS_PER_POLL": 10,
    "MAX_PRINT_RETRIES": 3,
    "RETRY_DELAY_SECONDS": 5.0,
    "HEALTH_CHECK_PORT": 9100,
    "LOG_LEVEL": "INFO",
    # our own
    "LOG_DIR": "./logs",
    "TICKET_LANGUAGE": "en",
    "HEALTH_CHECK_HOST": "0.0.0.0",
    "POS_WIDGET_PORT": 5001,
    "HOLD_SECONDS": 20.0,
    "RESCUE_MINUTES": 30.0,
    "STALE_AFTER_MINUTES": 240.0,
    "UNROUTABLE_GRACE_SECONDS": 60.0,
    "RECLAIM_SECONDS": 60.0,
    "HEALTH_RETENTION_DAYS": 14.0,
    "PRINTER_DOWN_POLICY": PrinterDownPolicy.FAIL,
    "AUTO_MIGRATE": True,
    "NOTIFY_TRIGGER": True,
    "SITE": "",
    "STATIONS": frozenset(),
    "BRANDS": frozenset(),
    "PRINTER_IDLE_CLOSE_SECONDS": 0.0,
    "VOID_SLIP_MINUTES": 45.0,
    "VOID_SLIPS": "on",
    "DAY_START": "04:00",
    "TOP_FEED_LINES": 0,
    "BEEP": False,
}


@pytest.mark.parametrize(("name", "value"), PROMISED.items())
def test_the_defaults_are_the_promised_ones(name: str, value: object) -> None:
    assert Environment.model_fields[name.lower()].default == value


def test_an_empty_environment_gives_the_default_settings() -> None:
    found = load({})
    assert replace(found, run_dir="") == Settings()
    assert found.database == DatabaseSettings()
    assert found.run_dir == str(default_run_dir("kps"))


def test_the_process_environment_does_not_leak_into_a_given_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DB_HOST", "elsewhere")
    assert load({}).database.host == "edge_db"
    assert load().database.host == "elsewhere"


def test_every_setting_reaches_its_place() -> None:
    given = {
        "DB_HOST": "h", "DB_PORT": "1", "DB_NAME": "n", "DB_USER": "u", "DB_PASSWORD": " p ", "DB_SSLMODE": "REQUIRE",
        "DB_SCHEMA": "shop",
        "INSTANCE_NAME": "two", "SITE": "shop", "STATIONS": "Kitchen, BAR ,,", "BRANDS": "A", "POLL_INTERVAL": "0.5",
        "MAX_TICKETS_PER_POLL": "7", "MAX_PRINT_RETRIES": "4", "RETRY_DELAY_SECONDS": "6", "HEALTH_CHECK_HOST": "::1",
        "HEALTH_CHECK_PORT": "8", "POS_WIDGET_PORT": "0", "HTTP_TOKEN": "t", "LOG_LEVEL": "debug", "LOG_DIR": "",
        "LOG_FORMAT": "JSON", "RUN_DIR": "/run/x", "AUTO_MIGRATE": "off", "NOTIFY_TRIGGER": "no",
        "PRINTER_DOWN_POLICY": "HOLD", "HOLD_SECONDS": "9", "RESCUE_MINUTES": "0", "STALE_AFTER_MINUTES": "11",
        "UNROUTABLE_GRACE_SECONDS": "12", "RECLAIM_SECONDS": "13", "DRAIN_SECONDS": "14", "LATE_AFTER_MINUTES": "15",
        "PRINTER_IDLE_CLOSE_SECONDS": "16", "HEALTH_RETENTION_DAYS": "17", "TICKET_LANGUAGE": "ID",
        "ALLERGY_WORDS": "Keto, babi", "FONT_DIRS": "/a: /b", "TOP_FEED_LINES": "3", "BEEP": "on", "DAY_START": "05:30",
        "VOID_SLIP_MINUTES": "20", "VOID_SLIPS": "Kitchen, bar",
        "PRINTER_NETWORKS": "10.1.2.3/16, Private", "PRINTER_DEVICES": "/dev/usb/lp0, /dev/serial/by-id/*",
        "PROOF_LEVELS": "Kitchen=1=Process_ID + clears, 10.0.0.5:9100=none",
    }  # fmt: skip
    found = load(given)
    assert found == Settings(
        database=DatabaseSettings("h", 1, "n", "u", " p ", "require", "shop"),
        instance_name="two", site="shop", stations=frozenset({"kitchen", "bar"}), brands=frozenset({"a"}),
        poll_interval_s=0.5, max_tickets_per_poll=7, max_print_retries=4, retry_delay_s=6.0, health_host="::1",
        health_port=8, widget_port=0, http_token="t", log_level="DEBUG", log_dir="", log_format="json",
        run_dir="/run/x", auto_migrate=False, notify_trigger=False, printer_down_policy=PrinterDownPolicy.HOLD,
        ticket_language="id", allergy_words=("Keto", "babi"), font_dirs=("/a", "/b"), top_feed_lines=3, beep=True,
        day_start_minutes=330, void_slip_minutes=20.0, void_slip_stations=frozenset({"kitchen", "bar"}),
        hold_s=9.0, rescue_minutes=0.0, stale_after_minutes=11.0, unroutable_grace_s=12.0, reclaim_s=13.0,
        printer_networks=("10.1.0.0/16", "private"), printer_devices=("/dev/usb/lp0", "/dev/serial/by-id/*"),
        drain_s=14.0, late_after_minutes=15.0, idle_close_s=16.0, health_retention_days=17.0,
        proof_levels=(
            ("kitchen=1", Abilities(ProofLevel.PROCESS_ID, clears=True)),
            ("10.0.0.5:9100", Abilities(ProofLevel.NONE)),
        ),
    )  # fmt: skip
    untouched = [one.name for one in fields(Settings) if getattr(found, one.name) == getattr(Settings(), one.name)]
    assert untouched == []


def test_an_empty_variable_is_as_good_as_none() -> None:
    assert load({"DB_PORT": "", "POLL_INTERVAL": "  ", "STATIONS": ""}) == load({})


@pytest.mark.parametrize("name", ["db_port", "Db_Port", "DB_PORT"])
def test_names_are_read_without_case_and_values_trimmed(name: str) -> None:
    assert load({name: " 6000 "}).database.port == 6000


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DB_PORT", "0"),
        ("DB_PORT", "65536"),
        ("DB_PORT", "many"),
        ("POLL_INTERVAL", "0"),
        ("POLL_INTERVAL", "nan"),
        ("POLL_INTERVAL", "inf"),
        ("RETRY_DELAY_SECONDS", "-1"),
        ("RETRY_DELAY_SECONDS", "nan"),
        ("HEALTH_RETENTION_DAYS", "nan"),
        ("MAX_TICKETS_PER_POLL", "0"),
        ("MAX_TICKETS_PER_POLL", "2.5"),
        ("MAX_PRINT_RETRIES", "0"),
        ("PROOF_LEVELS", "kitchen-1"),
        ("PROOF_LEVELS", "=realtime"),
        ("PROOF_LEVELS", "kitchen-1=best"),
        ("PROOF_LEVELS", "kitchen-1=fence+sings"),
        ("LOG_LEVEL", "LOUD"),
        ("LOG_FORMAT", "xml"),
        ("INSTANCE_NAME", "a b"),
        ("SITE", "a:b"),
        ("AUTO_MIGRATE", "perhaps"),
        ("PRINTER_DOWN_POLICY", "panic"),
        ("TICKET_LANGUAGE", "xx"),
        ("DAY_START", "24:00"),
        ("DAY_START", "4"),
        ("TOP_FEED_LINES", "-1"),
        ("BEEP", "loud"),
        ("VOID_SLIP_MINUTES", "nan"),
        ("DB_SSLMODE", "maybe"),
        ("PRINTER_NETWORKS", "10.0.0.0/33"),
        ("PRINTER_NETWORKS", "kitchen"),
        ("PRINTER_NETWORKS", ","),
        ("PRINTER_DEVICES", "/etc/*"),
        ("PRINTER_DEVICES", "any"),
        ("DB_SCHEMA", 'public"; DROP'),
        ("STALE_AFTER_MINUTES", "0"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(BadConfiguration) as refused:
        load({name: value})
    (fault,) = refused.value.faults
    assert fault.startswith(f"{name}: ")
    assert repr(value) in fault


def test_every_fault_is_reported_at_once() -> None:
    with pytest.raises(BadConfiguration) as refused:
        load({"DB_PORT": "x", "POLL_INTERVAL": "-1", "LOG_LEVEL": "x", "AUTO_MIGRATE": "x"})
    assert [fault.partition(":")[0] for fault in refused.value.faults] == [
        "AUTO_MIGRATE", "DB_PORT", "LOG_LEVEL", "POLL_INTERVAL",
    ]  # fmt: skip
    assert all(fault in str(refused.value) for fault in refused.value.faults)


def test_bad_settings_end_with_the_exit_code_of_a_bad_configuration() -> None:
    assert EXIT_BAD_CONFIGURATION == 78


def test_secrets_are_never_shown() -> None:
    found = load({"DB_PASSWORD": "geheim", "HTTP_TOKEN": "geheim"})
    assert "geheim" not in repr(found)


def test_the_run_folder_is_the_same_at_every_start_and_another_for_every_instance(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert default_run_dir("a") == default_run_dir("a") == tmp_path / "kps-a"
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "missing"))
    assert default_run_dir("a") != default_run_dir("b")
    assert default_run_dir("a").name.endswith("-a")


def test_the_two_http_ports_must_differ() -> None:
    with pytest.raises(BadConfiguration) as caught:
        load({"HEALTH_CHECK_PORT": "9200", "POS_WIDGET_PORT": "9200"})
    assert caught.value.faults == ["POS_WIDGET_PORT: must not be HEALTH_CHECK_PORT (both are 9200)"]


@pytest.mark.parametrize(
    ("given", "stations"), [("on", None), ("OFF", frozenset()), ("0", frozenset()), ("Bar", frozenset({"bar"}))]
)
def test_void_slips_are_on_off_or_for_some_stations(given: str, stations: frozenset[str] | None) -> None:
    assert load({"VOID_SLIPS": given}).void_slip_stations == stations
