"""When the system loses events: it is noticed, the tree is compared, and all converges."""

import asyncio
import errno
import os
import shutil
import threading
from pathlib import Path

import pytest
from watchdog.observers.inotify_c import InotifyEvent

from claude_daemon.projects.hints import Crossing, Hints, Loss, NoHints
from claude_daemon.projects.inotify import InotifyHints
from claude_daemon.projects.settle import Wait
from fakes import until
from following import applied, following, move, on_disk


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "main.py").write_text("print(1)\n")
    (folder / "readme.md").write_text("hello")
    return folder


class Deaf(InotifyHints):
    """Hears the system's events only while `hears` is set; the kernel queues them meanwhile."""

    hears: threading.Event

    def on_event(self, event: InotifyEvent) -> None:
        self.hears.wait()
        super().on_event(event)


async def test_an_overflow_of_the_kernels_queue_is_noticed_and_made_good(root: Path) -> None:
    limit = _queued_events()
    if limit > 100_000:
        pytest.skip("this system queues too many events for a quick test")
    Deaf.hears = threading.Event()
    Deaf.hears.set()
    async with following(root, opener=Deaf, rescan_s=3_600) as project:
        before = on_disk(root)
        Deaf.hears.clear()
        await asyncio.to_thread(_churn, root / "src", limit)
        (root / "src" / "late.txt").write_text("after the queue was full")
        Deaf.hears.set()
        await project.told.about("src/late.txt", within_s=20)
        await project.told.until(lambda: project.told.rescans, within_s=20)
        await project.in_step()

        assert applied(before, project.told.changes) == on_disk(root)
        assert project.state() == "watching"


def _queued_events() -> int:
    return int(Path("/proc/sys/fs/inotify/max_queued_events").read_text())


def _churn(folder: Path, events: int) -> None:
    for number in range(events // 2 + 10):
        path = folder / f"x{number % 2}"
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)
        os.close(descriptor)
        path.unlink()


class Limited(InotifyHints):
    """A system that gives only so many watches."""

    limit = 2

    def watch(self, folder: str) -> None:
        if folder not in self._watches and len(self._watches) >= self.limit:
            self.full = True
            return
        super().watch(folder)


