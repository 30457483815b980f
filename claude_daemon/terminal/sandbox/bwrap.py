"""bubblewrap: a command sees the system read-only, its project, and nothing else of this machine.

Its namespaces are its own (user, pid, net, ipc, uts, cgroup), it has no capability and no way to make
further namespaces.  bwrap itself is started with an empty environment, because `/proc/1/environ` inside
shows that of bwrap.  `/proc/sys` is made read-only: root's settings there ask for no capability, only for
root, and a `core_pattern` runs what it names on the host.
"""

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from claude_daemon.config import TerminalSettings
from claude_daemon.errors import SandboxUnavailableError
from claude_daemon.lib.files import write_private
from claude_daemon.terminal.cgroup import Cgroups
from claude_daemon.terminal.ending import Refusals
from claude_daemon.terminal.limits import Limits
from claude_daemon.terminal.prelude import prelude
from claude_daemon.terminal.sandbox import Capability, Confined, Job, Runner, Trial
from claude_daemon.terminal.sandbox.leftovers import end_leftovers
from claude_daemon.terminal.sandbox.protected import StandIns, held, opened

PROBE_TIMEOUT_S = 10.0  # it takes 0.1 s; one that takes so much longer hangs
PROBE_PROCESSES = 12
PROBE_FORKS = 20

SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
# What programs need to start and to name users: no keys, no hosts, no passwords.  A bind costs 0.1 ms a
# command, and each one more than the one before, so it is not "all that does no harm".
ETC = (
    "alternatives",
    "group",
    "java-*-openjdk",
    "ld-musl-*.path",
    "ld.so.cache",
    "localtime",
    "nsswitch.conf",
    "os-release",
    "passwd",
)
HOSTS = "127.0.0.1 localhost\n::1 localhost\n"
KERNEL = tuple(Path(each) for each in ("/proc", "/dev", "/sys"))
# A project that holds one of these would undo the sandbox around it.
TOO_MUCH = (*KERNEL, *(Path(each) for each in ("/etc", "/tmp", "/run", "/var", *SYSTEM)))  # noqa: S108  refused
HOMELESS = Path("/home/user")  # for a user whose home is no folder of its own

_KERNEL_SETTING = "/proc/sys/kernel/core_pattern"
# Processes that wait without a program of their own: the probe is part of every start.
_PROBE = (
    f"[ -w {_KERNEL_SETTING} ] && echo leak; echo alive; mkfifo /tmp/never; i=0; "
    f"while [ $i -lt {PROBE_FORKS} ]; "
    "do { read -r x <>/tmp/never; } & i=$((i+1)); echo $i; done"
)


@dataclass(frozen=True, slots=True)
class Mount:
    """`handle` is a descriptor of what to show at `path`."""

    handle: int
    path: Path
    writable: bool = False


