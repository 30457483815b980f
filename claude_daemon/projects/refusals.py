"""What the system's refusals mean for a client that named a file."""

import errno

from claude_daemon.errors import (
    DaemonError,
    ForbiddenError,
    InvalidError,
    NotFoundError,
    OutsideProjectError,
    ReadOnlyError,
    StorageFullError,
)

_NOT_THAT = frozenset({errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.ENAMETOOLONG, errno.ENXIO})
_FULL = frozenset({errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)})  # no quotas on Windows
_NOT_ALLOWED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})


def refusal(
    error: OSError, path: str, *, field: str = "filePath", writing: bool = False
) -> DaemonError | None:
    """The sentence for the client; None for a failure that it can do nothing about."""
    if error.errno == errno.ENOENT:
        return NotFoundError(f"{path or 'the folder'} does not exist")
    if error.errno == errno.ELOOP:
        return OutsideProjectError(f"{path} is, or lies behind, a symbolic link; links are not followed")
    if error.errno in _NOT_THAT:
        reason = f"{path} cannot be used as that: {error.strerror}"
        return InvalidError(reason, path=[field], kind="any.only", reason=reason)
    if error.errno in _FULL:
        return StorageFullError(f"no room is left for {path}; it stays as it was")
    if error.errno in _NOT_ALLOWED and writing:
        return ReadOnlyError(f"{path} cannot be written: {error.strerror}")
    if error.errno in _NOT_ALLOWED:
        return ForbiddenError(f"{path} may not be read by claude-daemon: {error.strerror}")
    return None
