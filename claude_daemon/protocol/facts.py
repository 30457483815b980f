"""What happened: events that are stored in a stream and can be replayed."""

from typing import Literal

from msgspec import UNSET, UnsetType, field

from claude_daemon.protocol.model import Fact, Json, fact, timestamp
from claude_daemon.protocol.replies import Origin


@fact
class ChatMessage(Fact):
    """Somebody, or the assistant, said something in a session."""

    content: str
    session_id: str
    user_id: str
    device_id: str
    project_id: str | UnsetType = UNSET
    metadata: Json | UnsetType = UNSET
    role: Literal["user", "assistant", "system"] = "user"
    platform: Literal["websocket", "claude-api", "claude-code", "terminal"] = "websocket"
    timestamp: str = field(default_factory=timestamp)


@fact
class TerminalStarted(Fact):
    """A command began to run."""

    command_id: str
    command: str
    device_id: str
    project_id: str | UnsetType = UNSET
    timestamp: str = field(default_factory=timestamp)


@fact
class TerminalFinished(Fact):
    """A command ended; its output is in `terminal_history`."""

    command_id: str
    exit_code: int | None
    signal: str | None
    reason: Literal["exit", "signal", "cancelled", "timeout", "limit", "sandbox", "daemon_stopped"]
    duration_ms: int
    limit: Literal["time", "cpu", "memory", "processes", "output", "file_size"] | UnsetType = UNSET
    timestamp: str = field(default_factory=timestamp)


@fact
class FileUpdate(Fact):
    """A file of a project was created, changed or deleted."""

    file_path: str
    content: str | None
    encoding: Literal["utf8", "base64"]
    size: int
    sha256: str | None
    project_id: str
    action: Literal["create", "update", "delete"]
    truncated: bool
    origin: Origin
    user_id: str
    renamed_from: str | UnsetType = UNSET
    sensitive: bool | UnsetType = UNSET
    version_id: str | UnsetType = UNSET
    timestamp: str = field(default_factory=timestamp)


@fact
class ProjectRescan(Fact):
    """Events were lost by the system and the whole tree was compared again."""

    project_id: str
    changed: int
    timestamp: str = field(default_factory=timestamp)


@fact
class TtsNotification(Fact):
    """Something was said to all devices, and aloud if `spoken` is `queued`."""

    message: str
    type: Literal["info", "success", "warning", "error"]
    priority: Literal["normal", "urgent"]
    user_id: str
    spoken: Literal["queued", "muted", "unavailable"]
    session_id: str | UnsetType = UNSET
    timestamp: str = field(default_factory=timestamp)
