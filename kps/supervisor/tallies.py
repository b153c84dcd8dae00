"""What has been counted under each child's name: it stays when the name goes to another child, or to none."""

from __future__ import annotations

from collections.abc import Collection

from kps.core.health import Counted
from kps.process.counters import counted_in
from kps.supervisor.children import Child


class Tallies:
    """A printer's row may be renamed, removed or given to another device; what is counted under a name never falls."""

    def __init__(self) -> None:
        self._past: dict[str, Counted] = {}

    def keep(self, child: Child) -> None:
        """Its name is taken from it now: what it has counted so far stays with the name."""
        counted = counted_in(child.stats, child.restarts)
        self._past[child.name] = self._past.get(child.name, Counted()).plus(counted.minus(child.named_at))
        child.named_at = counted

    def of(self, child: Child, *, first: bool) -> Counted:
        """What has been counted under its name; if it is not the `first` that bears it now, without the past."""
        own = counted_in(child.stats, child.restarts).minus(child.named_at)
        past = self._past.get(child.name) if first else None
        return own if past is None else own.plus(past)

    def of_others(self, names: Collection[str]) -> dict[str, Counted]:
        """What has been counted under names other than these, which no child bears any more."""
        return {name: past for name, past in self._past.items() if name not in names}
