"""Frozen settings; every default stands here, with its reason.

Sources, strongest first: the environment, `.env` in the config folder, `config.toml`, the default.
A setting is named in TOML by its group and field (`[terminal] slots = 2`) and in the environment by
`CLAUDE_DAEMON_TERMINAL_SLOTS`; those of the older server also by their old names (`PORT`).
"""

import dataclasses
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, cast, get_type_hints

import msgspec
import platformdirs

from claude_daemon.errors import SettingError

KNOWN_DEFAULT_SECRETS = frozenset(
    {
        "your-secret-key-change-this-in-production",
        "your-super-secret-jwt-key-change-this-in-production",
        "your-secret-key",
        "change-me",
        "changeme",
        "secret",
    }
)
MIN_SECRET_CHARACTERS = 32  # 256 bits of an HS256 key, were each character a byte of it


def setting(default: Any, why: str, *, env: str | None = None, secret: bool = False) -> Any:
    """A setting's default, the reason for it, and the older server's name for it in the environment."""
    return field(default=default, metadata={"why": why, "env": env, "secret": secret})


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    port: int = setting(3001, "loopback port of the older server; 0 takes any free one", env="PORT")
    host: str = setting("127.0.0.1", "beyond loopback is server mode, which is not built yet", env="HOST")
    allowed_origins: str = setting(
        "http://localhost:3000,http://localhost:3001,http://127.0.0.1:3001",
        "web pages that may talk to the daemon, comma-separated and exact",
        env="ALLOWED_ORIGINS",
    )
    connect_timeout_s: float = setting(10.0, "a socket that has not finished CONNECT by then is closed")
    drain_timeout_s: float = setting(5.0, "how long a stop waits for commands, writes and sockets")
    max_packet_bytes: int = setting(1_000_000, "one message or HTTP body; the contract's 1 MB")
    max_connections: int = setting(2_000, "sockets at once, so that a loop gone wild cannot eat all memory")
    outbox_packets: int = setting(1_024, "packets that may wait for a slow client")
    outbox_bytes: int = setting(8_000_000, "bytes that may wait for a slow client")
    outbox_grace_s: float = setting(5.0, "how long a client may stay over either before it is closed")


@dataclass(frozen=True, slots=True, kw_only=True)
class SecuritySettings:
    jwt_secret: str = setting(
        "", "makes tokens of the older server valid; ≥ 32 characters", env="JWT_SECRET", secret=True
    )
    jwt_secret_previous: str = setting(
        "", "still accepted while clients change over", env="JWT_SECRET_PREVIOUS", secret=True
    )
    keyring: bool = setting(
        True, "false keeps secrets in a 0600 file at once, for machines without a keyring"
    )
    keyring_timeout_s: float = setting(3.0, "a locked keyring may wait for ever; then the file is used")
    token_ttl_s: int = setting(2_592_000, "30 days: a program's token, when no --ttl is given")


@dataclass(frozen=True, slots=True, kw_only=True)
class RateSettings:
    points: int = setting(100, "events of one device and address per duration", env="RATE_LIMIT_POINTS")
    duration_s: float = setting(60.0, "the sliding window", env="RATE_LIMIT_DURATION")
    sources: int = setting(10_000, "callers remembered; the longest silent is forgotten first")


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSettings:
    url: str = setting("", "SQLAlchemy address; empty is SQLite in the state folder", env="DATABASE_URL")
    commit_window_ms: float = setting(1.0, "how long a group commit gathers company before its fsync")
    batch: int = setting(512, "writes in one transaction, so that one never takes long")
    waiting: int = setting(20_000, "writes waiting for the disk; beyond, callers get `busy`")
    keep_days: float = setting(90.0, "older events are dropped, a season of history is kept")
    keep_bytes: int = setting(1 << 30, "the log's size on disk, the oldest events go first")
    once_hours: float = setting(24.0, "how long a clientId is remembered at least")
    once_per_device: int = setting(10_000, "how many of a device's clientIds are remembered at least")
    keep_devices_days: float = setting(365.0, "how long a revoked or expired token is remembered")
    retention_s: float = setting(3_600.0, "between two looks for what may be forgotten")


