"""Control groups: limits that hold for a command as a whole, where the system lets us make a group.

RLIMIT_NPROC does not bind root, and no rlimit counts a command's memory together.  A group does both.  In
the unified hierarchy (v2) one is made below the nearest of our own groups that we may write to and that
hands memory and pids on to its children: root's, or that of a user's systemd session.  In the older one
(v1) each of the two has a tree of its own.

The move into a group is made by the process itself, before it becomes the sandbox: it takes the kernel up
to some 10 ms, which would otherwise be the event loop's.
"""

import contextlib
import itertools
import os
from collections.abc import Iterator, Mapping
from hashlib import blake2s
from pathlib import Path

from claude_daemon.terminal.ending import Refusals
from claude_daemon.terminal.limits import Limits

CONTROLLERS = ("memory", "pids")
OWN_PROCESSES = 4  # bwrap twice, and two shells around the command

# Moves itself into each group named before the `--`, then becomes what is named after it.
_ENTER = 'while [ "$1" != -- ]; do echo 0 >"$1" || exit 125; shift; done; shift; exec "$@"'


class Cgroup:
    """One command's group: a folder for both controllers (v2), or one each (v1)."""

    def __init__(self, folders: Mapping[str, Path], *, unified: bool) -> None:
        self._folders = folders
        self._unified = unified

    def limit(self, limits: Limits) -> None:
        """Raises `OSError` when a limit cannot be set."""
        memory, pids = self._folders.get("memory"), self._folders.get("pids")
        if pids:
            _write(pids / "pids.max", limits.processes + OWN_PROCESSES)
        if memory and self._unified:
            _write(memory / "memory.max", limits.memory_bytes)
            with contextlib.suppress(OSError):  # a kernel without swap accounting
                _write(memory / "memory.swap.max", 0)
                _write(memory / "memory.oom.group", 1)
        elif memory:
            _write(memory / "memory.limit_in_bytes", limits.memory_bytes)
            with contextlib.suppress(OSError):
                _write(memory / "memory.memsw.limit_in_bytes", limits.memory_bytes)

    def entering(self, argv: tuple[str, ...]) -> tuple[str, ...]:
        """`argv`, preceded by the step into this group."""
        door = "cgroup.procs" if self._unified else "tasks"
        doors = dict.fromkeys(str(folder / door) for folder in self._folders.values())
        return ("/bin/sh", "-c", _ENTER, "sh", *doors, "--", *argv)

    def refused(self) -> Refusals:
        memory, pids = self._folders.get("memory"), self._folders.get("pids")
        counter = "memory.events" if self._unified else "memory.oom_control"
        return Refusals(
            memory=_count(memory / counter, "oom_kill") if memory else 0,
            forks=_count(pids / "pids.events", "max") if pids else 0,
        )

    def remove(self) -> None:
        """A group that cannot go yet goes with the next sweep."""
        for folder in set(self._folders.values()):
            with contextlib.suppress(OSError):
                folder.rmdir()


class Cgroups:
    """Where groups can be made.  `parents` has no entry for a controller that we cannot use."""

    def __init__(self, parents: Mapping[str, Path], *, unified: bool, owner: Path) -> None:
        """`owner`, the daemon's state folder, sets the names of its groups apart from another daemon's."""
        self.parents = parents
        self._unified = unified
        self._prefix = f"claude-daemon-{blake2s(os.fsencode(owner), digest_size=6).hexdigest()}-"
        self._numbers = itertools.count(1)

    @classmethod
    def none(cls, owner: Path) -> "Cgroups":
        """Where no group is made."""
        return cls({}, unified=True, owner=owner)

    @classmethod
    def find(cls, owner: Path, *, proc: Path = Path("/proc")) -> "Cgroups":
        try:
            groups = [line.split(":", 2) for line in (proc / "self/cgroup").read_text().splitlines()]
            mounts = [line.split() for line in (proc / "self/mounts").read_text().splitlines()]
        except OSError:
            return cls.none(owner)
        if parent := _unified_parent(groups, mounts):
            return cls(dict.fromkeys(CONTROLLERS, parent), unified=True, owner=owner)
        return cls(_older_parents(groups, mounts), unified=False, owner=owner)

    @contextlib.contextmanager
    def made(self, limits: Limits) -> Iterator[Cgroup | None]:
        """A group for the time of a command; None where there can be none.  Raises `OSError`."""
        if not self.parents:
            yield None
            return
        name = f"{self._prefix}{next(self._numbers)}"
        group = Cgroup({each: folder / name for each, folder in self.parents.items()}, unified=self._unified)
        try:
            for parent in set(self.parents.values()):
                (parent / name).mkdir(mode=0o755)
            group.limit(limits)
            yield group
        finally:
            group.remove()

    def sweep(self) -> None:
        """Remove the empty groups that an earlier run left behind."""
        for parent in set(self.parents.values()):
            for folder in parent.glob(f"{self._prefix}*"):
                with contextlib.suppress(OSError):
                    folder.rmdir()


def _unified_parent(groups: list[list[str]], mounts: list[list[str]]) -> Path | None:
    root = next((Path(each[1]) for each in mounts if each[2] == "cgroup2"), None)
    own = next((each[2] for each in groups if each[0] == "0"), None)
    if root is None or own is None:
        return None
    folder = root / own.lstrip("/")
    for each in (folder, *folder.parents):
        if each.is_relative_to(root) and _hands_on(each) and _can_make_groups(each):
            return each
    return None


def _hands_on(folder: Path) -> bool:
    try:
        handed = (folder / "cgroup.subtree_control").read_text().split()
    except OSError:
        return False
    return set(CONTROLLERS) <= set(handed)


def _can_make_groups(folder: Path) -> bool:
    """Moving a process needs the common ancestor's `cgroup.procs` too, which is this one's."""
    return os.access(folder, os.W_OK) and os.access(folder / "cgroup.procs", os.W_OK)


def _older_parents(groups: list[list[str]], mounts: list[list[str]]) -> dict[str, Path]:
    parents = {}
    for controller in CONTROLLERS:
        root = next((Path(m[1]) for m in mounts if m[2] == "cgroup" and controller in m[3].split(",")), None)
        own = next((g[2] for g in groups if controller in g[1].split(",")), None)
        if root is not None and own is not None and _can_make_groups(root / own.lstrip("/")):
            parents[controller] = root / own.lstrip("/")
    return parents


def _write(file: Path, value: int) -> None:
    """In place: the files of a cgroup are neither created nor truncated."""
    descriptor = os.open(file, os.O_WRONLY)
    try:
        os.write(descriptor, str(value).encode())
    finally:
        os.close(descriptor)


def _count(file: Path, name: str) -> int:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name} ")), 0)
