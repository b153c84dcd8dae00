"""The README and the runbook say what the code does: settings, metrics, phrases, codes, signals, routes, commands."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from kps.cli.commands import app as commands
from kps.config import Environment
from kps.core.health import Snapshot
from kps.core.tickets import Reason
from kps.web.app import health_app, widget_app
from kps.web.metrics import METRICS

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
OPERATIONS = ROOT / "docs" / "operations.md"
ARCHITECTURE = ROOT / "docs" / "architecture.md"
PAGES = [README, ROOT / "CHANGELOG.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]

LEVELS = ("debug", "info", "warning", "error", "critical")
OUTSIDE = ("demo", "cli")
"""Packages whose words are for the person in front of the terminal."""

Rows = list[list[str]]


def table(page: Path, heading: str, first_column: str = "") -> Rows:
    """The cells of the table under a heading, without back-ticks; `first_column` chooses one of several."""
    text = page.read_text("utf-8")
    level = heading.split(" ", 1)[0]
    section = re.split(rf"^#{{1,{len(level)}}} ", text.split(f"\n{heading}\n", 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    for block in re.findall(r"(?:^\|.*\|\n)+", section, re.MULTILINE):
        head, _, *body = [_cells(line) for line in block.splitlines()]
        if not first_column or head[0] == first_column:
            return body
    raise AssertionError(f"no table {first_column!r} under {heading!r}")


def _cells(line: str) -> list[str]:
    return [cell.strip().replace("`", "") for cell in line.strip("|\n").split("|")]


@cache
def sources() -> tuple[tuple[Path, ast.Module], ...]:
    """Every module of the service, parsed."""
    paths = sorted((ROOT / "kps").rglob("*.py"))
    inside = [path for path in paths if path.relative_to(ROOT / "kps").parts[0] not in OUTSIDE]
    return tuple((path, ast.parse(path.read_text("utf-8"))) for path in inside)


def nodes() -> Iterator[ast.AST]:
    for _, module in sources():
        yield from ast.walk(module)


def shown(default: object) -> str:
    """A default as one would write it into the environment."""
    match default:
        case bool():
            return "on" if default else "off"
        case Enum():
            return str(default.value)
        case float():
            return f"{default:g}"
        case frozenset() | "" | ():
            return "(empty)"
        case _:
            return str(default)


def test_the_readme_lists_every_setting_with_its_default_and_no_other() -> None:
    listed = {name: default for name, default, _ in table(README, "## Settings")}
    assert listed == {name.upper(): shown(field.default) for name, field in Environment.model_fields.items()}


def test_the_readme_lists_every_metric_with_its_type_and_labels_and_no_other() -> None:
    assert table(README, "### Metrics") == [
        [info.name, info.type, ", ".join(info.labels), info.help] for info in METRICS
    ]


def phrases() -> dict[str, set[str]]:
    """Every phrase that the service logs, with its levels."""
    found: dict[str, set[str]] = defaultdict(set)
    for node in nodes():
        match node:
            case ast.Call(func=ast.Attribute(value=value, attr=level), args=[first, *_]) if level in LEVELS:
                if _is_logger(value):
                    found[_constant(first)].add(level)
            case ast.Call(func=ast.Attribute(value=value, attr="log"), args=[_, first, *_]) if _is_logger(value):
                found[_constant(first)] |= {"info", "warning"}
    return found


def _is_logger(value: ast.expr) -> bool:
    match value:
        case ast.Name(id="log" | "_log"):
            return True
        case ast.Call(func=ast.Attribute(attr="getLogger")):
            return True
    return False


def _constant(phrase: ast.expr) -> str:
    assert isinstance(phrase, ast.Constant), f"line {phrase.lineno}: a phrase is fixed, facts go into fields"
    assert isinstance(phrase.value, str)
    return phrase.value


def test_the_runbook_explains_every_log_phrase_with_its_levels_and_no_other() -> None:
    listed = {phrase: set(levels.split(", ")) for phrase, levels, *_ in table(OPERATIONS, "## Log phrases")}
    assert listed == phrases()


def test_every_log_phrase_that_the_readme_names_exists() -> None:
    section = README.read_text("utf-8").split("Searched for most:", 1)[1].split(".", 1)[0]
    named = set(re.findall(r"`([^`]+)`", section))
    assert named
    assert named <= phrases().keys()


def test_the_runbook_explains_every_error_code_and_no_other() -> None:
    assert [code for code, *_ in table(OPERATIONS, "## Failed tickets")] == [reason.value for reason in Reason]


def reasons(file: str, *functions: str) -> Iterator[str]:
    """The longest fixed part of each sentence that these functions yield, append or add."""
    (module,) = [module for path, module in sources() if path == ROOT / "kps" / file]
    for function in ast.walk(module):
        if isinstance(function, ast.FunctionDef) and function.name in functions:
            for node in ast.walk(function):
                if isinstance(node, ast.JoinedStr):
                    parts = [part.value for part in node.values if isinstance(part, ast.Constant)]
                    longest = max(map(str, parts), key=len)
                    if " " in longest:  # else it is a format such as .0f
                        yield longest.strip()
                elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.count(" ") >= 2:
                    yield node.value.strip()


def sentences() -> set[str]:
    found = set(reasons("core/health.py", "_what_stops_everything", "_what_needs_a_person"))
    found |= set(reasons("core/health.py", "_what_is_wrong_with_printers"))
    found |= set(reasons("supervisor/snapshot.py", "_notices"))
    found |= set(reasons("core/limits.py", "_sentence"))
    return found


@pytest.mark.parametrize("sentence", sorted(sentences()))
def test_the_runbook_explains_every_reason_and_notice_of_health(sentence: str) -> None:
    rows = table(OPERATIONS, "## /health", "reason") + table(OPERATIONS, "## /health", "notice")
    listed = " ".join(cell for cell, *_ in rows)
    assert sentence in listed


def constants(prefix: str) -> dict[str, set[Any]]:
    """The values of the module constants whose name begins so."""
    found: dict[str, set[Any]] = defaultdict(set)
    for _, module in sources():
        for node in module.body:
            match node:
                case ast.Assign(targets=[ast.Name(id=name)], value=ast.Constant(value=value)) if name.startswith(
                    prefix
                ):
                    found[name].add(value)
    return found


def test_the_readme_lists_every_exit_code_and_no_other() -> None:
    codes = set().union(*constants("EXIT_").values())
    assert {int(code) for code, _ in table(README, "## Exit codes")} == codes


def handled_signals() -> set[str]:
    """The signals that the supervisor installs a handler for."""
    return {
        node.attr
        for function in nodes()
        if isinstance(function, ast.FunctionDef) and function.name == "install_signals"
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute) and node.attr.startswith("SIG")
    }


def test_the_readme_lists_every_signal_and_no_other() -> None:
    listed = {name for names, _ in table(README, "## Signals") for name in names.split(", ")}
    assert listed == handled_signals()


def no_snapshot() -> Snapshot:
    raise AssertionError("nobody asks")


def test_the_readme_lists_every_route_and_no_other() -> None:
    apps = {"HEALTH_CHECK_PORT": health_app(no_snapshot), "POS_WIDGET_PORT": widget_app(no_snapshot)}
    routes = {(port, rule.rule) for port, app in apps.items() for rule in app.url_map.iter_rules()}
    assert {(port, path) for port, path, _ in table(README, "## HTTP")} == routes


def test_the_readme_names_every_command_and_no_other() -> None:
    line = README.read_text("utf-8").split("\nCommands: ", 1)[1].split("\n", 1)[0]
    listed = set(re.findall(r"`kps ([\w-]+)`", line))
    callbacks = {(command.name, command.callback) for command in commands.registered_commands}
    assert listed == {name or getattr(callback, "__name__", "") for name, callback in callbacks}


def test_every_make_target_that_a_page_names_exists() -> None:
    makefile = ROOT / "Makefile"
    if not makefile.exists():
        pytest.skip("there is no Makefile")
    targets = set(re.findall(r"^([a-z][\w-]*):", makefile.read_text("utf-8"), re.MULTILINE))
    text = "\n".join(page.read_text("utf-8") for page in PAGES)
    named = set(re.findall(r"(?:`|^    )make ([a-z][\w-]*)", text, re.MULTILINE))
    assert {"demo", "test"} <= named
    assert named <= targets


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_to_a_file_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]*)(?:#[^)]*)?\)", page.read_text("utf-8"))
    assert [link for link in links if link and not (page.parent / link).exists()] == []


def test_every_module_and_folder_that_the_architecture_names_exists() -> None:
    named = re.findall(r"`([\w./-]+(?:\.(?:py|toml)|/))`", ARCHITECTURE.read_text("utf-8"))
    assert len(named) > 30
    below = (ROOT, ROOT / "kps", ROOT / "kps" / "database")
    assert [name for name in named if not any((folder / name).exists() for folder in below)] == []


def test_decisions_are_numbered_without_gaps_and_short() -> None:
    records = sorted((ROOT / "docs" / "decisions").glob("*.md"))
    assert [int(record.name[:4]) for record in records] == list(range(1, len(records) + 1))
    for record in records:
        text = record.read_text("utf-8")
        assert text.startswith(f"# {record.name[:4]} "), record.name
        assert all(f"**{part}**" in text for part in ("Situation.", "Decision.", "Price.")), record.name
        assert len(text.splitlines()) <= 40, f"{record.name} is a record, not a book"
