"""What a client may ask: one class an event; its decorator says who may, how often, and what comes back.

Limits of fields are those of the contract; the messages of malformed requests are those of the older
server, word by word.
"""

from typing import Annotated, Literal

from msgspec import Meta

from claude_daemon.protocol import replies
from claude_daemon.protocol.model import ClientId, Count, FilePath, Id, Json, Request, Scope, request

MAX_MESSAGE = 10_000
MAX_COMMAND = 1_000
MAX_NOTIFICATION = 500
MAX_FILE_BYTES = 512 * 1024
_MAX_FILE_TEXT = MAX_FILE_BYTES * 4 // 3 + 4  # the same in base64; bytes are counted after decoding

Limit = Annotated[int, Meta(ge=1, le=1_000)]
Name = Annotated[str, Meta(min_length=1, max_length=100)]


@request(
    "view",
    reply=replies.SessionReply,
    budget="joins",
    refusal="Session ID is required",
    shorthand="sessionId",
)
class JoinSession(Request):
    """Hear a session: its history on the first join, or exactly what was missed since `afterSeq`."""

    session_id: Id
    after_seq: Count | None = None


@request(
    "view",
    reply=replies.ProjectReply,
    budget="joins",
    refusal="Project ID is required",
    shorthand="projectId",
)
class JoinProject(Request):
    """Hear a registered project's files."""

    project_id: Id
    after_seq: Count | None = None


@request("view", reply=replies.Joined, budget="joins")
class JoinUser(Request):
    """Hear again what reached all of the user's devices since `afterSeq`."""

    after_seq: Count | None = None


@request("view", budget="joins", refusal="Session ID is required", shorthand="sessionId")
class LeaveSession(Request):
    """Stop hearing a session."""

    session_id: Id


@request("view", budget="joins", refusal="Project ID is required", shorthand="projectId")
class LeaveProject(Request):
    """Stop hearing a project."""

    project_id: Id


@request("view", reply=replies.Sessions, budget="joins")
class ListSessions(Request):
    """Sessions, the latest active first; `before` is the `next` of the page before."""

    before: str | None = None
    limit: Limit = 50


@request("view", reply=replies.Projects, budget="joins")
class ListProjects(Request):
    """Registered projects and how they are watched."""


@request("chat", reply=replies.ChatSent, refusal="Invalid message format", once="append")
class ChatMessage(Request):
    """Say something in a session, to its other members and to its assistant."""

    content: Annotated[str, Meta(min_length=1, max_length=MAX_MESSAGE)]
    session_id: Id
    project_id: Id | None = None
    metadata: Json | None = None
    client_id: ClientId | None = None


@request("chat", refusal="Session ID is required", shorthand="sessionId")
class ChatCancel(Request):
    """End the reply that is being written in a session."""

    session_id: Id


@request(
    "view",
    reply=replies.ChatHistoryPage,
    budget="joins",
    refusal="Session ID is required",
    shorthand="sessionId",
)
class ChatHistory(Request):
    """A page of chat messages before `beforeSeq`, or the last ones."""

    session_id: Id
    before_seq: Count | None = None
    limit: Limit = 50


@request("chat", budget="typing", refusal="Invalid message format")
class Typing(Request):
    """Show the others that somebody writes."""

    session_id: Id
    is_typing: bool


@request("terminal", reply=replies.CommandAccepted, refusal="Invalid command format", once="claim")
class TerminalCommand(Request):
    """Run a shell command in the sandbox.  `pty` and `network` are refused until they are built."""

    command: Annotated[str, Meta(min_length=1, max_length=MAX_COMMAND)]
    session_id: Id
    project_id: Id | None = None
    working_dir: FilePath | None = None
    pty: bool = False
    network: Literal["off", "allowlist", "on"] = "off"
    timeout_seconds: Annotated[int, Meta(ge=1, le=86_400)] | None = None
    client_id: ClientId | None = None


@request("terminal")
class TerminalCancel(Request):
    """End a command: INT, then TERM, then KILL; or send just the one signal."""

    command_id: Id
    signal: Literal["INT", "TERM", "KILL"] | None = None