@dataclass(frozen=True, slots=True, kw_only=True)
class TerminalSettings:
    slots: int = setting(4, "commands at once: two a core on the smallest machine it is meant for")
    queue: int = setting(64, "commands waiting for a slot; beyond, callers get `busy`")
    timeout_s: int = setting(600, "wall time when the command names none")
    max_timeout_s: int = setting(86_400, "the longest wall time a command may ask for")
    cpu_s: int = setting(3_600, "CPU time of one process")
    memory_bytes: int = setting(
        4 << 30, "memory of one command, or of each process where no group can be made"
    )
    processes: int = setting(512, "processes of one command: enough for a parallel build, not for a bomb")
    output_bytes: int = setting(1 << 30, "a command that prints more is ended: nobody reads that")
    file_bytes: int = setting(2 << 30, "the largest file a command may write")
    kept_bytes: int = setting(8_000_000, "output kept of one command for terminal_history")
    kept_commands: int = setting(200, "finished commands whose output is kept")
    chunk_bytes: int = setting(32_768, "output in one event at most")
    gather_ms: float = setting(4.0, "output that trickles is gathered this long before it becomes an event")
    scratch_bytes: int = setting(512 << 20, "a command's /tmp, its home and /dev/shm, each in memory")
    int_grace_s: float = setting(2.0, "between INT and TERM of a cancel")
    term_grace_s: float = setting(3.0, "between TERM and KILL of a cancel")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectSettings:
    inline_bytes: int = setting(512 * 1024, "a file's content travels inside its event up to here")
    binary_inline_bytes: int = setting(64 * 1024, "the same for files that are not UTF-8")
    settle_ms: float = setting(15.0, "quiet time after which a burst on one path is one change")
    settle_max_ms: float = setting(250.0, "a path written without a pause is reported this often")
    max_files: int = setting(200_000, "files in a project's snapshot; beyond, the project says so")
    rescan_s: float = setting(300.0, "a look at everything, in case the system lost an event unseen")
    poll_s: float = setting(5.0, "between looks at everything while the system cannot watch")
    learn_bytes: int = setting(
        256 << 20,
        "read after start, so that a touched file isn't taken for a changed one; the rest on demand",
    )
    version_file_bytes: int = setting(1 << 20, "a version of a larger file is not kept")
    version_bytes: int = setting(2 << 30, "all kept versions of one project, the oldest go first")
    version_days: float = setting(90.0, "older versions go")
    list_page: int = setting(1_000, "entries in one file_list answer")


@dataclass(frozen=True, slots=True, kw_only=True)
class SpeechSettings:
    queue: int = setting(50, "utterances waiting; the oldest that is not urgent goes first")
    utterance_timeout_s: float = setting(10.0, "making or probing one piece of speech: engines hang")
    play_timeout_s: float = setting(10.0, "playing may take this much longer than the sound: devices hang")
    chunk_characters: int = setting(1_000, "one child's share; engines lose longer texts")
    retry_s: float = setting(30.0, "after a failure the engine is tried again this much later")
    retry_longest_s: float = setting(600.0, "unasked tries come ever more rarely, up to this distance")
    player: str = setting(
        "", "command that plays a WAV file given as its last argument; empty: found on PATH"
    )
    rate: int = setting(0, "words a minute; 0 leaves the engine's own")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatSettings:
    claude_api_key: str = setting("", "makes the Claude API answer", env="CLAUDE_API_KEY", secret=True)
    base_url: str = setting("", "another Messages API address", env="ANTHROPIC_BASE_URL")
    model: str = setting("claude-sonnet-5-5", "the model that answers; the 4-5 ends in November 2026")
    max_tokens: int = setting(4_096, "length of one reply")
    context_messages: int = setting(50, "messages of the session sent along")
    context_characters: int = setting(200_000, "and their length together, the newest first")
    retries: int = setting(2, "of a request that got no word of a reply, before its failure is shown")
    retry_longest_s: float = setting(8.0, "an API that asks for a longer pause is not waited for: it is said")
    connect_timeout_s: float = setting(10.0, "reaching the API")
    timeout_s: float = setting(600.0, "one reply from asking to its last byte, retries included")
    replies: int = setting(8, "replies being written at once; one a session")
    waiting: int = setting(100, "sessions waiting for their turn; beyond, they are answered `busy`")


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    level: str = setting("info", "debug, info, warning or error", env="LOG_LEVEL")
    debug: bool = setting(False, "the same as level = debug", env="DEBUG")
    file_bytes: int = setting(10_000_000, "a log file is rotated at this size")
    files: int = setting(5, "rotated log files kept")
    same_per_minute: int = setting(30, "lines a minute with the same key; the rest is counted")


