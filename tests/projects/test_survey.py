"""Look and take, step by step: what happens between them is the point."""

import contextlib
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from claude_daemon.projects.hints import NoHints
from claude_daemon.projects.look import STALE_TEMPORARY_NS, Looker
from claude_daemon.projects.root import Root
from claude_daemon.projects.snapshot import File, Snapshot
from claude_daemon.projects.survey import FolderGoneError, Survey, identify
from claude_daemon.projects.take import Taken, Taker
from following import move


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "main.py").write_text("old")
    return folder


class Steps:
    def __init__(self, root: Path) -> None:
        self.snapshot = Snapshot(max_entries=100)
        self.looker = Looker(self.snapshot, NoHints(), keep_bytes=1_000, young_s=0)
        self.survey = Survey(root, identify(root), self.looker, Taker(self.snapshot, leave=self.looker.leave))
        self.survey.take(self.survey.look(deque([""]), read_new=False), announce_new=False)

    def both(self, *paths: str) -> Taken:
        return self.survey.take(self.survey.look(deque(paths)))


def brief(taken: Taken) -> list[tuple[str, str, bytes | None]]:
    return [(change.action, change.path, change.content) for change in taken.changes]


def test_a_file_changed_while_it_was_read_is_not_told_but_looked_at_again(root: Path) -> None:
    steps = Steps(root)
    (root / "src" / "main.py").write_text("half")
    looked = steps.survey.look(deque(["src/main.py"]))
    (root / "src" / "main.py").write_text("whole")

    taken = steps.survey.take(looked)
    assert (taken.changes, taken.again) == ([], ["src/main.py"])
    assert brief(steps.both(*taken.again)) == [("update", "src/main.py", b"whole")]


def test_a_file_that_came_back_while_its_end_was_noted_is_not_called_deleted(root: Path) -> None:
    steps = Steps(root)
    (root / "src" / "main.py").unlink()
    looked = steps.survey.look(deque(["src/main.py"]))
    (root / "src" / "main.py").write_text("back")

    assert steps.survey.take(looked).again == ["src/main.py"]


def test_what_a_writer_of_ours_entered_in_between_is_nobody_elses_change(root: Path) -> None:
    steps = Steps(root)
    (root / "src" / "main.py").write_text("editor")
    looked = steps.survey.look(deque(["src/main.py"]))
    (root / "src" / "main.py").write_text("client's")
    [seen] = steps.survey.look(deque(["src/main.py"])).seen
    assert seen.file is not None
    steps.snapshot.put("src/main.py", seen.file)

    assert steps.survey.take(looked).changes == []
    assert steps.both("src/main.py").changes == []


def test_two_writes_that_one_time_stamp_cannot_tell_apart_are_told_apart(root: Path) -> None:
    steps = Steps(root)
    target = root / "src" / "main.py"
    target.write_text("one")
    steps.both("src/main.py")
    stamp = target.stat().st_mtime_ns

    target.write_text("two")
    os.utime(target, ns=(stamp, stamp))

    assert brief(steps.both("src/main.py")) == [("update", "src/main.py", b"two")]


