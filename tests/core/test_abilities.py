"""What a device has shown, and the proof level that it gets for it."""

from __future__ import annotations

import pytest

from kps.core.abilities import Abilities, level_in_force
from kps.core.tickets import ProofLevel


@pytest.mark.parametrize(
    ("probed", "answered", "level"),
    [
        (None, True, ProofLevel.REALTIME),
        (None, False, ProofLevel.NONE),
        (ProofLevel.NONE, True, ProofLevel.NONE),
        (ProofLevel.REALTIME, True, ProofLevel.REALTIME),
        (ProofLevel.REALTIME, False, ProofLevel.NONE),
        (ProofLevel.PROCESS_ID, True, ProofLevel.PROCESS_ID),
        (ProofLevel.FENCE, True, ProofLevel.FENCE),
        (ProofLevel.FENCE, False, ProofLevel.NONE),
    ],
)
def test_the_level_is_what_the_device_shows_now(probed: ProofLevel | None, answered: bool, level: ProofLevel) -> None:
    assert level_in_force(probed, answered=answered) is level


@pytest.mark.parametrize(
    ("text", "abilities"),
    [
        ("fence", Abilities(ProofLevel.FENCE)),
        (" Process_ID + pushes +CLEARS ", Abilities(ProofLevel.PROCESS_ID, pushes=True, clears=True)),
        ("none", Abilities(ProofLevel.NONE)),
    ],
)
def test_what_somebody_vouches_for_is_read(text: str, abilities: Abilities) -> None:
    assert Abilities.parse(text) == abilities
