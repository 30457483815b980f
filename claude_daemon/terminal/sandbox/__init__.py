"""What a sandbox is: a job goes in, what to start comes out; and it says beforehand what it can hold.

A mechanism that cannot confine a command raises `SandboxUnavailableError`.  There is no way to run
one without.
"""

from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from claude_daemon.terminal.ending import Refusals
from claude_daemon.terminal.limits import Limits

Mechanism = Literal["bwrap", "landlock", "seatbelt", "job", "none"]
Network = Literal["off", "allowlist", "on"]


@dataclass(frozen=True, slots=True)
class Job:
    """A command and where it may work."""

    command: str
    limits: Limits
    project: Path | None = None
    """The one folder that it may read and write, by its real path; None: only an empty home of its own."""
    cwd: Path | None = None
    """Below `project`; None: the project itself, or that home."""
    inner: tuple[Path, ...] = ()
    """Registered projects that lie within `project`: their protected paths are held as well."""


@dataclass(frozen=True, slots=True)
class Confined:
    """What to start, with an empty environment, to run a job."""

    argv: tuple[str, ...]
    descriptors: tuple[int, ...]
    """To be inherited under the same numbers."""
    refused: Callable[[], Refusals]
    """What the limits had to refuse so far."""


@dataclass(frozen=True, slots=True)
class Capability:
    """What holds here, as tried out at start and not as hoped."""

    mechanism: Mechanism
    network: Network
    limits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Trial:
    """What a job printed that was run to learn something."""

    lines: tuple[str, ...]
    errors: tuple[str, ...]


Runner = Callable[[Job], Awaitable[Trial]]


class Sandbox(Protocol):
    """One mechanism of one operating system."""

    def sweep(self) -> None:
        """Remove what an earlier run of the daemon left behind.  Blocks; only while no command runs."""
        ...

    async def probe(self, run: Runner) -> Capability:
        """Try it out by `run`, which starts what `confine` gives.  Raises `SandboxUnavailableError`."""
        ...

    def confine(self, job: Job, *, report: int) -> AbstractContextManager[Confined]:
        """Prepare one run; leave the context when the last process of it is gone.

        `report` is an inherited descriptor for the sandbox's own words, a second one of what becomes the
        standard input.  Raises `SandboxUnavailableError`, or `ProtectedPathError` when the project has a
        protected path that cannot be held.
        """
        ...