def test_a_file_that_is_long_unchanged_is_not_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    steps = Steps(root)
    os.utime(root / "src" / "main.py", (1, 1))
    steps.both("src/main.py")

    def fail(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("claude_daemon.projects.look.digest", fail)
    assert steps.both("src/main.py").changes == []


def test_a_file_that_goes_between_stat_and_open_is_looked_at_again(root: Path) -> None:
    class Vanishing(Root):
        @contextlib.contextmanager
        def reading(self, path: str) -> Iterator[int]:
            raise FileNotFoundError(2, "gone", path)
            yield 0

    steps = Steps(root)
    (root / "src" / "main.py").write_text("changed")
    with Vanishing(root) as vanishing:
        looked = steps.looker.look(vanishing, deque(["src/main.py"]))

    assert (looked.seen, looked.young) == ([], ["src/main.py"])


def test_a_file_that_may_not_be_read_is_left_as_it_was_known(root: Path) -> None:
    class Forbidding(Root):
        @contextlib.contextmanager
        def reading(self, path: str) -> Iterator[int]:
            raise PermissionError(13, "no", path)
            yield 0

    steps = Steps(root)
    (root / "src" / "main.py").write_text("changed")
    with Forbidding(root) as forbidding:
        looked = steps.looker.look(forbidding, deque(["src/main.py"]))
    assert (looked.seen, looked.young) == ([], [])

    assert brief(steps.both("src/main.py")) == [("update", "src/main.py", b"changed")]


def test_what_could_not_be_told_is_found_again(root: Path) -> None:
    steps = Steps(root)
    (root / "src" / "main.py").rename(root / "main.py")
    (root / "new").write_text("new")
    paths = ("src/main.py", "main.py", "new")
    taken = steps.both(*paths)
    told = {(each.action, each.path, each.renamed_from) for each in taken.changes}

    steps.survey.taker.forget(taken)

    again = steps.both(*paths)
    assert {(each.action, each.path, each.renamed_from) for each in again.changes} == told
    assert steps.both(*paths).changes == []


def test_a_file_that_was_read_for_later_is_not_told(root: Path) -> None:
    steps = Steps(root)
    assert steps.survey.take(steps.survey.learn(["src/main.py", "nothing"])).changes == []
    known = steps.snapshot.get("src/main.py")
    assert known and known.sha256

    (root / "src" / "main.py").touch()

    assert steps.both("src/main.py").changes == []


def test_one_look_holds_only_so_much(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("claude_daemon.projects.look.SLICE_BYTES", 1_500)
    steps = Steps(root)
    for number in range(5):
        (root / f"f{number}").write_bytes(b"x" * 1_000)
    queue = deque(f"f{number}" for number in range(5))

    assert len(steps.survey.look(queue).seen) == 2
    assert list(queue) == ["f2", "f3", "f4"]


def test_a_leftover_of_a_killed_writer_is_removed_once_it_is_old(root: Path) -> None:
    steps = Steps(root)
    for name in (".claude-daemon-old", ".claude-daemon-new", "mine"):
        (root / name).touch()
    age = STALE_TEMPORARY_NS + 10**9
    for name in (".claude-daemon-old", "mine"):
        status = (root / name).stat()
        os.utime(root / name, ns=(status.st_atime_ns, status.st_mtime_ns - age))

    steps.both("")

    assert sorted(path.name for path in root.iterdir()) == [".claude-daemon-new", "mine", "src"]


def test_a_folder_that_is_another_one_by_now_ends_the_survey(root: Path) -> None:
    steps = Steps(root)
    move(root, root.parent / "away")
    with pytest.raises(FolderGoneError):
        steps.survey.look(deque([""]))
    root.mkdir()

    with pytest.raises(FolderGoneError):
        steps.survey.check()


def test_a_deleted_folders_files_are_all_gone(root: Path) -> None:
    steps = Steps(root)

    assert brief(steps.survey.taker.all_gone()) == [("delete", "src/main.py", None)]
    assert steps.snapshot.files == 0


def test_what_clients_were_told_is_compared_in_the_first_scan_already(root: Path) -> None:
    snapshot = Snapshot(max_entries=100)
    snapshot.put("src/main.py", File(-1, 0, 0, "0" * 64, sure=False))
    looker = Looker(snapshot, NoHints(), keep_bytes=1_000, young_s=0)
    survey = Survey(root, identify(root), looker, Taker(snapshot, leave=looker.leave))

    taken = survey.take(survey.look(deque([""]), read_new=False), announce_new=False)

    assert brief(taken) == [("update", "src/main.py", b"old")]


def test_a_folder_leaves_alone_what_will_be_looked_at_for_its_own_sake(root: Path) -> None:
    steps = Steps(root)
    (root / "src" / "main.py").write_text("being written")
    steps.looker.waiting = {"src/main.py"}.__contains__
    assert steps.both("src").changes == []
    steps.looker.waiting = set[str]().__contains__

    assert brief(steps.both("src")) == [("update", "src/main.py", b"being written")]
