"""The papers that have come out of a virtual printer."""

from __future__ import annotations

from dataclasses import replace

from kps.demo.virtual_printer.records import Paper


class PaperTray:
    """All papers, oldest first. `whole`: only so many of the newest keep bytes and bitmaps; None = all."""

    def __init__(self, whole: int | None) -> None:
        self.papers: list[Paper] = []
        self._whole = whole

    def add(self, paper: Paper) -> None:
        """One more has come out."""
        self.papers.append(paper)
        if self._whole is not None and len(self.papers) > self._whole:
            self._slim(len(self.papers) - self._whole - 1)

    def _slim(self, place: int) -> None:
        bitmaps = tuple(replace(raster, data=b"") for raster in self.papers[place].raster)
        self.papers[place] = replace(self.papers[place], raw=b"", raster=bitmaps)