class Bubblewrap:
    """`Sandbox` by bubblewrap."""

    def __init__(
        self,
        settings: TerminalSettings,
        *,
        state: Path,
        home: Path,
        hidden: Sequence[Path] = (),
        program: str = "bwrap",
    ) -> None:
        """`hidden` are the daemon's own folders, should one lie where a command can look."""
        self._settings = settings
        self._state = state
        self._hosts = state / "sandbox-hosts"
        self._home = _private_home(home.resolve())
        self._hidden = [folder.resolve() for folder in hidden]
        self._program = program
        self._options: frozenset[str] = frozenset()
        self._system: list[str] = []
        self._cgroups = Cgroups.none(state)
        self._counts_processes = False
        self._stand_ins = StandIns(state / "stand-ins")

    def sweep(self) -> None:
        end_leftovers(Path(self._program).name, str(self._hosts))
        self._stand_ins.sweep()
        Cgroups.find(self._state).sweep()

    async def probe(self, run: Runner) -> Capability:
        if sys.platform != "linux":
            raise SandboxUnavailableError(
                "no command is run because this version can confine one on Linux only"
            )
        self._options = await asyncio.to_thread(_options, _found(self._program))
        if "--perms" not in self._options:
            raise SandboxUnavailableError(
                "no command is run because this bubblewrap is older than 0.5; install a newer one"
            )
        write_private(self._hosts, HOSTS.encode())
        self._system = [*_system_arguments(), "--ro-bind", str(self._hosts), "/etc/hosts"]
        found = Cgroups.find(self._state)
        none = Cgroups.none(self._state)
        trial = Trial((), ())
        # The strictest way first; what this system does not let us do is left out, and said.
        for self._cgroups, self._counts_processes in ((found, True), (none, True), (none, False)):
            trial = await run(Job(_PROBE, self._probe_limits()))
            if _passed(trial):
                return Capability("bwrap", "off", self._limits(trial))
        raise SandboxUnavailableError(_refusal(trial))

    @contextmanager
    def confine(self, job: Job, *, report: int) -> Iterator[Confined]:
        with ExitStack() as stack:
            mounts = stack.enter_context(self._mounts(job, job.project)) if job.project else []
            try:
                group = stack.enter_context(self._cgroups.made(job.limits))
            except OSError as error:
                raise SandboxUnavailableError(
                    f"the command's memory and processes cannot be limited ({error}); restart the daemon"
                ) from None
            script = prelude(
                job.limits,
                processes=self._counts_processes and "pids" not in self._cgroups.parents,
                memory="memory" not in self._cgroups.parents,
            )
            argv = (
                _found(self._program),
                *self._arguments(mounts, job.cwd or job.project or self._home),
                *("--info-fd", str(report)),
                *("--", "/bin/sh", "-c", script, "sh", job.command),
            )
            yield Confined(
                argv=group.entering(argv) if group else argv,
                descriptors=tuple(mount.handle for mount in mounts),
                refused=group.refused if group else Refusals,
            )

    @contextmanager
    def _mounts(self, job: Job, project: Path) -> Iterator[list[Mount]]:
        """The project, then what is held in it: parents first, so that none covers another."""
        self._check(project)
        with ExitStack() as stack:
            root = stack.enter_context(opened(project))
            stack.enter_context(self._stand_ins.standing(root, project))
            mounts = {project: Mount(root, project, writable=True)}
            inner = [folder for folder in job.inner if os.path.lexists(folder)]
            for folder in {project, *inner, *_below(project, job.cwd or project)}:
                handle = root if folder == project else stack.enter_context(opened(folder))
                found = stack.enter_context(held(handle, folder))
                mounts |= {path: Mount(handle, path) for path, handle in found.items()}
                if found:
                    # A folder can be renamed and another put in its place, mounts in it or not, unless
                    # it is itself a mount.
                    for above in _below(project, folder):
                        pin = stack.enter_context(opened(above))
                        mounts.setdefault(above, Mount(pin, above, writable=True))
            yield sorted(mounts.values(), key=lambda mount: len(mount.path.parts))

    def _check(self, project: Path) -> None:
        for place in (self._home, *TOO_MUCH):
            if place.is_relative_to(project):
                raise SandboxUnavailableError(
                    f"no command can be confined to {project} because {place} lies in it; "
                    "add the folder of a single project instead"
                )
        for place in self._hidden:
            if project.is_relative_to(place):
                raise SandboxUnavailableError(
                    f"no command can be confined to {project} because it lies in {place}, which is the "
                    "daemon's own; move the project elsewhere"
                )

    def _arguments(self, mounts: Sequence[Mount], cwd: Path) -> list[str]:
        """What bwrap is to do, in this order."""
        arguments = [
            *("--unshare-all", "--unshare-user", "--cap-drop", "ALL", "--die-with-parent", "--new-session"),
            *self._if_known("--disable-userns"),
            *("--setenv", "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
            *("--setenv", "HOME", str(self._home), "--setenv", "TMPDIR", "/tmp"),  # noqa: S108  its own
            *("--setenv", "LANG", "C.UTF-8", "--setenv", "TERM", "dumb"),
            *self._system,
            *("--proc", "/proc", "--ro-bind", "/proc/sys", "/proc/sys", "--dev", "/dev"),
            *(*self._in_memory("1777", "/dev/shm"), "--remount-ro", "/dev"),  # noqa: S108  its own
            *self._in_memory("1777", "/tmp"),  # noqa: S108  its own
            *self._in_memory("0700", str(self._home)),
        ]
        for mount in mounts:
            arguments += self._mount(mount)
        shown = [*map(Path, SYSTEM), *(mount.path for mount in mounts[:1])]
        for folder in self._hidden:
            if any(map(folder.is_relative_to, shown)) and folder.is_dir():
                arguments += self._in_memory("0700", str(folder))
        return [*arguments, "--remount-ro", "/", "--chdir", str(cwd)]

    def _in_memory(self, mode: str, path: str) -> list[str]:
        """An empty folder.  bwrap before 0.7 cannot bound it; then the kernel does, at half the memory."""
        size = self._if_known("--size", str(self._settings.scratch_bytes))
        return ["--perms", mode, *size, "--tmpfs", path]

    def _mount(self, mount: Mount) -> list[str]:
        option = "--bind" if mount.writable else "--ro-bind"
        if "--bind-fd" in self._options:
            return [f"{option}-fd", str(mount.handle), str(mount.path)]
        return [option, str(mount.path), str(mount.path)]

    def _if_known(self, option: str, *values: str) -> list[str]:
        return [option, *values] if option in self._options else []

    def _probe_limits(self) -> Limits:
        settings = self._settings
        return Limits(
            wall_s=PROBE_TIMEOUT_S,
            output_bytes=settings.output_bytes,
            cpu_s=settings.cpu_s,
            memory_bytes=settings.memory_bytes,
            processes=PROBE_PROCESSES,
            file_bytes=settings.file_bytes,
        )

    def _limits(self, trial: Trial) -> tuple[str, ...]:
        """Those that held.  `process_memory` binds each process by itself and not the command as a whole."""
        limits = ["time", "cpu", "output", "file_size"]
        limits.append("memory" if "memory" in self._cgroups.parents else "process_memory")
        if trial.lines[-1] != str(PROBE_FORKS):
            limits.append("processes")
        return tuple(limits)


def _private_home(home: Path) -> Path:
    if home in {Path("/"), *TOO_MUCH} or any(map(home.is_relative_to, KERNEL)):
        return HOMELESS
    return home


def _found(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise SandboxUnavailableError(
            "no command is run because bubblewrap is not installed to confine it; install it "
            "(apt-get install bubblewrap, or dnf install bubblewrap) and try again"
        )
    return path


def _options(program: str) -> frozenset[str]:
    """The options that this version knows: its number says nothing, since some are ported back."""
    try:
        done = subprocess.run([program, "--help"], capture_output=True, text=True, timeout=5, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SandboxUnavailableError(
            f"no command is run because {program} does not work ({error}); install bubblewrap again"
        ) from None
    return frozenset(re.findall(r"--[a-z0-9-]+", done.stdout + done.stderr))


def _system_arguments() -> list[str]:
    arguments = []
    for folder in map(Path, SYSTEM):
        arguments += _shown(folder)
    for pattern in ETC:
        for path in sorted(Path("/etc").glob(pattern)):
            arguments += _shown(path)
    return arguments


def _shown(path: Path) -> list[str]:
    """A link stays a link: it leads to a place that is there, and costs nothing."""
    if path.is_symlink():
        return ["--symlink", str(path.readlink()), str(path)]
    return ["--ro-bind", str(path), str(path)] if path.exists() else []


def _below(project: Path, folder: Path) -> list[Path]:
    """The folders from below `project` down to `folder`."""
    return [each for each in (folder, *folder.parents) if each != project and each.is_relative_to(project)]


def _passed(trial: Trial) -> bool:
    """It ran, the kernel's settings were out of its reach, and it could fork at all."""
    return "alive" in trial.lines and "leak" not in trial.lines and trial.lines[-1].isdigit()


def _refusal(trial: Trial) -> str:
    if "leak" in trial.lines:
        return (
            "no command is run because root in a sandbox could change the kernel's settings here; "
            "run the daemon as an ordinary user"
        )
    said = next((line for line in trial.errors if line.startswith("bwrap:")), "it ended without a word")
    return (
        f"no command is run because bubblewrap cannot make a sandbox here ({said}); allow user namespaces "
        "(Ubuntu: an AppArmor profile for bwrap; in a container: a seccomp profile that permits them) and "
        "try again"
    )
