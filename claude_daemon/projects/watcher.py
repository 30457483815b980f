"""Follows one project's folder: hints settle, the survey compares, what truly changed is told in order.

The driver around `Settle` (when), `Hints` (where) and `Survey` (what).  It owns the project's *turn*: the
lock under which snapshot and disk are one.  A client's write takes it too, from before its rename until
its fact is published.  So nobody compares between a write and the snapshot's knowing of it, and facts
leave in the order in which things happened on the disk.
"""

import asyncio
import contextlib
import logging
import math
from collections import deque
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from claude_daemon.config import ProjectSettings
from claude_daemon.errors import DaemonError
from claude_daemon.projects.hints import Crossing, Hints, Loss, open_hints
from claude_daemon.projects.root import Root
from claude_daemon.projects.settle import Settle, Wait
from claude_daemon.projects.snapshot import Snapshot, unread
from claude_daemon.projects.survey import Change, Looked, Survey, Taken
from claude_daemon.projects.workers import Workers

log = logging.getLogger(__name__)

State = Literal["watching", "scanning", "polling", "paused", "unavailable"]

REOPEN_S = 1.0  # between looks for a folder that isn't there
RETRY_S = 5.0  # after nobody could be told of a change
PATIENCE = 4  # a file that changed while it was read is left alone for so many times as long
POLL_SHARE = 10  # a tree that takes a second to compare is polled every ten
LEARN_FILES = 64  # read in one go while nothing else is to be done …
LEARN_PAUSE = 3  # … and the pause after it, in times of its length


class Listener(Protocol):
    """Who is told, within the turn."""

    async def changed(self, changes: list[Change]) -> None:
        """Tell them all, in order.  After an exception all are found and told again."""

    async def rescanned(self, changed: int) -> None:
        """All was compared because hints were lost; that many changes had gone unseen."""


@dataclass(slots=True)
class _Scan:
    began: float
    lost: bool
    """Whether hints are known to be lost."""
    queue: deque[str] = field(default_factory=lambda: deque([""]))
    found: int = 0


