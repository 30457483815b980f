"""Commands in the real sandbox, without a daemon around it, and projects without a watcher."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from claude_daemon.config import TerminalSettings
from claude_daemon.errors import NotFoundError
from claude_daemon.protocol import replies
from claude_daemon.terminal.ending import Ending
from claude_daemon.terminal.limits import Limits
from claude_daemon.terminal.process import Process
from claude_daemon.terminal.sandbox import Capability, Job
from claude_daemon.terminal.sandbox.bwrap import Bubblewrap

WALL_S = 20.0


@dataclass(frozen=True)
class Ran:
    """A command that ended."""

    stdout: str
    stderr: str
    ending: Ending
    duration_ms: int

    @property
    def lines(self) -> list[str]:
        return self.stdout.splitlines()


class Confined:
    """A sandbox that was tried out, and the settings of its commands."""

    def __init__(self, sandbox: Bubblewrap, settings: TerminalSettings, capability: Capability) -> None:
        self.sandbox = sandbox
        self.settings = settings
        self.capability = capability

    def process(
        self,
        command: str,
        project: Path | None = None,
        *,
        cwd: Path | None = None,
        inner: tuple[Path, ...] = (),
        **limits: Any,
    ) -> Process:
        """Not started yet; `limits` are fields of `Limits`."""
        wanted = replace(Limits.of(self.settings, wall_s=WALL_S), **limits)
        return Process(self.sandbox, Job(command, wanted, project, cwd, inner), self.settings)

    async def run(self, command: str, project: Path | None = None, **more: Any) -> Ran:
        """From start to end, with all of its output."""
        said = {"stdout": "", "stderr": ""}
        async with self.process(command, project, **more) as process:
            async for chunk in process.output():
                said[chunk.stream] += chunk.text
            ending = await process.ended()
        return Ran(said["stdout"], said["stderr"], ending, process.duration_ms)


class Registered:
    """Projects as a dictionary."""

    def __init__(self, **folders: Path) -> None:
        self.folders = folders

    def known(self, project_id: str) -> bool:
        return project_id in self.folders

    def folder(self, project_id: str) -> Path:
        if project_id not in self.folders:
            raise NotFoundError(f"there is no project {project_id!r}")
        return self.folders[project_id]

    def project_of(self, path: Path) -> str | None:
        around = [name for name, folder in self.folders.items() if path.is_relative_to(folder)]
        return max(around, key=lambda name: len(self.folders[name].parts), default=None)

    def status(self) -> list[replies.Project]:
        return [replies.Project(name, str(path), "watching", 0) for name, path in self.folders.items()]


class Confine(Protocol):
    """`await confine(hidden=…, chunk_bytes=…)`: a sandbox with these settings."""

    async def __call__(self, *, hidden: tuple[Path, ...] = (), **settings: Any) -> Confined: ...
