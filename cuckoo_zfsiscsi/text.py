"""Words of others - guests, power devices, tasks - where people read them.

A terminal obeys control characters: ESC sequences change its title, its clipboard and what was
printed before; a newline forges the next line of a log; bidirectional overrides (Unicode TR 36)
show a text in another order than it has. So whatever is not plain print is written out.
"""

from __future__ import annotations

LONGEST = 2000
"""Characters of one text that people are shown; programs get all of it (--json)."""


def printable(text: str) -> str:
    r"""Return a text without control characters: ESC becomes \x1b, a newline \n, U+202E \u202e.

    Also written out: what has no shape (Cf, Zl, Zp), no meaning (Cn, Co), or is half a character
    (Cs), which no encoding has.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shown(text: str, longest: int = LONGEST) -> str:
    """Return a text as people may see it: one line, without control characters, not too long.

    Args:
        text: of whomever.
        longest: characters.
    """
    # cut before, so that a flood costs nothing, and after, as what is written out is longer
    clean = printable(text[: longest + 1])
    return clean if len(clean) <= longest else f"{clean[: longest - 3]}..."
