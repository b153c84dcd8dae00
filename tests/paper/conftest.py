"""Fonts for the tests of the paper: those of this machine, or none."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kps.paper import fonts


@pytest.fixture
def no_fonts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A machine on which no font is installed."""
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
