"""The schema, for SQLite and PostgreSQL alike.  Times are Unix milliseconds, ids are text.

A change here comes with a migration in `migrations/versions` and the new `HEAD`.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    PrimaryKeyConstraint,
    Table,
    Text,
)

HEAD = "0001"
"""The newest migration; a database with another one is migrated, or refused when it is newer."""

metadata = MetaData()

# One row a stored event.  `body` is its JSON without id, seq and clientId.
events = Table(
    "events",
    metadata,
    Column("stream", Text, nullable=False),
    Column("seq", BigInteger, nullable=False),
    Column("id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("device_id", Text),
    Column("client_id", Text),
    Column("body", LargeBinary, nullable=False),
    PrimaryKeyConstraint("stream", "seq"),
    Index("events_by_name", "stream", "name", "seq"),
    Index("events_by_age", "at"),
)

# Where each stream stands: events with floor < seq ≤ head are kept.
streams = Table(
    "streams",
    metadata,
    Column("stream", Text, primary_key=True),
    Column("head", BigInteger, nullable=False),
    Column("floor", BigInteger, nullable=False),
    Column("updated", BigInteger, nullable=False),
    Index("streams_by_activity", "updated"),
)

# Requests that carried a clientId: `reply` is null while the effect is under way.
once = Table(
    "once",
    metadata,
    Column("device_id", Text, nullable=False),
    Column("event", Text, nullable=False),
    Column("client_id", Text, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    Column("reply", LargeBinary),
    Column("at", BigInteger, nullable=False),
    PrimaryKeyConstraint("device_id", "event", "client_id"),
    Index("once_by_age", "device_id", "at"),
)

devices = Table(
    "devices",
    metadata,
    Column("device_id", Text, primary_key=True),
    Column("user_id", Text, nullable=False),
    Column("name", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("scopes", Text, nullable=False),  # separated by spaces
    Column("created", BigInteger, nullable=False),
    Column("last_seen", BigInteger),
    Column("expires", BigInteger),
    Column("revoked", BigInteger),
)

projects = Table(
    "projects",
    metadata,
    Column("project_id", Text, primary_key=True),
    Column("path", Text, nullable=False, unique=True),
    Column("paused", Boolean, nullable=False),
    Column("created", BigInteger, nullable=False),
)

# Versions of files; the content lives once, by its hash, in the history store.
versions = Table(
    "versions",
    metadata,
    Column("version_id", Text, primary_key=True),
    Column("project_id", Text, nullable=False),
    Column("path", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("sha256", Text),
    Column("size", BigInteger, nullable=False),
    Column("kept", Boolean, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("origin", Text, nullable=False),  # JSON
    Index("versions_by_path", "project_id", "path", "at"),
    Index("versions_by_content", "sha256"),
)

commands = Table(
    "commands",
    metadata,
    Column("command_id", Text, primary_key=True),
    Column("session_id", Text, nullable=False),
    Column("project_id", Text),
    Column("device_id", Text, nullable=False),
    Column("user_id", Text, nullable=False),
    Column("command", Text, nullable=False),
    Column("folder", Text),
    Column("state", Text, nullable=False),
    Column("sandbox", Text, nullable=False),
    Column("created", BigInteger, nullable=False),
    Column("started", BigInteger),
    Column("finished", BigInteger),
    Column("exit_code", Integer),
    Column("signal", Text),
    Column("reason", Text),
    Index("commands_by_session", "session_id", "created"),
)
