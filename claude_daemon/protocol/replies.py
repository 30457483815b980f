"""What the acks carry, and the records that status and lists are made of."""

from typing import Any, Literal

from msgspec import UNSET, UnsetType

from claude_daemon.protocol.model import Json, Record, Reply


class Joined(Reply):
    seq: int


class SessionReply(Joined):
    session_id: str


class ProjectReply(Joined):
    project_id: str


class Session(Record):
    session_id: str
    seq: int
    last_activity: str
    backend: str
    name: str | UnsetType = UNSET


class Sessions(Reply):
    sessions: list[Session]
    next: str | UnsetType = UNSET


ProjectState = Literal["watching", "scanning", "polling", "paused", "unavailable"]


class Project(Record):
    project_id: str
    path: str
    state: ProjectState
    files: int
    problem: str | UnsetType = UNSET


class Projects(Reply):
    projects: list[Project]


class ProjectAdded(Reply):
    project_id: str
    path: str


class Sent(Reply):
    """A stored event."""

    id: str
    seq: int


class ChatSent(Sent):
    session_id: str
    assistant: Literal["claude-code", "claude-api", "none"]


class ChatHistoryPage(Reply):
    messages: list[Json]
    has_more: bool


class Sandbox(Record):
    mechanism: Literal["bwrap", "landlock", "seatbelt", "job", "none"]
    network: Literal["off", "allowlist", "on"]
    limits: list[str]
    """Names of the limits that truly hold: time, cpu, memory, processes, output, file_size.

    `process_memory` instead of `memory`: it binds each process by itself, not the command as a whole.
    """


CommandState = Literal["queued", "waiting", "running", "finished"]


class CommandAccepted(Reply):
    command_id: str
    state: CommandState
    sandbox: Sandbox
    position: int | UnsetType = UNSET


class Command(Record):
    command_id: str
    session_id: str
    project_id: str | None
    command: str
    state: CommandState
    started_at: str
    exit_code: int | UnsetType | None = UNSET


class Commands(Reply):
    commands: list[Command]


class CommandOutput(Reply):
    command_id: str
    state: CommandState
    output: list[Json]
    """`terminal_output` events as they were sent."""
    has_more: bool


class FileWritten(Sent):
    sha256: str | None
    """None after a delete."""
    version_id: str | None


class FileEntry(Record):
    name: str
    type: Literal["file", "folder", "link", "other"]
    size: int
    modified: str
    ignored: bool


class FileListPage(Reply):
    path: str
    entries: list[FileEntry]
    cursor: str | UnsetType = UNSET


class FileContent(Reply):
    file_path: str
    content: str | None
    encoding: Literal["utf8", "base64"]
    size: int
    sha256: str
    truncated: bool


class Origin(Record):
    """Who changed a file."""

    kind: Literal["disk", "client", "claude", "terminal"]
    device_id: str | UnsetType = UNSET
    session_id: str | UnsetType = UNSET
    command_id: str | UnsetType = UNSET
    tool: str | UnsetType = UNSET


class FileVersion(Record):
    version_id: str
    action: Literal["create", "update", "delete"]
    size: int
    sha256: str | None
    timestamp: str
    origin: Origin


class FileVersions(Reply):
    versions: list[FileVersion]


class Notified(Sent):
    spoken: Literal["queued", "muted", "unavailable"]


class Device(Record):
    device_id: str
    user_id: str
    name: str
    kind: Literal["token", "legacy", "local"]
    scopes: list[str]
    created_at: str
    last_seen: str | None
    expires_at: str | None
    connected: bool


class Devices(Reply):
    devices: list[Device]


class TokenMade(Reply):
    token: str
    device_id: str
    scopes: list[str]
    expires_at: str


class Memory(Record):
    rss: int


class TerminalStatus(Record):
    running: int
    queued: int
    slots: int
    sandbox: Sandbox


class SpeechStatus(Record):
    engine: str | None
    state: Literal["ready", "speaking", "muted", "starting", "unavailable"]
    queued: int
    reason: str | UnsetType = UNSET


class AssistantStatus(Record):
    backend: Literal["claude-code", "claude-api", "none"]
    ready: bool
    reason: str | UnsetType = UNSET


class StorageStatus(Record):
    engine: str
    size_bytes: int


class Latency(Record):
    p50: float | None
    p99: float | None


class Metrics(Record):
    messages_per_second: float
    error_rate: float
    latency_ms: Latency


class Status(Reply):
    """`system_status`, as an ack and as an event."""

    status: Literal["healthy", "degraded"]
    problems: list[str]
    connected_clients: int
    active_sessions: int
    active_projects: int
    uptime: float
    memory: Memory
    version: str
    timestamp: str
    devices: list[Device]
    projects: list[Project]
    terminal: TerminalStatus
    speech: SpeechStatus
    assistant: AssistantStatus
    storage: StorageStatus
    metrics: Metrics
    vault: str
    """Where secrets are kept: the keyring's name, or `file`."""


class Authenticated(Reply):
    expires_at: str | None
    scopes: list[str]


class Limits(Record):
    """What a client should keep to."""

    rate_limit_points: int
    rate_limit_duration_seconds: float
    max_packet_bytes: int
    max_message_characters: int
    max_command_characters: int
    max_notification_characters: int
    max_file_bytes: int


class ErrorDetail(Record):
    message: str
    path: list[Any]
    type: str
