"""Text from outside, shown to people: nothing in it may command a terminal, forge a line or turn the words around."""

from __future__ import annotations

from collections.abc import Callable


def printable(text: str, spell: Callable[[str], str] = repr) -> str:
    r"""`text` with every sign that is not printable spelled out: `\n`, `\x9b`, `\u202e`.

    Not printable are control signs (C0, DEL, C1), line and paragraph separators, all spaces but the plain one,
    bidirectional controls and other invisible format signs, private and unassigned code points, lone surrogates.
    `spell` gives the spelling of one sign in quotes: `repr`, or `json.dumps` for what will be read as JSON.
    """
    if text.isprintable():
        return text
    return "".join([sign if sign.isprintable() else spell(sign)[1:-1] for sign in text])
