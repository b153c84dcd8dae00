"""The template process and its copies, with real forks; each scene in a process of its own that reaps for them."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

from tests.process import template_scenes

SCENES = [
    name
    for name, scene in inspect.getmembers(template_scenes, inspect.isfunction)
    if list(inspect.signature(scene).parameters) == ["folder"] and not name.startswith("_")
]


@pytest.mark.parametrize("scene", SCENES)
def test_in_a_house_of_its_own(scene: str, tmp_path: Path) -> None:
    played = subprocess.run(
        # A fork beside a second thread is a DeprecationWarning from Python 3.12 on, and as an error it would be silent.
        [sys.executable, "-W", "always::DeprecationWarning", "-m", template_scenes.__name__, scene, str(tmp_path)],
        capture_output=True, text=True, timeout=60, check=False, cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert played.returncode == 0, played.stderr
    assert "multi-threaded" not in played.stderr
    if scene == "what_fails_in_a_copy_ends_the_copy_and_not_as_a_second_template":
        assert "the disk" in played.stderr, "it is said why"
    if scene == "a_step_that_cannot_be_taken_costs_no_copy":
        assert "libjpeg.so.62 is not here" in played.stderr, "it is said why"
        assert "the disk" in played.stderr
