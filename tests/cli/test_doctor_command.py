"""doctor, on a daemon that runs, one that is off, and machines where something is in the way."""

import json
import os
import shutil
import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from daemon import Daemon

NAMES = [
    *("settings", "folders", "daemon", "port", "secrets", "database", "disk"),
    *("sandbox", "speech", "watches", "projects", "assistant", "clock"),
]
SANDBOXED = sys.platform == "linux" and shutil.which("bwrap") is not None


def checks(document: Any) -> dict[str, Any]:
    assert set(document) == {"ok", "checks"}
    for each in document["checks"]:
        assert set(each) == {"name", "verdict", "evidence", "remedy"}
        assert each["verdict"] in {"ok", "warning", "failure", "skipped"}
    return {each["name"]: each for each in document["checks"]}


def test_a_running_daemon_is_asked(daemon: Daemon) -> None:
    done = daemon.cli("doctor", "--json")

    found = checks(json.loads(done.stdout))
    assert list(found) == NAMES
    assert f"pid {daemon.pid} at {daemon.url}" in found["daemon"]["evidence"]
    assert found["database"]["verdict"] == "ok"
    assert found["secrets"]["verdict"] == "ok"
    assert found["sandbox"]["verdict"] == ("ok" if SANDBOXED else "failure")
    assert done.returncode == (0 if SANDBOXED else 1)
    assert done.stderr == ""


def test_without_a_daemon_it_finds_out_by_itself_and_leaves_nothing(tmp_path: Path) -> None:
    off = Daemon(tmp_path / "home")

    done = off.cli("doctor", "--json")

    found = checks(json.loads(done.stdout))
    assert list(found) == NAMES
    assert (found["daemon"]["verdict"], found["daemon"]["remedy"]) == ("warning", "claude-daemon start")
    assert found["sandbox"]["verdict"] == ("ok" if SANDBOXED else "failure")
    assert found["projects"]["verdict"] == "skipped"
    assert [each.name for each in off.home.iterdir()] == ["user"]


def test_a_port_of_another_program_is_a_failure_with_its_name(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]

        done = Daemon(tmp_path / "home", PORT=str(port)).cli("doctor", "--json")

    document = json.loads(done.stdout)
    found = checks(document)["port"]
    assert (done.returncode, document["ok"]) == (1, False)
    assert found["verdict"] == "failure"
    assert f"127.0.0.1:{port} is taken by " in found["evidence"]


def test_a_setting_that_cannot_be_used_is_the_first_failure(tmp_path: Path) -> None:
    done = Daemon(tmp_path / "home", PORT="many").cli("doctor", "--json")

    document = json.loads(done.stdout)
    assert done.returncode == 1
    assert document["checks"] == [
        {
            "name": "settings",
            "verdict": "failure",
            "evidence": "PORT in the environment must be a whole number",
            "remedy": "mend that setting; the rest waits for it",
        }
    ]


def test_a_damaged_database_is_named(tmp_path: Path) -> None:
    off = Daemon(tmp_path / "home")
    (off.home / "state").mkdir(mode=0o700)
    (off.home / "state" / "claude-daemon.db").write_bytes(b"no database" * 1_000)

    done = off.cli("doctor")

    assert done.returncode == 1
    assert "failure  database" in done.stdout
    assert "is damaged" in done.stdout
    assert done.stdout.splitlines()[-1].startswith("broken: ")
    assert "\x1b" not in done.stdout


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_daemon_that_cannot_be_reached_is_a_failure_with_the_way_out(tmp_path: Path) -> None:
    state = tmp_path / "home" / "state"
    run = tmp_path / "home" / "run"
    off = Daemon(tmp_path / "home")
    state.mkdir(mode=0o700)
    run.mkdir(mode=0o700)
    (state / "daemon.lock").write_text(json.dumps({"pid": os.getpid(), "url": "http://127.0.0.1:1"}))

    found = checks(json.loads(off.cli("doctor", "--json").stdout))

    assert found["daemon"]["verdict"] == "failure"
    assert found["daemon"]["remedy"] == f"kill -9 {os.getpid()}; claude-daemon start"
    assert found["sandbox"]["verdict"] == ("ok" if SANDBOXED else "failure")  # it is tried all the same
