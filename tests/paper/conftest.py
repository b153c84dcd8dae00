"""Fonts for the tests of the paper: those of the installation and of this machine, or fewer."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kps.paper import fonts


@pytest.fixture
def no_fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Neither the installation nor the machine has any font."""
    monkeypatch.setattr(fonts, "_SYSTEM", ())
    monkeypatch.setattr(fonts, "_installed_folders", tuple)
    fonts.fonts_in.cache_clear()
    yield
    fonts.fonts_in.cache_clear()


@pytest.fixture
def bare_machine(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine that has no fonts but those that the installation brings."""
    monkeypatch.setattr(fonts, "_SYSTEM", ())
    fonts.fonts_in.cache_clear()
    yield
    fonts.fonts_in.cache_clear()


@pytest.fixture
def fresh_fonts() -> Iterator[None]:
    """Fonts are searched again, as by the first picture of a process."""
    fonts.fonts_in.cache_clear()
    yield
    fonts.fonts_in.cache_clear()