@dataclass(frozen=True, slots=True)
class Folders:
    """Where things live.  Each is 0700 and made at start."""

    config: Path
    state: Path
    cache: Path
    run: Path


@dataclass(frozen=True, slots=True)
class Value:
    """One setting as `claude-daemon config` prints it."""

    name: str
    value: Any
    source: str
    why: str


_ZERO_IS_A_CHOICE = {
    ("server", "port"),
    ("speech", "rate"),
    ("storage", "commit_window_ms"),
    ("chat", "retries"),
}
_GROUP_NAMES = ("server", "security", "rate", "storage", "terminal", "projects", "speech", "chat", "log")


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    folders: Folders
    server: ServerSettings = ServerSettings()
    security: SecuritySettings = SecuritySettings()
    rate: RateSettings = RateSettings()
    storage: StorageSettings = StorageSettings()
    terminal: TerminalSettings = TerminalSettings()
    projects: ProjectSettings = ProjectSettings()
    speech: SpeechSettings = SpeechSettings()
    chat: ChatSettings = ChatSettings()
    log: LogSettings = LogSettings()
    file_vault: bool = False
    """Secrets stay in a 0600 file below the state folder: set by CLAUDE_DAEMON_HOME."""
    sources: Mapping[str, str] = field(default_factory=dict)
    """`group.field` to the name of the source that set it; what is absent is a default."""

    @property
    def socket_path(self) -> Path:
        return self.folders.run / "daemon.sock"

    def values(self) -> Iterator[Value]:
        """Every setting with where it came from; secrets are shown as set or not."""
        for group, kind in GROUPS.items():
            for each in fields(kind):
                value = getattr(getattr(self, group), each.name)
                if each.metadata["secret"] and value:
                    value = "(set)"
                name = f"{group}.{each.name}"
                yield Value(name, value, self.sources.get(name, "default"), each.metadata["why"])


