"""Both sources of hints say where something happened; each is run on the real system."""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from claude_daemon.projects.hints import Crossing, Hints, Loss
from claude_daemon.projects.inotify import InotifyHints
from claude_daemon.projects.observer import ObserverHints
from claude_daemon.projects.settle import Wait
from following import move


class Heard:
    def __init__(self) -> None:
        self.paths: list[tuple[str, Wait]] = []
        self.losses: list[Loss] = []
        self.crossings = 0
        self._news = asyncio.Event()

    def touched(self, arrived: list[tuple[str, Wait]]) -> None:
        self.crossings += 1
        self.paths += arrived
        self._news.set()

    def lost(self, loss: Loss) -> None:
        self.losses.append(loss)
        self._news.set()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def about(self, path: str) -> None:
        await self.until(lambda: any(each == path for each, _ in self.paths))


@pytest.fixture
def heard() -> Heard:
    return Heard()


@pytest.fixture(params=[InotifyHints, ObserverHints])
async def hints(request: pytest.FixtureRequest, tmp_path: Path, heard: Heard) -> AsyncIterator[Hints]:
    (tmp_path / "sub").mkdir()
    crossing = Crossing(touched=heard.touched, lost=heard.lost, limit=10_000)
    hints = request.param(tmp_path, crossing)
    hints.watch("")
    hints.watch("sub")
    yield hints
    await asyncio.to_thread(hints.close)


async def test_files_that_come_change_move_and_go_are_hinted_at(
    hints: Hints, heard: Heard, tmp_path: Path
) -> None:
    (tmp_path / "sub" / "a").write_text("x")
    await heard.about("sub/a")
    heard.paths.clear()
    (tmp_path / "sub" / "a").write_text("y")
    await heard.about("sub/a")
    heard.paths.clear()
    (tmp_path / "sub" / "a").rename(tmp_path / "b")
    await heard.about("sub/a")
    await heard.about("b")
    heard.paths.clear()
    (tmp_path / "b").unlink()
    await heard.about("b")


async def test_a_folder_that_comes_is_hinted_at_without_waiting(
    hints: Hints, heard: Heard, tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir()
    await heard.about("new")

    assert ("new", Wait.NONE) in heard.paths


async def test_reading_gives_no_hint(hints: Hints, heard: Heard, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    await heard.about("a")
    await asyncio.sleep(0.1)
    heard.paths.clear()

    for _ in range(100):
        (tmp_path / "a").read_bytes()
        list(os.scandir(tmp_path))
    (tmp_path / "end").touch()
    await heard.about("end")

    assert {path for path, _ in heard.paths} == {"end"}


async def test_the_end_of_the_folder_itself_is_a_loss(hints: Hints, heard: Heard, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path)

    await heard.until(lambda: Loss.REMOVED in heard.losses)


async def test_a_folder_that_is_moved_is_a_loss_too(hints: Hints, heard: Heard, tmp_path: Path) -> None:
    move(tmp_path, tmp_path.parent / f"{tmp_path.name}-moved")
    (tmp_path.parent / f"{tmp_path.name}-moved").rename(tmp_path)

    if isinstance(hints, InotifyHints):  # the observer says nothing of its own root's move
        await heard.until(lambda: Loss.MOVED in heard.losses)


async def test_names_that_are_not_utf8_are_left_out(hints: Hints, heard: Heard, tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"bad-\xff")).touch()
    (tmp_path / "good").touch()
    await heard.about("good")

    assert all(path == "good" for path, _ in heard.paths)


@pytest.fixture
async def inotify(tmp_path: Path, heard: Heard) -> AsyncIterator[InotifyHints]:
    hints = InotifyHints(tmp_path, Crossing(touched=heard.touched, lost=heard.lost, limit=10_000))
    hints.watch("")
    yield hints
    await asyncio.to_thread(hints.close)


async def test_a_writer_at_work_is_told_from_one_that_is_done(
    inotify: InotifyHints, heard: Heard, tmp_path: Path
) -> None:
    with (tmp_path / "a").open("w") as file:
        file.write("half")
        file.flush()
        await heard.about("a")
        assert {wait for _, wait in heard.paths} == {Wait.CLOSE}
    await heard.until(lambda: ("a", Wait.QUIET) in heard.paths)


async def test_a_folder_watched_again_is_heard_once_under_its_newest_name(
    inotify: InotifyHints, heard: Heard, tmp_path: Path
) -> None:
    (tmp_path / "old").mkdir()
    for _ in range(3):
        inotify.watch("old")
    (tmp_path / "old").rename(tmp_path / "new")
    inotify.watch("new")
    inotify.unwatch("old")
    await asyncio.sleep(0.05)
    heard.paths.clear()

    (tmp_path / "new" / "x").mkdir()
    (tmp_path / "end").mkdir()
    await heard.about("end")

    assert [path for path, _ in heard.paths] == ["new/x", "end"]


async def test_a_folder_no_longer_watched_is_not_heard(
    inotify: InotifyHints, heard: Heard, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    inotify.watch("out")
    inotify.unwatch("out")
    inotify.unwatch("out")
    (tmp_path / "out" / "x").touch()
    (tmp_path / "end").touch()
    await heard.about("end")

    assert "out/x" not in [path for path, _ in heard.paths]


async def test_a_link_is_not_watched(inotify: InotifyHints, heard: Heard, tmp_path: Path) -> None:
    outside = tmp_path.parent / f"{tmp_path.name}-outside"
    outside.mkdir()
    (tmp_path / "link").symlink_to(outside)
    inotify.watch("link")
    (outside / "x").touch()
    (tmp_path / "end").touch()
    await heard.about("end")

    assert "link/x" not in [path for path, _ in heard.paths]


async def test_a_burst_crosses_in_few_steps(inotify: InotifyHints, heard: Heard, tmp_path: Path) -> None:
    for number in range(500):
        (tmp_path / str(number)).touch()
    await heard.about("499")

    assert heard.crossings < 100


async def test_hints_that_the_loop_cannot_take_are_a_loss_and_not_memory(
    tmp_path: Path, heard: Heard
) -> None:
    crossing = Crossing(touched=heard.touched, lost=heard.lost, limit=10)
    for number in range(1_000):
        crossing.touch(str(number), Wait.QUIET)
    await heard.until(lambda: heard.losses)

    assert heard.losses == [Loss.OVERFLOW]
    assert len(heard.paths) == 10


async def test_a_reader_that_dies_is_a_loss(inotify: InotifyHints, heard: Heard) -> None:
    os.close(inotify._reader._inotify_fd)
    inotify._reader._inotify_fd = os.open("/", os.O_RDONLY)  # reading it fails as nothing else does
    os.write(inotify._reader._kill_w, b"!")

    await heard.until(lambda: heard.losses)

    assert heard.losses == [Loss.DEAD]