async def test_without_enough_watches_the_tree_is_polled_and_the_remedy_named(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(5):
        (root / f"d{number}").mkdir()
    async with following(root, opener=Limited, poll_s=0.1) as project:
        assert project.state() == "polling"
        assert "max_user_watches" in (project.watcher.problem or "")

        (root / "d4" / "unwatched.txt").write_text("found all the same")
        assert (await project.told.about("d4/unwatched.txt")).content == b"found all the same"

        monkeypatch.setattr(Limited, "limit", 1_000)
        await asyncio.sleep(0.3)
        assert project.state() == "watching"
        assert project.watcher.problem is None


async def test_a_limit_met_later_is_noticed_too(root: Path) -> None:
    async with following(root, opener=Limited, poll_s=0.1) as project:
        assert project.state() == "watching"
        (root / "new").mkdir()
        (root / "new" / "deep").mkdir()
        (root / "new" / "deep" / "x").write_text("x")
        await project.told.about("new/deep/x")
        (root / "new" / "deep" / "y").write_text("y")
        await project.told.about("new/deep/y")

        assert project.state() == "polling"


async def test_the_kernels_own_refusal_is_taken_for_the_limit(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "inotify watch limit reached")

    monkeypatch.setattr("claude_daemon.projects.inotify._Reader.add_callback", refuse)
    async with following(root, poll_s=0.1) as project:
        assert project.state() == "polling"


async def test_without_any_hints_the_tree_is_polled(root: Path) -> None:
    def none(_root: Path, _crossing: Crossing) -> Hints:
        return NoHints()

    async with following(root, opener=none, poll_s=0.1) as project:
        (root / "readme.md").write_text("polled")
        (root / "src" / "main.py").rename(root / "src" / "app.py")
        await project.told.until(lambda: len(project.told.changes) == 3)

        assert project.state() == "polling"
        assert {(each.path, each.renamed_from) for each in project.told.changes} == {
            ("readme.md", None), ("src/main.py", None), ("src/app.py", "src/main.py")
        }  # fmt: skip


async def test_a_dead_reader_is_replaced_and_what_it_missed_is_found(root: Path) -> None:
    made: list[InotifyHints] = []

    def opener(path: Path, crossing: Crossing) -> Hints:
        made.append(InotifyHints(path, crossing))
        return made[-1]

    async with following(root, opener=opener) as project:
        made[0].unwatch("src")
        (root / "src" / "main.py").write_text("unheard")
        os.utime(root / "src" / "main.py", (1, 1))
        made[0]._crossing.lose(Loss.DEAD)
        await project.told.until(lambda: project.told.rescans)

        assert project.told.brief() == [("update", "src/main.py")]
        assert project.told.rescans == [1]
        assert len(made) == 2
        await project.in_step()


async def test_what_nobody_noticed_is_found_by_the_regular_rescan_and_admitted(root: Path) -> None:
    made: list[InotifyHints] = []

    def opener(path: Path, crossing: Crossing) -> Hints:
        made.append(InotifyHints(path, crossing))
        return made[-1]

    async with following(root, opener=opener, rescan_s=0.5) as project:
        await asyncio.sleep(0.1)  # for what was there at the start to be read
        made[0].unwatch("src")
        (root / "src" / "main.py").write_text("unheard")
        os.utime(root / "src" / "main.py", (1, 1))
        await project.told.until(lambda: project.told.rescans)

        assert project.told.brief() == [("update", "src/main.py")]
        assert project.told.rescans == [1]


async def test_a_folder_that_is_moved_away_is_unavailable_until_it_is_back(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("claude_daemon.projects.watcher.REOPEN_S", 0.05)
    async with following(root) as project:
        move(root, root.parent / "away")
        await until(lambda: project.state() == "unavailable")
        assert str(root) in (project.watcher.problem or "")
        assert project.told.brief() == []

        (root.parent / "away" / "readme.md").write_text("changed while away")
        (root.parent / "away").rename(root)
        await project.told.about("readme.md")
        await project.told.until(lambda: project.told.rescans)
        await project.in_step()

        assert project.told.brief() == [("update", "readme.md")]
        assert project.state() == "watching"
        assert project.watcher.problem is None


async def test_a_folder_replaced_by_another_is_compared_and_watched(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("claude_daemon.projects.watcher.REOPEN_S", 0.05)
    async with following(root) as project:
        before = on_disk(root)
        move(root, root.parent / "old")
        (root / "src").mkdir(parents=True)
        (root / "src" / "main.py").write_text("print(1)\n")
        (root / "src" / "other.py").write_text("other")
        await project.told.about("src/other.py")
        await project.in_step()
        assert project.told.rescans
        assert applied(before, project.told.changes) == on_disk(root)
        project.told.clear()

        (root / "src" / "other.py").write_text("watched")
        await project.in_step()

        assert project.told.brief() == [("update", "src/other.py")]


async def test_a_folder_removed_with_all_its_files_ends_in_deletions(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("claude_daemon.projects.watcher.REOPEN_S", 0.05)
    async with following(root) as project:
        before = on_disk(root)
        shutil.rmtree(root)
        await project.told.until(lambda: len(project.told.changes) == 2)
        await until(lambda: project.state() == "unavailable")

        assert applied(before, project.told.changes) == {}


async def test_a_folder_replaced_by_a_link_is_not_followed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("claude_daemon.projects.watcher.REOPEN_S", 0.05)
    async with following(root) as project:
        move(root, root.parent / "real")
        (root.parent / root.name).symlink_to("/etc")
        await until(lambda: project.state() == "unavailable")
        await asyncio.sleep(0.1)

        assert project.told.brief() == []


async def test_more_files_than_allowed_are_left_out_and_the_project_says_so(root: Path) -> None:
    for number in range(20):
        (root / f"f{number}").write_text("x")
    async with following(root, max_files=10) as project:
        assert "more than 10 files" in (project.watcher.problem or "")
        assert project.snapshot.files <= 10


async def test_more_hints_than_files_are_a_loss(root: Path) -> None:
    async with following(root, max_files=50) as project:
        project.watcher._touched([(f"no/such/{number}", Wait.QUIET) for number in range(60)])
        await project.told.until(lambda: project.told.rescans)

        assert project.told.rescans == [0]
