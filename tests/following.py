"""A watcher on a real folder, and what it told."""

import asyncio
import os
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from claude_daemon.config import ProjectSettings
from claude_daemon.errors import StorageFullError
from claude_daemon.lib.tasks import Supervisor
from claude_daemon.projects.hints import Crossing, Hints, open_hints
from claude_daemon.projects.snapshot import Snapshot
from claude_daemon.projects.take import Change
from claude_daemon.projects.watcher import Watcher
from claude_daemon.projects.workers import Workers


class Told:
    """A listener that keeps what it was told, and can be full like a disk."""

    def __init__(self) -> None:
        self.changes: list[Change] = []
        self.rescans: list[int] = []
        self.full = False
        self._news = asyncio.Event()

    async def changed(self, changes: list[Change]) -> None:
        if self.full:
            raise StorageFullError("no room")
        self.changes += changes
        self._news.set()

    async def rescanned(self, changed: int) -> None:
        self.rescans.append(changed)
        self._news.set()

    def brief(self) -> list[tuple[str, str]]:
        return [(change.action, change.path) for change in self.changes]

    def clear(self) -> None:
        self.changes.clear()

    async def until(self, condition: Callable[[], object], *, within_s: float = 5.0) -> None:
        """Wait for news until `condition` holds.  Raises `TimeoutError`."""
        async with asyncio.timeout(within_s):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def about(self, path: str, *, within_s: float = 5.0) -> Change:
        """The first change of `path`, told already or to come."""
        await self.until(lambda: any(each.path == path for each in self.changes), within_s=within_s)
        return next(each for each in self.changes if each.path == path)


class Following:
    def __init__(
        self, root: Path, watcher: Watcher, snapshot: Snapshot, turn: asyncio.Lock, told: Told
    ) -> None:
        self.root = root
        self.watcher = watcher
        self.snapshot = snapshot
        self.turn = turn
        self.told = told

    def state(self) -> str:
        return self.watcher.state

    async def in_step(self, name: str = "fence", *, within_s: float = 5.0) -> None:
        """Return when everything that was done before has been told: a file's own change comes after it all.

        The name sorts and settles like any other, so what a test did before was hinted at before.
        """
        (self.root / name).write_text("fence")
        await self.told.about(name, within_s=within_s)
        self.told.changes = [each for each in self.told.changes if each.path != name]
        (self.root / name).unlink()
        await self.told.about(name, within_s=within_s)
        self.told.changes = [each for each in self.told.changes if each.path != name]


@asynccontextmanager
async def following(
    root: Path,
    *,
    snapshot: Snapshot | None = None,
    opener: Callable[[Path, Crossing], Hints] = open_hints,
    **settings: Any,
) -> AsyncIterator[Following]:
    """Watch `root`; inside, its first scan is done."""
    told, workers, turn = Told(), Workers(4), asyncio.Lock()
    chosen = ProjectSettings(**settings)
    snapshot = snapshot or Snapshot(max_entries=chosen.max_files)
    async with Supervisor() as supervisor:
        watcher = Watcher(root, snapshot, turn, told, settings=chosen, workers=workers, opener=opener)
        supervisor.loop("watcher", watcher.serve)
        async with asyncio.timeout(10):
            await watcher.ready.wait()
        yield Following(root, watcher, snapshot, turn, told)
        await watcher.stop()
    await workers.close()


def move(old: Path, new: Path) -> None:
    old.rename(new)


def make_fifo(path: Path) -> None:
    if sys.platform != "win32":
        os.mkfifo(path)


def make_socket(path: Path) -> None:
    if sys.platform != "win32":
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(path))


def on_disk(root: Path) -> dict[str, bytes]:
    """Every regular file below `root` with its content."""
    return {
        path.relative_to(root).as_posix(): path.read_bytes()
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def applied(tree: dict[str, bytes], changes: list[Change]) -> dict[str, bytes]:
    """What a client that mirrors the project has after these changes."""
    mirror = dict(tree)
    for change in changes:
        if change.action == "delete":
            del mirror[change.path]
        else:
            assert change.content is not None
            mirror[change.path] = change.content
    return mirror
