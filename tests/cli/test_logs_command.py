"""logs: readable, raw, and followed over the rotation of the real handler."""

import json
import logging
import logging.handlers
import os
from pathlib import Path

import pytest

from claude_daemon.cli.logfile import LogFiles, readable
from claude_daemon.core.logs import JsonFormatter
from daemon import Daemon
from program import Program


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "home" / "state" / "logs" / "daemon.log"


class Log:
    """Writes as the daemon does, rotating at `file_bytes`."""

    def __init__(self, path: Path, *, file_bytes: int, files: int = 50) -> None:
        path.parent.mkdir(parents=True)
        self._handler = logging.handlers.RotatingFileHandler(
            path, maxBytes=file_bytes, backupCount=files, encoding="utf-8"
        )
        self._handler.setFormatter(JsonFormatter())

    def write(self, message: str, **extra: object) -> None:
        record = logging.makeLogRecord(
            {"name": "claude_daemon.test", "levelno": 20, "levelname": "INFO", "msg": message, **extra}
        )
        self._handler.emit(record)


def messages(lines: list[str]) -> list[str]:
    return [json.loads(line)["message"] for line in lines]


def test_the_last_lines_come_from_all_files_the_oldest_first(path: Path) -> None:
    log = Log(path, file_bytes=300)
    for number in range(20):
        log.write(str(number))
    assert path.with_name("daemon.log.2").exists()

    assert messages(LogFiles(path).last(12)) == [str(number) for number in range(8, 20)]
    assert len(LogFiles(path).last(1_000)) == 20
    assert LogFiles(path).last(0) == []


def test_following_goes_on_over_any_number_of_rotations(path: Path) -> None:
    log = Log(path, file_bytes=300)
    log.write("before")
    files = LogFiles(path)
    assert messages(files.last(10)) == ["before"]
    for number in range(50):  # more than one file between two looks
        log.write(str(number))

    followed = files.follow()

    assert messages([next(followed) for _ in range(50)]) == [str(number) for number in range(50)]
    log.write("after")
    assert json.loads(next(followed))["message"] == "after"


def test_following_begins_with_the_oldest_file_left_when_its_own_is_gone(path: Path) -> None:
    log = Log(path, file_bytes=300, files=2)
    log.write("before")
    files = LogFiles(path)
    files.last(10)
    for number in range(40):
        log.write(str(number))
    left = messages(LogFiles(path).last(100))
    assert "before" not in left

    followed = files.follow()
    first = next(followed)  # what its own file still held was read by its open descriptor
    while json.loads(first)["message"] != left[0]:
        first = next(followed)

    assert messages([next(followed) for _ in left[1:]]) == left[1:]


def test_a_line_is_told_only_when_it_is_whole(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_bytes(b'{"message": "whole"}\n{"message": "ha')
    files = LogFiles(path)

    assert messages(files.last(10)) == ["whole"]
    with path.open("ab") as file:
        file.write(b'lf"}\n')
    assert json.loads(next(files.follow()))["message"] == "half"


def test_a_line_is_readable_and_cannot_command_the_terminal() -> None:
    entry = {
        "time": "2026-11-23T09:00:00.123Z",
        "level": "error",
        "logger": "app",
        "message": "bad \x1b[2J",
        "url": "x\x07",
        "exception": "Traceback\n  File\x1b",
    }
    shown = readable(json.dumps(entry))

    assert shown.partition(" error ")[2] == "app: bad \\x1b[2J (url=x\\x07)\n    Traceback\n      File\\x1b"
    assert readable("no json\x1b") == "no json\\x1b"
    assert readable("[1]") == "[1]"


def test_the_command_prints_lines_for_people_and_for_programs(path: Path, tmp_path: Path) -> None:
    off = Daemon(tmp_path / "home")
    none = off.cli("logs")
    assert (none.returncode, none.stdout) == (1, "")
    assert none.stderr == f"there is no log at {path} yet; it begins with: claude-daemon start\n"
    log = Log(path, file_bytes=10_000)
    for number in range(3):
        log.write(f"line {number}")

    assert [line.rpartition("  ")[2][-12:] for line in off.cli("logs").stdout.splitlines()] == [
        "test: line 0",
        "test: line 1",
        "test: line 2",
    ]
    raw = off.cli("logs", "--json", "-n", "2").stdout
    assert raw.splitlines() == path.read_text().splitlines()[1:]


@pytest.mark.skipif(os.name == "nt", reason="an open file cannot be rotated there")
def test_the_command_follows(path: Path, tmp_path: Path) -> None:
    log = Log(path, file_bytes=300)
    log.write("first")
    with Program(Daemon(tmp_path / "home"), "logs", "-f", "--json") as follow:
        assert json.loads(follow.line())["message"] == "first"

        for number in range(10):
            log.write(str(number))

        assert messages([follow.line() for _ in range(10)]) == [str(number) for number in range(10)]
