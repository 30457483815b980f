"""One class a failure: data in, a sentence for the reader out.

The wire code stands on the class; whoever catches a `DaemonError` may show its text to a client as it
is.  Any other exception is a bug, is logged once, and reaches the client as `internal` without detail.
"""

from typing import Any, ClassVar, Literal

Code = Literal[
    "invalid",
    "too_large",
    "rate_limited",
    "unauthenticated",
    "forbidden",
    "not_found",
    "conflict",
    "outside_project",
    "protected_path",
    "read_only",
    "busy",
    "sandbox_unavailable",
    "assistant_unavailable",
    "timeout",
    "cancelled",
    "storage_full",
    "ticket_invalid",
    "token_invalid",
    "token_expired",
    "device_revoked",
    "internal",
]


class DaemonError(Exception):
    """A failure with a sentence that says what happened and what to do."""

    code: ClassVar[Code] = "internal"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    @property
    def details(self) -> list[dict[str, Any]]:
        """What was wrong, one `{message, path, type}` each; empty when the sentence says it all."""
        return []

    @property
    def extra(self) -> dict[str, Any]:
        """Further fields of the error on the wire (`sha256`, `retryAfterMs`)."""
        return {}


class InvalidError(DaemonError):
    """The request cannot mean anything here; `path` names the field that is wrong."""

    code: ClassVar[Code] = "invalid"

    def __init__(
        self, message: str, *, path: list[str | int] | None = None, kind: str = "", reason: str = ""
    ) -> None:
        super().__init__(message)
        self._detail = [] if path is None else [{"message": reason or message, "path": path, "type": kind}]

    @property
    def details(self) -> list[dict[str, Any]]:
        return self._detail


class TooLargeError(InvalidError):
    """A field is over its limit."""

    code: ClassVar[Code] = "too_large"


class RateLimitedError(DaemonError):
    """More events than the bucket holds."""

    code: ClassVar[Code] = "rate_limited"

    def __init__(self, retry_after_ms: int) -> None:
        super().__init__("Rate limit exceeded")
        self.retry_after_ms = retry_after_ms

    @property
    def extra(self) -> dict[str, Any]:
        return {"retryAfterMs": self.retry_after_ms}


class UnauthenticatedError(DaemonError):
    """No credential came with the connection."""

    code: ClassVar[Code] = "unauthenticated"

    def __init__(self) -> None:
        super().__init__("Authentication required")


class TokenInvalidError(DaemonError):
    """The credential is not one of ours, or not for this."""

    code: ClassVar[Code] = "token_invalid"

    def __init__(self) -> None:
        super().__init__("Invalid authentication token")


class TokenExpiredError(TokenInvalidError):
    """The credential was ours; its time is over."""

    code: ClassVar[Code] = "token_expired"


class DeviceRevokedError(TokenInvalidError):
    """The device that this credential belongs to was revoked."""

    code: ClassVar[Code] = "device_revoked"


class ForbiddenError(DaemonError):
    """The caller is known, but its scopes do not cover this."""

    code: ClassVar[Code] = "forbidden"


class NotFoundError(DaemonError):
    """Nothing here has that id or path."""

    code: ClassVar[Code] = "not_found"


class ConflictError(DaemonError):
    """The world is not as the caller believes."""

    code: ClassVar[Code] = "conflict"


class OutcomeUnknownError(ConflictError):
    """The same request was under way when the daemon died; it is not done a second time."""

    def __init__(self, client_id: str) -> None:
        super().__init__(
            f"the request with clientId {client_id!r} was interrupted by a crash and its outcome is "
            "unknown; look at the result, then send it again with a new clientId"
        )

    @property
    def details(self) -> list[dict[str, Any]]:
        return [{"message": self.message, "path": ["clientId"], "type": "outcome_unknown"}]


class FileChangedError(ConflictError):
    """The file on disk is no longer the one the client edited."""

    def __init__(self, path: str, sha256: str | None) -> None:
        super().__init__(f"{path} changed on disk since it was read; read it again and merge")
        self.sha256 = sha256

    @property
    def extra(self) -> dict[str, Any]:
        return {"sha256": self.sha256}


class OutsideProjectError(DaemonError):
    """The path does not lie in a registered project."""

    code: ClassVar[Code] = "outside_project"


class ProtectedPathError(DaemonError):
    """The path is one that later runs or redirects something; clients do not write there."""

    code: ClassVar[Code] = "protected_path"


class ReadOnlyError(DaemonError):
    """The file, the folder or its file system cannot be written."""

    code: ClassVar[Code] = "read_only"


class BusyError(DaemonError):
    """A bounded resource is full; the caller may try again."""

    code: ClassVar[Code] = "busy"


class SandboxUnavailableError(DaemonError):
    """Nothing here can confine a command, so none is run."""

    code: ClassVar[Code] = "sandbox_unavailable"


class AssistantUnavailableError(DaemonError):
    """The assistant is configured but did not answer; `retry_after_ms` is its own wish."""

    code: ClassVar[Code] = "assistant_unavailable"

    def __init__(self, message: str, *, retry_after_ms: int | None = None) -> None:
        super().__init__(message)
        self.retry_after_ms = retry_after_ms

    @property
    def extra(self) -> dict[str, Any]:
        return {} if self.retry_after_ms is None else {"retryAfterMs": self.retry_after_ms}


class AssistantRateLimitedError(AssistantUnavailableError):
    """The assistant's own limit is reached, not one of the daemon's."""

    code: ClassVar[Code] = "rate_limited"


class TimeoutExpiredError(DaemonError):
    """Something took longer than its limit."""

    code: ClassVar[Code] = "timeout"


class CancelledByRequestError(DaemonError):
    """A person or program ended it."""

    code: ClassVar[Code] = "cancelled"


class StorageFullError(DaemonError):
    """The disk has no room; nothing was written, nothing acknowledged was lost."""

    code: ClassVar[Code] = "storage_full"


class StorageUnusableError(DaemonError):
    """The database cannot be opened or written; the sentence says why and what to do."""


class SettingError(DaemonError):
    """A setting has a value that cannot be used; the daemon does not start."""


class StartError(DaemonError):
    """The daemon cannot start; the sentence says what stands in the way."""
