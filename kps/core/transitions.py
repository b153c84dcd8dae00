"""Tables of states and events: what an event makes of a state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeVar

_State = TypeVar("_State")
_Event = TypeVar("_Event")


def after(table: Mapping[tuple[_State, _Event], _State], state: _State, event: _Event) -> _State:
    """The state that an event leads to; the same one where the table does not name it."""
    return table.get((state, event), state)
