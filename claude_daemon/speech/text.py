"""Text as engines may get it: plain speech, in pieces that none of them loses."""

import textwrap
import unicodedata


def plain(text: str) -> str:
    """`text` without control characters and without anything an engine takes for a command.

    macOS obeys `[[rate 500]]` and Windows takes a leading `<` for XML; with a blank inside, both are
    read out like anywhere else.
    """
    # Cc, Cf, Cs: controls, invisible marks, and lone surrogates, which UTF-8 cannot carry.
    visible = "".join(" " if unicodedata.category(each) in {"Cc", "Cf", "Cs"} else each for each in text)
    return " ".join(visible.replace("[[", "[ [").replace("<", "< ").split())


def pieces(text: str, limit: int) -> list[str]:
    """`text` cut between words into parts of at most `limit` characters; longer words are cut inside."""
    return textwrap.wrap(text, limit, break_on_hyphens=False)
