"""What commands print: one JSON document for programs, tables for people, colour only on a terminal."""

import json
import os
import sys
from collections.abc import Sequence
from typing import Any

from claude_daemon.cli.text import one_line

Row = Sequence[object]

_COLOURS = {"green": "32", "yellow": "33", "red": "31", "dim": "2", "bold": "1"}


def document(value: Any) -> None:
    """One line of JSON, all ASCII: no character of it can be lost or act on a terminal."""
    print(json.dumps(value), flush=True)


def done(value: Any, sentence: str, *, as_json: bool) -> None:
    """What came of a command: for programs, or for people."""
    if as_json:
        document(value)
    else:
        print(one_line(sentence))


def coloured(text: str, colour: str) -> str:
    """`text` in a colour where stdout is a terminal that shows colours."""
    return f"\x1b[{_COLOURS[colour]}m{text}\x1b[0m" if on_terminal() else text


def on_terminal() -> bool:
    """Whether a person sees stdout, in colour."""
    if sys.stdout is None or not sys.stdout.isatty():
        return False
    return "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def table(headers: Sequence[str], rows: Sequence[Row]) -> None:
    """Rows of text from wherever; aligned and unabridged when nobody but a program or a file reads them."""
    cells = [[one_line(cell) for cell in row] for row in rows]
    if on_terminal():
        _rich_table(headers, cells)
        return
    lines = [list(headers), *cells]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    for line in lines:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _rich_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    made = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for header in headers:
        made.add_column(header, overflow="fold")
    for row in rows:
        made.add_row(*map(Text, row))  # Text: square brackets are no markup
    Console(file=sys.stdout).print(made)
