"""How the daemon is, in its own honest words: `healthy` only when everything configured really works."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import psutil

from claude_daemon.core.metrics import Metrics
from claude_daemon.core.service import Caller
from claude_daemon.protocol import replies, requests
from claude_daemon.protocol.model import timestamp
from claude_daemon.protocol.version import SERVER_VERSION


@dataclass(frozen=True, slots=True, kw_only=True)
class Sources:
    """Where each part of the status comes from; every one answers at once."""

    clients: Callable[[], int]
    sessions: Callable[[], int]
    devices: Callable[[], list[replies.Device]]
    projects: Callable[[], list[replies.Project]]
    terminal: Callable[[], replies.TerminalStatus]
    speech: Callable[[], replies.SpeechStatus]
    assistant: Callable[[], replies.AssistantStatus]
    storage: Callable[[], replies.StorageStatus]
    vault: Callable[[], str]
    problems: Callable[[], list[str]]
    """Sentences about what is configured and broken."""


class Status:
    """Answers `system_status` and `/health`."""

    def __init__(self, sources: Sources, metrics: Metrics) -> None:
        self._sources = sources
        self._metrics = metrics
        self._began = time.monotonic()
        self._process = psutil.Process()

    @property
    def uptime(self) -> float:
        """Seconds since the start."""
        return round(time.monotonic() - self._began, 3)

    def problems(self) -> list[str]:
        return self._sources.problems()

    async def system_status(self, _caller: Caller, _request: requests.SystemStatus) -> replies.Status:
        sources = self._sources
        problems = sources.problems()
        projects = sources.projects()
        return replies.Status(
            status="degraded" if problems else "healthy",
            problems=problems,
            connected_clients=sources.clients(),
            active_sessions=sources.sessions(),
            active_projects=sum(1 for each in projects if each.state != "paused"),
            uptime=self.uptime,
            memory=replies.Memory(rss=self._process.memory_info().rss),
            version=SERVER_VERSION,
            timestamp=timestamp(),
            devices=sources.devices(),
            projects=projects,
            terminal=sources.terminal(),
            speech=sources.speech(),
            assistant=sources.assistant(),
            storage=sources.storage(),
            metrics=self._metrics.recent(),
            vault=sources.vault(),
        )