class Watcher:
    """`serve` runs until `stop`, once.  A successor with the same snapshot tells what changed in between."""

    def __init__(
        self,
        path: Path,
        snapshot: Snapshot,
        turn: asyncio.Lock,
        listener: Listener,
        *,
        settings: ProjectSettings,
        workers: Workers,
        elsewhere: Container[str] = (),
        opener: Callable[[Path, Crossing], Hints] = open_hints,
    ) -> None:
        self.state: State = "scanning"
        self.problem: str | None = None
        self.ready = asyncio.Event()
        """Set when the first scan is through; from then on everything that changes is told."""
        self._path = path
        self._snapshot = snapshot
        self._turn = turn
        self._elsewhere = elsewhere
        self._settings = settings
        self._listener = listener
        self._workers = workers
        self._opener = opener
        self._settle = Settle(quiet_s=settings.settle_ms / 1000, longest_s=settings.settle_max_ms / 1000)
        self._losses: set[Loss] = set()
        self._unlearned: deque[str] = deque()
        self._learn_at = 0.0
        self._scan_at = math.inf
        self._untold = False
        self._awake = asyncio.Event()
        self._stopping = False
        self._serving: asyncio.Lock = asyncio.Lock()

    async def serve(self) -> None:
        async with self._serving:
            await self._serve()

    async def stop(self) -> None:
        """End `serve`, and wait until it has."""
        self._stopping = True
        self._awake.set()
        async with self._serving:
            pass

    def compare_again(self, paths: Iterable[str], *, after_s: float = 0.0) -> None:
        """Look at these paths as if the system had given a hint; `""` is everything."""
        hints = [(path, Wait.QUIET) for path in paths]
        asyncio.get_running_loop().call_later(after_s, self._touched, hints)

    async def _serve(self) -> None:
        while not self._stopping:
            try:
                root = await self._workers.run(Root, self._path)
            except OSError as error:
                self.state = "unavailable"
                self.problem = (
                    f"{self._path} cannot be opened: {error.strerror}; bring it back or remove the project"
                )
                self._losses.add(Loss.ROOT)
                await self._sleep_until(_now() + REOPEN_S)
                continue
            try:
                await self._follow(root)
            except Exception:
                self.state, self.problem = "unavailable", "watching failed; it starts again in a moment"
                raise
            finally:
                root.close()

    async def _follow(self, root: Root) -> None:
        """Watch one folder for as long as it stands at its path and the system's events can be heard."""
        crossing = Crossing(touched=self._touched, lost=self._lost, limit=self._settings.max_files)
        hints = await self._workers.run(self._opener, root.path, crossing)
        survey = Survey(
            root,
            self._snapshot,
            hints,
            elsewhere=self._elsewhere,
            keep_bytes=max(self._settings.inline_bytes, self._settings.version_file_bytes),
            young_s=self._settings.settle_max_ms / 1000,
            waiting=self._settle.__contains__,
        )
        try:
            await self._compare_on(root, survey, hints)
        finally:
            self._settle.clear()
            await self._workers.run(hints.close)

    async def _compare_on(self, root: Root, survey: Survey, hints: Hints) -> None:
        due: deque[str] = deque()
        scan: _Scan | None = self._begin_scan(survey, hints)
        while not self._stopping:
            if scan:
                scan.found += await self._compare(survey, scan.queue)
                if not scan.queue:
                    await self._end_scan(scan, survey, hints)
                    scan = None
            if not self._snapshot.complete:
                continue  # until the first scan is through, nobody can tell what is new
            due.extend(self._settle.due(_now()))
            if due:
                await self._compare(survey, due)
            elif scan is None:
                await self._idle(survey)
            if hints.full and self.state == "watching":
                self._scan_at = _now()
            if scan is None and (self._losses or _now() >= self._scan_at):
                if Loss.DEAD in self._losses or not await self._workers.run(root.stands):
                    self._losses.add(Loss.ROOT)
                    return
                scan = self._begin_scan(survey, hints)

    async def _compare(self, survey: Survey, queue: deque[str]) -> int:
        """Compare a slice of what is queued and tell what changed; returns how much."""
        began = _now()
        looked = await self._workers.run(survey.look, queue, read_new=self._snapshot.complete)
        now = _now()
        for path in looked.young:
            self._settle.touch(path, now, Wait.CLOSE)
        return await self._take(survey, looked, patience_s=(now - began) * PATIENCE)

    async def _take(self, survey: Survey, looked: Looked, *, patience_s: float) -> int:
        if not looked.seen:
            return 0
        async with self._turn:
            taken = await self._workers.run(survey.take, looked, announce_new=self._snapshot.complete)
            if taken.changes:
                await self._tell(survey, taken)
        self._look_again(taken.again, patience_s)
        return len(taken.changes)

    async def _tell(self, survey: Survey, taken: Taken) -> None:
        try:
            await self._listener.changed(taken.changes)
        except BaseException as error:
            await self._workers.run(survey.forget, taken)
            self._untold = True
            self._scan_at = min(self._scan_at, _now() + RETRY_S)
            if not isinstance(error, DaemonError):
                raise
            log.warning("changes could not be told", extra={"path": str(self._path), "reason": str(error)})

    def _look_again(self, paths: Iterable[str], patience_s: float) -> None:
        for path in paths:
            if patience_s * 1000 <= self._settings.settle_ms:
                self._settle.touch(path, _now())
            else:
                self.compare_again([path], after_s=patience_s)

    async def _idle(self, survey: Survey) -> None:
        """Wait for something to do, and meanwhile read what nobody has read yet."""
        due = self._settle.next_due()
        until = min(self._scan_at, math.inf if due is None else due)
        if not self._unlearned:
            await self._sleep_until(until)
        elif self._learn_at > _now():
            await self._sleep_until(min(until, self._learn_at))
        else:
            began = _now()
            paths = [self._unlearned.popleft() for _ in range(min(LEARN_FILES, len(self._unlearned)))]
            await self._take(survey, await self._workers.run(survey.learn, paths), patience_s=0)
            self._learn_at = _now() + LEARN_PAUSE * (_now() - began)

    def _begin_scan(self, survey: Survey, hints: Hints) -> _Scan:
        scan = _Scan(_now(), lost=bool(self._losses))
        self._losses.clear()
        self._untold = survey.left_out = False
        hints.retry()
        if scan.lost or not self._snapshot.complete:
            self.state = "scanning"
        return scan

    async def _end_scan(self, scan: _Scan, survey: Survey, hints: Hints) -> None:
        async with self._turn:
            if not self._snapshot.complete:
                self._unlearned.extend(
                    unread(
                        self._snapshot.walk(),
                        file_bytes=self._settings.version_file_bytes,
                        bytes_in_all=self._settings.learn_bytes,
                    )
                )
            elif scan.lost or scan.found:
                await self._rescanned(scan.found)
        pause = self._settings.rescan_s
        if hints.full:
            pause = max(self._settings.poll_s, POLL_SHARE * (_now() - scan.began))
        self._scan_at = _now() + (RETRY_S if self._untold else pause)
        self.state = "polling" if hints.full else "watching"
        self.problem = " ".join(self._problems(survey, hints, pause)) or None
        self._snapshot.complete = True
        self.ready.set()

    async def _rescanned(self, changed: int) -> None:
        try:
            await self._listener.rescanned(changed)
        except DaemonError as error:  # the changes themselves were told; this only says why so late
            log.warning("rescan could not be told", extra={"path": str(self._path), "reason": str(error)})

    def _problems(self, survey: Survey, hints: Hints, pause_s: float) -> Iterable[str]:
        if hints.full:
            yield (
                f"The system has no more watches to give, so the folder is compared every {pause_s:.0f} s; "
                "raise fs.inotify.max_user_watches and max_user_instances."
            )
        if survey.left_out:
            yield (
                f"It has more than {self._settings.max_files:,} files and folders; the rest is not watched. "
                "Add what need not be to .gitignore, or raise projects.max_files."
            )
        if survey.unnamed:
            folder, count = next(iter(survey.unnamed.items()))
            yield (
                f"{sum(survey.unnamed.values())} names are not UTF-8 and cannot be shown, "
                f"{count} of them in {folder or 'the folder itself'}."
            )

    def _touched(self, arrived: list[tuple[str, Wait]]) -> None:
        now = _now()
        for path, wait in arrived:
            self._settle.touch(path, now, wait)
        if len(self._settle) > self._settings.max_files:
            self._settle.clear()
            self._losses.add(Loss.OVERFLOW)
        self._awake.set()

    def _lost(self, loss: Loss) -> None:
        log.warning("file events were lost", extra={"path": str(self._path), "reason": loss.value})
        self._losses.add(loss)
        self._awake.set()

    async def _sleep_until(self, when: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout_at(None if when == math.inf else when):
                await self._awake.wait()
        self._awake.clear()


def _now() -> float:
    return asyncio.get_running_loop().time()
