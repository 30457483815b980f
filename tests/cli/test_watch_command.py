"""watch: what happens, line by line, while it happens."""

import json
import queue
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from daemon import Daemon

WITHIN_S = 10.0

Started = Callable[..., "subprocess.Popen[str]"]
Lines = Callable[["subprocess.Popen[str]"], Callable[[Callable[[str], bool]], str]]


@pytest.fixture
def folder(daemon: Daemon, tmp_path: Path) -> Iterator[Path]:
    """A watched project called `app`."""
    folder = tmp_path / "app"
    folder.mkdir()
    daemon.cli("projects", "add", str(folder))
    yield folder
    daemon.cli("projects", "remove", "app")


class Reader:
    """Takes a process's lines as they come."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, args=(process,), daemon=True).start()

    def line_with(self, text: str) -> str:
        """The next line that contains `text`.  Raises `queue.Empty`."""
        while True:
            line = self._lines.get(timeout=WITHIN_S)
            if text in line:
                return line

    def event(self, name: str) -> Any:
        return json.loads(self.line_with(f'"event": "{name}"'))

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        for line in process.stdout:
            self._lines.put(line)


def test_every_event_is_a_line_of_json(daemon: Daemon, started: Started, folder: Path) -> None:
    daemon.cli("send", "known", "before")
    watch = Reader(started(daemon, "watch", "--json"))
    watch.event("session_joined")

    (folder / "a.txt").write_text("one\n")
    daemon.cli("send", "known", "hello")
    daemon.cli("notify", "done", "--type", "success")

    update = watch.event("file_update")
    assert (update["projectId"], update["filePath"], update["content"]) == ("app", "a.txt", "one\n")
    assert watch.event("chat_message")["content"] == "hello"
    assert watch.event("tts_notification")["type"] == "success"


def test_a_session_that_begins_meanwhile_is_heard_from_its_beginning(
    daemon: Daemon, started: Started
) -> None:
    watch = Reader(started(daemon, "watch", "--json"))
    watch.event("connected")

    daemon.cli("send", "begun meanwhile", "first words")

    assert watch.event("chat_message")["content"] == "first words"


def test_one_project_is_all_that_is_told_of(daemon: Daemon, started: Started, folder: Path) -> None:
    watch = Reader(started(daemon, "watch", "--json", "--project", "app"))
    assert watch.event("project_joined")["projectId"] == "app"

    daemon.cli("notify", "not of this project")
    (folder / "b.txt").write_text("two\n")

    assert '"file_update"' in watch.line_with("")


def test_people_read_lines_without_escape_sequences(daemon: Daemon, started: Started) -> None:
    daemon.cli("send", "hostile", "before")
    watch = Reader(started(daemon, "watch"))
    # Nothing is said when it begins to listen, so it is told until it hears.
    heard = None
    while heard is None:
        daemon.cli("send", "hostile", "\x1b[2J\x1b]0;owned\x07 after", "--no-wait")
        try:
            heard = watch._lines.get(timeout=0.2)
        except queue.Empty:
            continue

    assert heard.endswith("\\x1b[2J\\x1b]0;owned\\x07 after\n")
    assert "hostile" in heard


def test_an_unknown_project_is_a_failure(daemon: Daemon) -> None:
    done = daemon.cli("watch", "--project", "nothing")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("there is no project 'nothing'")
