"""Contents kept by their hash."""

import errno
import hashlib
import os
import threading
from pathlib import Path

import pytest

from claude_daemon.projects.history import GRACE_S, History

LATER = 10**10.0


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path / "history")


def blobs(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def test_what_was_kept_is_read_again(history: History) -> None:
    contents = [b"", b"hello", os.urandom(100_000), b"x" * 100_000]

    hashes = history.keep(contents)

    assert hashes == [hashlib.sha256(each).hexdigest() for each in contents]
    assert [history.read(each) for each in hashes] == contents
    assert history.read("0" * 64) is None


def test_the_same_content_is_kept_once_and_nobody_else_reads_it(history: History, tmp_path: Path) -> None:
    history.keep([b"one", b"one"])
    history.keep([b"one"])

    [blob] = blobs(tmp_path)
    assert blob.stat().st_mode & 0o777 == 0o600
    assert blob.parent.stat().st_mode & 0o777 == 0o700


def test_a_damaged_content_is_not_handed_out(history: History, tmp_path: Path) -> None:
    [sha256] = history.keep([b"content"])
    [blob] = blobs(tmp_path)
    whole = blob.read_bytes()
    for damaged in (b"", whole[:-3], b"x" + whole, whole.replace(whole[5:6], b"\0")):
        blob.write_bytes(damaged)
        assert history.read(sha256) is None


def test_content_is_on_disk_before_it_has_its_name(history: History, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(fd: int) -> None:
        steps.append("fsync folder" if os.path.isdir(f"/proc/self/fd/{fd}") else "fsync file")  # noqa: PTH112
        fsync(fd)

    def noted_replace(self: Path, target: Path) -> Path:
        steps.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    history.keep([b"one", b"two"])

    assert steps[:4] == ["fsync file", "fsync file", "rename", "rename"]
    assert set(steps[4:]) == {"fsync folder"}


def test_a_full_disk_leaves_nothing_half_kept(
    history: History, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="full"):
        history.keep([b"one", b"two"])

    assert blobs(tmp_path) == []


def test_what_nobody_needs_is_swept_once_it_is_old(history: History) -> None:
    needed, left = history.keep([b"needed", b"left"])
    for shelf in history.shelves():
        assert history.sweep(shelf, {needed}) == 0

    assert sum(history.sweep(shelf, {needed}, now=LATER) for shelf in history.shelves()) == 1
    assert history.read(needed) == b"needed"
    assert history.read(left) is None


def test_leftovers_of_a_crash_are_swept_too(history: History, tmp_path: Path) -> None:
    history.keep([b"content"])
    [shelf] = history.shelves()
    (tmp_path / "history" / shelf / ".0123").write_bytes(b"half")

    assert history.sweep(shelf, {hashlib.sha256(b"content").hexdigest()}, now=LATER) == 1


def test_an_old_content_that_is_kept_again_is_young_again(history: History, tmp_path: Path) -> None:
    [sha256] = history.keep([b"again"])
    [blob] = blobs(tmp_path)
    os.utime(blob, (0, 0))
    history.keep([b"again"])

    assert history.sweep(sha256[:2], set()) == 0
    os.utime(blob, (0, 0))
    assert history.sweep(sha256[:2], set(), now=GRACE_S + 1) == 1


def test_keeping_and_sweeping_at_once_never_loses_what_was_just_kept(
    history: History, tmp_path: Path
) -> None:
    [sha256] = history.keep([b"contended"])
    [blob] = blobs(tmp_path)
    stop = threading.Event()

    def sweep() -> None:
        while not stop.is_set():
            history.sweep(sha256[:2], set())

    sweeper = threading.Thread(target=sweep)
    sweeper.start()
    try:
        for _ in range(300):
            if blob.exists():
                os.utime(blob, (0, 0))
            history.keep([b"contended"])
            assert history.read(sha256) == b"contended"
    except FileNotFoundError:
        pass  # swept between the test's own look and its utime
    finally:
        stop.set()
        sweeper.join()