@request("terminal", reply=replies.Commands, budget="joins")
class TerminalList(Request):
    """Commands of a session, or all that are remembered; the newest first."""

    session_id: Id | None = None


@request("terminal", reply=replies.CommandOutput, budget="joins")
class TerminalHistory(Request):
    """A command's output after `afterSeq`."""

    command_id: Id
    after_seq: Count = 0
    limit: Limit = 200


@request("files", reply=replies.FileWritten, refusal="Invalid file update format", once="compare")
class FileUpdate(Request):
    """Write, create or delete a file of a project."""

    file_path: FilePath
    project_id: Id
    action: Literal["create", "update", "delete"]
    content: Annotated[str, Meta(max_length=_MAX_FILE_TEXT)] | None = None
    encoding: Literal["utf8", "base64"] = "utf8"
    base_sha256: Annotated[str, Meta(min_length=64, max_length=64)] | None = None
    client_id: ClientId | None = None


@request("view", reply=replies.FileListPage, budget="joins")
class FileList(Request):
    """One folder's entries, paged by `cursor`."""

    project_id: Id
    path: Annotated[str, Meta(max_length=4_096)] = ""
    cursor: Annotated[str, Meta(max_length=4_096)] | None = None


@request("view", reply=replies.FileContent, budget="joins")
class FileRead(Request):
    """A file's content, now or in an earlier version."""

    project_id: Id
    file_path: FilePath
    version_id: Id | None = None


@request("view", reply=replies.FileVersions, budget="joins")
class FileHistory(Request):
    """The versions that are kept of a file, newest first."""

    project_id: Id
    file_path: FilePath


@request("chat", reply=replies.Notified, refusal="Invalid TTS notification format", once="append")
class TtsNotification(Request):
    """Say something on the machine's loudspeaker and show it on every device."""

    message: Annotated[str, Meta(min_length=1, max_length=MAX_NOTIFICATION)]
    type: Literal["info", "success", "warning", "error"]
    priority: Literal["normal", "urgent"] = "normal"
    session_id: Id | None = None
    client_id: ClientId | None = None


@request("view", reply=replies.Status, budget="joins")
class SystemStatus(Request):
    """How the daemon is, in its own honest words; sent as an event too."""


@request("view", reply=replies.Authenticated, budget="joins")
class Authenticate(Request):
    """Go on with a fresh token before the old one expires; it must be the same device's."""

    token: Annotated[str, Meta(min_length=1, max_length=8_192)]


@request("admin", reply=replies.ProjectAdded, once="claim")
class ProjectAdd(Request):
    """Watch a folder."""

    path: FilePath
    project_id: Id | None = None
    client_id: ClientId | None = None


@request("admin", once="claim")
class ProjectRemove(Request):
    """Forget a folder; its files stay as they are."""

    project_id: Id
    client_id: ClientId | None = None


@request("admin", once="claim")
class ProjectPause(Request):
    """Stop watching a folder until it is resumed."""

    project_id: Id
    client_id: ClientId | None = None


@request("admin", once="claim")
class ProjectResume(Request):
    """Watch a paused folder again."""

    project_id: Id
    client_id: ClientId | None = None


@request("admin", reply=replies.Devices)
class DeviceList(Request):
    """Every device and program token, with what it may do."""


@request("admin", once="claim")
class DeviceRename(Request):
    """Give a device another name."""

    device_id: Id
    name: Name
    client_id: ClientId | None = None


@request("admin", once="claim")
class DeviceRevoke(Request):
    """End a device's access at once and for good."""

    device_id: Id
    client_id: ClientId | None = None


@request("admin", reply=replies.TokenMade)
class TokenCreate(Request):
    """Make an access token for one program: a device of its own, listed and revocable."""

    scopes: list[Scope] | None = None
    ttl_seconds: Annotated[int, Meta(ge=1, le=31_536_000)] | None = None
    name: Name | None = None


@request("admin")
class DaemonStop(Request):
    """Announce the stop, drain and exit."""
