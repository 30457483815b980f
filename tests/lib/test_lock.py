import subprocess
import sys
from pathlib import Path

import pytest

from claude_daemon.lib.lock import Lock, LockedError, read_note

HOLDER = """
import sys, time
from pathlib import Path
from claude_daemon.lib.lock import Lock
with Lock(Path(sys.argv[1])) as lock:
    lock.note("the holder")
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_process_is_told_who_holds_it_and_gets_it_when_that_one_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"

        with pytest.raises(LockedError) as refused, Lock(path):
            pass
        holder.kill()

    assert refused.value.note == "the holder"
    with Lock(path):
        pass


def test_a_lock_is_free_again_after_its_block(tmp_path: Path) -> None:
    with Lock(tmp_path / "lock") as lock:
        lock.note("me")

    assert read_note(tmp_path / "lock") == ""
    with Lock(tmp_path / "lock"):
        pass


def test_a_longer_note_leaves_nothing_behind_in_a_shorter_one(tmp_path: Path) -> None:
    with Lock(tmp_path / "lock") as lock:
        lock.note("a long note")
        lock.note("short")

        assert read_note(tmp_path / "lock") == "short"


def test_where_nobody_ever_locked_there_is_no_note(tmp_path: Path) -> None:
    assert read_note(tmp_path / "nothing") == ""