GROUPS: dict[str, type[Any]] = {
    name: kind for name, kind in get_type_hints(Settings).items() if name in _GROUP_NAMES
}


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Read every source.  Raises `SettingError` that names the setting, its source and the remedy."""
    environ = os.environ if environ is None else environ
    where = folders(environ)
    dotenv_path = Path(environ.get("CLAUDE_DAEMON_ENV_FILE") or where.config / ".env")
    dotenv = _read_dotenv(dotenv_path, required="CLAUDE_DAEMON_ENV_FILE" in environ)
    toml_path = where.config / "config.toml"
    toml = _read_toml(toml_path)
    sources: dict[str, str] = {}
    groups: dict[str, Any] = {}
    for group, kind in GROUPS.items():
        table = toml.pop(group, {})
        if not isinstance(table, dict):
            raise SettingError(f"{toml_path}: {group} must be a table, written as [{group}]")
        given: dict[str, Any] = {}
        for each in fields(kind):
            found = _find(
                group,
                each,
                environ=environ,
                dotenv=dotenv,
                dotenv_path=dotenv_path,
                table=table,
                toml_path=toml_path,
            )
            if found is not None:
                given[each.name], sources[f"{group}.{each.name}"] = found
        if table:
            raise SettingError(
                f"{toml_path}: there is no setting {group}.{next(iter(table))}; "
                "`claude-daemon config` lists them all"
            )
        groups[group] = kind(**given)
    if toml:
        raise SettingError(
            f"{toml_path}: there is no group [{next(iter(toml))}]; `claude-daemon config` lists them all"
        )
    return check(
        Settings(
            folders=where,
            file_vault="CLAUDE_DAEMON_HOME" in environ or not groups["security"].keyring,
            sources=sources,
            **groups,
        )
    )


def check(settings: Settings) -> Settings:
    """Refuse what could not work or would be unsafe, by a sentence that names the setting."""
    for name in ("jwt_secret", "jwt_secret_previous"):
        secret = getattr(settings.security, name)
        if secret and (len(secret) < MIN_SECRET_CHARACTERS or secret.lower() in KNOWN_DEFAULT_SECRETS):
            raise SettingError(
                f"{name.upper()} must have at least {MIN_SECRET_CHARACTERS} characters and not be a known "
                "default; make one with: openssl rand -hex 32"
            )
    if not 0 <= settings.server.port <= 65_535:
        raise SettingError("PORT must lie between 0 and 65535")
    if settings.server.host not in {"127.0.0.1", "localhost", "::1"}:
        raise SettingError(
            f"HOST={settings.server.host} lies beyond loopback: server mode is not part of this version; "
            "leave HOST out"
        )
    for origin in settings.server.allowed_origins.split(","):
        if origin.strip() in {"*", "null"}:
            raise SettingError("ALLOWED_ORIGINS must name origins exactly, such as http://localhost:3000")
    if settings.log.level.lower() not in {"debug", "info", "warning", "error"}:
        raise SettingError("LOG_LEVEL must be debug, info, warning or error")
    _check_numbers(settings)
    return settings


def _check_numbers(settings: Settings) -> None:
    for group, kind in GROUPS.items():
        for each in fields(kind):
            value = getattr(getattr(settings, group), each.name)
            if type(value) not in (int, float):
                continue
            if value < 0 or (value == 0 and (group, each.name) not in _ZERO_IS_A_CHOICE):
                raise SettingError(f"{group}.{each.name} must be above 0, it is {value}")


def folders(environ: Mapping[str, str]) -> Folders:
    """The platform's own folders, or all of them below CLAUDE_DAEMON_HOME."""
    if home := environ.get("CLAUDE_DAEMON_HOME"):
        root = Path(home).expanduser().absolute()
        return Folders(root / "config", root / "state", root / "cache", root / "run")
    dirs = platformdirs.PlatformDirs("claude-daemon", appauthor=False)
    state = Path(dirs.user_state_dir)
    run = Path(dirs.user_runtime_dir) if environ.get("XDG_RUNTIME_DIR") else state / "run"
    return Folders(Path(dirs.user_config_dir), state, Path(dirs.user_cache_dir), run)


def _find(
    group: str,
    each: "dataclasses.Field[Any]",
    *,
    environ: Mapping[str, str],
    dotenv: Mapping[str, str],
    dotenv_path: Path,
    table: dict[str, Any],
    toml_path: Path,
) -> tuple[Any, str] | None:
    """The strongest source's value of one setting, converted, with the source's name."""
    in_table = table.pop(each.name, None)
    own = f"CLAUDE_DAEMON_{group}_{each.name}".upper()
    for name in (own, each.metadata["env"]):
        for source, place in ((environ, "the environment"), (dotenv, str(dotenv_path))):
            if name and source.get(name, "") != "":
                return _convert(source[name], each, f"{name} in {place}"), f"{name} in {place}"
    if in_table is not None:
        return _convert(in_table, each, f"{group}.{each.name} in {toml_path}"), str(toml_path)
    return None


def _convert(value: Any, each: "dataclasses.Field[Any]", name: str) -> Any:
    kind = cast("type[Any]", each.type)
    try:
        return msgspec.convert(value, kind, strict=False)
    except msgspec.ValidationError:
        raise SettingError(f"{name} must be {_in_words(kind)}") from None


def _in_words(kind: type[Any]) -> str:
    return {int: "a whole number", float: "a number", bool: "true or false"}.get(kind, "text")


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingError(f"{path} cannot be read: {error}; mend it or move it away") from None


def _read_dotenv(path: Path, *, required: bool) -> dict[str, str]:
    """`NAME=value` lines; `#` begins a comment line, quotes around a value are taken off."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        if required:
            raise SettingError(f"CLAUDE_DAEMON_ENV_FILE names {path}, which is not there") from None
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"{path} cannot be read: {error}; mend it or move it away") from None
    values: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        text = line.strip().removeprefix("export ")
        if not text or text.startswith("#"):
            continue
        name, equals, value = text.partition("=")
        if not equals or not name.strip().isidentifier():
            raise SettingError(f"{path} line {number} is not NAME=value")
        value = value.strip()
        if len(value) >= 2 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        values[name.strip()] = value
    return values
