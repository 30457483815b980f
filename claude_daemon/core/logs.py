"""The daemon's log: one JSON object a line, rotated by size, without secrets, and never a flood.

Lines with the same origin (logger and line number) are limited per minute; how many were left out stands
in the next one that is written.
"""

import logging
import logging.handlers
import re
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from claude_daemon.config import LogSettings
from claude_daemon.lib.files import private_folder

FILE = "daemon.log"
LONGEST = 4_000  # characters of one message; nobody reads more, and it may be an attacker's

# JWTs, keys of the Claude API, bearer headers, and `secret=…` in any spelling.
_SECRETS = re.compile(
    r"eyJ[\w-]+\.[\w-]+\.[\w-]*|sk-ant-[\w-]+|(?i:bearer)\s+\S+"
    r"|(?i:(token|secret|password|api[_-]?key)[\"']?\s*[=:]\s*[\"']?)[^\s\"',}]+"
)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "left_out"}


def redact(text: str) -> str:
    """`text` without anything that looks like a credential."""
    return _SECRETS.sub(lambda found: f"{found[1] or ''}[redacted]", text)


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: time, level, logger, message, and what was given as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
            + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "logger": record.name.removeprefix("claude_daemon."),
            "message": redact(record.getMessage()[:LONGEST]),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD:
                line[name] = redact(str(value)[:LONGEST])
        if left_out := getattr(record, "left_out", 0):
            line["leftOut"] = left_out
        if record.exc_info:
            line["exception"] = redact(self.formatException(record.exc_info))
        return msgspec.json.encode(line).decode()


class SameLineLimit(logging.Filter):
    """At most so many lines a minute from one place in the program."""

    def __init__(self, per_minute: int) -> None:
        super().__init__()
        self._per_minute = per_minute
        self._seen: dict[tuple[str, int], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        key = (record.name, record.lineno)
        began, count = self._seen.get(key, (record.created, 0))
        if record.created - began >= 60:
            record.left_out = max(0, count - self._per_minute)
            began, count = record.created, 0
        self._seen[key] = (began, count + 1)
        return count < self._per_minute


def log_file(state: Path) -> Path:
    return state / "logs" / FILE


def set_up(settings: LogSettings, state: Path, *, to_terminal: bool) -> None:
    """Write to the rotated file; warnings also to the terminal when a person started the daemon there."""
    path = log_file(state)
    private_folder(path.parent)
    file = logging.handlers.RotatingFileHandler(
        path, maxBytes=settings.file_bytes, backupCount=settings.files - 1, encoding="utf-8"
    )
    file.setFormatter(JsonFormatter())
    file.addFilter(SameLineLimit(settings.same_per_minute))
    root = logging.getLogger()
    root.handlers[:] = [file]
    if to_terminal:
        terminal = logging.StreamHandler(sys.stderr)
        terminal.setLevel(logging.WARNING)
        terminal.setFormatter(logging.Formatter("%(levelname)s %(message)s"))
        terminal.addFilter(lambda record: not record.exc_info)
        root.addHandler(terminal)
    root.setLevel(logging.DEBUG if settings.debug else settings.level.upper())
    for noisy in ("alembic", "asyncio", "watchdog", "httpx", "httpcore", "anthropic", "aiohttp.server"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
