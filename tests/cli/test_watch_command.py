"""watch: what happens, line by line, while it happens."""

from collections.abc import Iterator
from getpass import getuser
from pathlib import Path

import pytest

from daemon import Daemon
from program import Program


@pytest.fixture
def folder(daemon: Daemon, tmp_path: Path) -> Iterator[Path]:
    """A watched project called `app`."""
    folder = tmp_path / "app"
    folder.mkdir()
    daemon.cli("projects", "add", str(folder))
    yield folder
    daemon.cli("projects", "remove", "app")


def test_every_event_is_a_line_of_json(daemon: Daemon, folder: Path) -> None:
    daemon.cli("send", "known", "before")
    with Program(daemon, "watch", "--json") as watch:
        watch.event("session_joined")

        (folder / "a.txt").write_text("one\n")
        daemon.cli("send", "known", "hello")
        daemon.cli("notify", "done", "--type", "success")

        update = watch.event("file_update")
        assert (update["projectId"], update["filePath"], update["content"]) == ("app", "a.txt", "one\n")
        assert watch.event("chat_message")["content"] == "hello"
        assert watch.event("tts_notification")["type"] == "success"


def test_a_session_that_begins_meanwhile_is_heard_from_its_beginning(daemon: Daemon) -> None:
    with Program(daemon, "watch", "--json") as watch:
        watch.event("connected")

        daemon.cli("send", "begun meanwhile", "first words")

        assert watch.event("chat_message")["content"] == "first words"


def test_one_project_is_all_that_is_told_of(daemon: Daemon, folder: Path) -> None:
    with Program(daemon, "watch", "--json", "--project", "app") as watch:
        assert watch.event("project_joined")["projectId"] == "app"

        daemon.cli("notify", "not of this project")
        (folder / "b.txt").write_text("two\n")

        assert '"event": "file_update"' in watch.line()


def test_people_read_lines_without_escape_sequences(daemon: Daemon) -> None:
    with Program(daemon, "watch") as watch:
        daemon.cli("send", "hostile", "\x1b[2J\x1b]0;owned\x07 after")

        heard = watch.line("after")

    assert heard.endswith(f"  hostile  {getuser()}: \\x1b[2J\\x1b]0;owned\\x07 after\n")


def test_an_unknown_project_is_a_failure(daemon: Daemon) -> None:
    done = daemon.cli("watch", "--project", "nothing")

    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("there is no project 'nothing'")
