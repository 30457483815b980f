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
from claude_daemon.projects.look import Looked, Looker
from claude_daemon.projects.root import Identity
from claude_daemon.projects.settle import Settle, Wait
from claude_daemon.projects.snapshot import Snapshot, unread
from claude_daemon.projects.survey import FolderGoneError, Survey, identify
from claude_daemon.projects.take import Change, Taken, Taker
from claude_daemon.projects.workers import Workers

log = logging.getLogger(__name__)

State = Literal["watching", "scanning", "polling", "paused", "unavailable"]

REOPEN_S = 1.0  # between looks for a folder that isn't there
GONE_S = 0.1  # a look may find the folder gone a little before the system says how it went
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
                identity = await self._workers.run(identify, self._path)
            except OSError as error:
                self.state = "unavailable"
                self.problem = (
                    f"{self._path} cannot be opened: {error.strerror}; bring it back or remove the project"
                )
                self._losses.add(Loss.MOVED)
                await self._sleep_until(_now() + REOPEN_S)
                continue
            try:
                await self._follow(identity)
            except Exception:
                self.state, self.problem = "unavailable", "watching failed; it starts again in a moment"
                raise

    async def _follow(self, identity: Identity) -> None:
        """Watch the folder for as long as it is the same one and the system's events can be heard."""
        crossing = Crossing(touched=self._touched, lost=self._lost, limit=self._settings.max_files)
        hints = await self._workers.run(self._opener, self._path, crossing)
        looker = Looker(
            self._snapshot,
            hints,
            keep_bytes=max(self._settings.inline_bytes, self._settings.version_file_bytes),
            young_s=self._settings.settle_max_ms / 1000,
            waiting=self._settle.__contains__,
            elsewhere=self._elsewhere,
        )
        taker = Taker(self._snapshot, leave=looker.leave)
        try:
            await self._compare_on(Survey(self._path, identity, looker, taker))
        except FolderGoneError:
            await self._gone(taker)
        finally:
            self._settle.clear()
            await self._workers.run(hints.close)

    async def _gone(self, taker: Taker) -> None:
        """The folder is another one or none.  If it was deleted, so were its files; if not, who knows."""
        await asyncio.sleep(GONE_S)
        if Loss.REMOVED in self._losses and not await self._workers.run(self._path.exists):
            async with self._turn:
                taken = taker.all_gone()
                if taken.changes:
                    await self._tell(taker, taken)
        self._losses.add(Loss.MOVED)

    async def _compare_on(self, survey: Survey) -> None:
        """Raises `FolderGoneError`; returns when hints can no longer be heard."""
        hints = survey.looker.hints
        due: deque[str] = deque()
        scan: _Scan | None = self._begin_scan(survey)
        while not self._stopping:
            if scan:
                scan.found += await self._compare(survey, scan.queue)
                if not scan.queue:
                    await self._end_scan(scan, survey)
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
                await self._workers.run(survey.check)
                if Loss.DEAD in self._losses:
                    return
                scan = self._begin_scan(survey)

    async def _compare(self, survey: Survey, queue: deque[str]) -> int:
        """Compare a slice of what is queued and tell what changed; returns how much."""
        began = _now()
        looked = await self._workers.run(survey.look, queue, read_new=self._snapshot.complete)
        self._await_writers(looked.young)
        return await self._take(survey, looked, patience_s=(_now() - began) * PATIENCE)

    async def _take(self, survey: Survey, looked: Looked, *, patience_s: float) -> int:
        if not looked.seen:
            return 0
        async with self._turn:
            taken = await self._workers.run(survey.take, looked, announce_new=self._snapshot.complete)
            if taken.changes:
                await self._tell(survey.taker, taken)
        self._touched([(folder, Wait.QUIET) for folder in taken.anew])
        if patience_s * 1000 <= self._settings.settle_max_ms:
            self._await_writers(taken.again)
        else:
            asyncio.get_running_loop().call_later(patience_s, self._await_writers, taken.again)
        return len(taken.changes)

    async def _tell(self, taker: Taker, taken: Taken) -> None:
        try:
            await self._listener.changed(taken.changes)
        except BaseException as error:
            await self._workers.run(taker.forget, taken)
            self._untold = True
            self._scan_at = min(self._scan_at, _now() + RETRY_S)
            if not isinstance(error, DaemonError):
                raise
            log.warning("changes could not be told", extra={"path": str(self._path), "reason": str(error)})

    def _await_writers(self, paths: Iterable[str]) -> None:
        """Somebody was just writing these; a hint tells when he is done, if the system can."""
        self._touched([(path, Wait.CLOSE) for path in paths if path not in self._settle])

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

    def _begin_scan(self, survey: Survey) -> _Scan:
        scan = _Scan(_now(), lost=bool(self._losses))
        self._losses.clear()
        self._untold = survey.taker.left_out = False
        survey.looker.hints.retry()
        if scan.lost or not self._snapshot.complete:
            self.state = "scanning"
        return scan

    async def _end_scan(self, scan: _Scan, survey: Survey) -> None:
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
        polling = survey.looker.hints.full
        if polling:
            pause = max(self._settings.poll_s, POLL_SHARE * (_now() - scan.began))
        self._scan_at = _now() + (RETRY_S if self._untold else pause)
        self.state = "polling" if polling else "watching"
        self.problem = " ".join(self._problems(survey, pause)) or None
        self._snapshot.complete = True
        self.ready.set()

    async def _rescanned(self, changed: int) -> None:
        try:
            await self._listener.rescanned(changed)
        except DaemonError as error:  # the changes themselves were told; this only says why so late
            log.warning("rescan could not be told", extra={"path": str(self._path), "reason": str(error)})

    def _problems(self, survey: Survey, pause_s: float) -> Iterable[str]:
        if survey.looker.hints.full:
            yield (
                f"The system has no more watches to give, so the folder is compared every {pause_s:.0f} s; "
                "raise fs.inotify.max_user_watches and max_user_instances."
            )
        if survey.taker.left_out:
            yield (
                f"It has more than {self._settings.max_files:,} files and folders; the rest is not watched. "
                "Add what need not be to .gitignore, or raise projects.max_files."
            )
        if survey.looker.unnamed:
            folder, count = next(iter(survey.looker.unnamed.items()))
            yield (
                f"{sum(survey.looker.unnamed.values())} names are not UTF-8 and cannot be shown, "
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
