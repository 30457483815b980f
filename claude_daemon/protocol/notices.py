"""What is said once: events that are sent but not stored."""

from typing import Literal

from msgspec import UNSET, UnsetType, field

from claude_daemon.protocol import replies
from claude_daemon.protocol.model import Json, Notice, notice, timestamp


@notice
class Connected(Notice):
    """The first event of every connection."""

    device_id: str
    user_id: str
    scopes: list[str]
    server_version: str
    protocol_version: int
    user_seq: int
    limits: replies.Limits


@notice
class SessionHistory(Notice):
    """The last chat messages of a session, oldest first; `seq` is where the session stands."""

    session_id: str
    messages: list[Json]
    seq: int


@notice
class SessionJoined(Notice):
    """From here on the session is live."""

    session_id: str
    seq: int
    replayed: int | UnsetType = UNSET
    reset: bool | UnsetType = UNSET


@notice
class ProjectJoined(Notice):
    """From here on the project is live."""

    project_id: str
    seq: int
    replayed: int | UnsetType = UNSET
    reset: bool | UnsetType = UNSET


@notice
class UserJoined(Notice):
    """From here on the user's stream is live."""

    seq: int
    replayed: int | UnsetType = UNSET
    reset: bool | UnsetType = UNSET


@notice
class Typing(Notice):
    """Somebody writes."""

    session_id: str
    user_id: str
    device_id: str
    is_typing: bool
    timestamp: str = field(default_factory=timestamp)


@notice
class ChatDelta(Notice):
    """A piece of the assistant's reply while it is written; `id` is the coming message's."""

    id: str
    session_id: str
    index: int
    delta: str


@notice
class TerminalOutput(Notice):
    """A piece of a command's output; the last one is `final` and says how the command ended."""

    command_id: str
    session_id: str
    seq: int
    output: str
    type: Literal["output", "error", "success"]
    stream: Literal["stdout", "stderr", "pty"]
    timestamp: str = field(default_factory=timestamp)
    final: bool | UnsetType = UNSET
    exit_code: int | UnsetType | None = UNSET
    signal: str | UnsetType | None = UNSET
    reason: (
        Literal["exit", "signal", "cancelled", "timeout", "limit", "sandbox", "daemon_stopped"] | UnsetType
    ) = UNSET
    limit: Literal["time", "cpu", "memory", "processes", "output", "file_size"] | UnsetType = UNSET
    duration_ms: int | UnsetType = UNSET
    truncated_bytes: int | UnsetType = UNSET


@notice
class TokenExpiring(Notice):
    """In 60 s this connection's token expires; `authenticate` with a fresh one."""

    expires_at: str


@notice
class TokenExpired(Notice):
    """The token expired; the connection is about to be closed."""

    expires_at: str


@notice
class ServerShutdown(Notice):
    """The daemon stops."""

    message: str
    timestamp: str = field(default_factory=timestamp)


@notice
class Error(Notice):
    """A refusal of an event that came without an ack callback."""

    message: str
    code: str
    event: str
    details: list[replies.ErrorDetail] | UnsetType = UNSET
    retry_after_ms: int | UnsetType = UNSET
    sha256: str | UnsetType | None = UNSET
