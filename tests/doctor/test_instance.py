"""Which process is the daemon: told by a note that a crash leaves behind and a pid that is used again."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from claude_daemon.doctor.instance import Instance, has_ended, running_instance

URL = "http://127.0.0.1:3001"


def note(state: Path, pid: int, *, age_s: float = 0.0) -> None:
    path = state / "daemon.lock"
    path.write_text(json.dumps({"pid": pid, "url": URL}))
    os.utime(path, (time.time() - age_s,) * 2)


def test_a_living_process_that_wrote_the_note_is_it(tmp_path: Path) -> None:
    note(tmp_path, os.getpid())

    assert running_instance(tmp_path) == Instance(os.getpid(), URL)


def test_a_process_that_is_younger_than_the_note_only_has_its_pid(tmp_path: Path) -> None:
    note(tmp_path, os.getpid(), age_s=1_000_000)

    assert running_instance(tmp_path) is None


@pytest.mark.parametrize(
    "text", ["", "{", "[]", '{"pid": "x", "url": ""}', '{"pid": 1}', '{"pid": -1, "url": ""}']
)
def test_a_note_that_says_nothing_names_nobody(tmp_path: Path, text: str) -> None:
    (tmp_path / "daemon.lock").write_text(text)

    assert running_instance(tmp_path) is None


def test_without_a_note_there_is_nobody(tmp_path: Path) -> None:
    assert running_instance(tmp_path) is None


@pytest.mark.skipif(sys.platform == "win32", reason="zombies are of POSIX")
def test_a_zombie_has_ended(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = psutil.Process(child.pid)
    note(tmp_path, child.pid)
    assert running_instance(tmp_path) is not None

    child.kill()
    deadline = time.monotonic() + 5
    while process.status() != psutil.STATUS_ZOMBIE and time.monotonic() < deadline:
        time.sleep(0.01)

    assert has_ended(process)
    assert running_instance(tmp_path) is None
    child.communicate()
    assert has_ended(process)
