"""Text from elsewhere, made safe to print: a name or a message must not command the reader's terminal."""

import unicodedata

_KEPT_FORMATS = "\u200c\u200d"  # joiners, which scripts and emoji need
_COMMANDING = {"Cc", "Cf", "Cs", "Zl", "Zp"}


def one_line(text: object) -> str:
    r"""`text` with everything that is no visible character written out, such as `\x1b`."""
    return _written_out(str(text), kept="")


def lines(text: object) -> str:
    """As `one_line`, but line feeds and tabs stay."""
    return _written_out(str(text).replace("\r\n", "\n"), kept="\n\t")


def _written_out(text: str, *, kept: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        each if each in kept or not _commands(each) else each.encode("unicode_escape").decode()
        for each in text
    )


def _commands(each: str) -> bool:
    return unicodedata.category(each) in _COMMANDING and each not in _KEPT_FORMATS
