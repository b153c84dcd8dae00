"""What a site has chosen for its paper, from its settings."""

from __future__ import annotations

from kps.core.settings import Settings
from kps.core.wording import PaperStyle
from kps.paper.language import translator


def style_of(settings: Settings) -> PaperStyle:
    """Words, allergy words, feed and beep of every paper. Raises `UnknownLanguage`."""
    return PaperStyle(
        say=translator(settings.ticket_language),
        allergy_words=settings.allergy_words,
        top_feed_lines=settings.top_feed_lines,
        beep=settings.beep,
    )
