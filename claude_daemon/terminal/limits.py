"""What one command may use, and which of these limits the system truly enforces."""

from dataclasses import dataclass
from typing import Literal

from claude_daemon.config import TerminalSettings

Limit = Literal["time", "cpu", "memory", "processes", "output", "file_size"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Wall time and output are counted by the daemon; the rest is the system's to enforce."""

    wall_s: float
    output_bytes: int
    cpu_s: int
    memory_bytes: int
    processes: int
    file_bytes: int

    @classmethod
    def of(cls, settings: TerminalSettings, *, wall_s: float) -> "Limits":
        return cls(
            wall_s=wall_s,
            output_bytes=settings.output_bytes,
            cpu_s=settings.cpu_s,
            memory_bytes=settings.memory_bytes,
            processes=settings.processes,
            file_bytes=settings.file_bytes,
        )
