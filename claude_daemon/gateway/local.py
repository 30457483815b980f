"""The local socket: a path that nobody else can have made, and the uid of whoever connects."""

import os
import socket
import stat
import struct
import sys
from pathlib import Path

from claude_daemon.errors import StartError

LONGEST_PATH = 100  # bytes of a Unix socket's name that every system takes (macOS: 104 with its NUL)


def listen(path: Path) -> socket.socket:
    """Bind `path` with mode 0600; a stale socket of ours is replaced.

    A longer path is bound through a descriptor of its folder on Linux; elsewhere it is a `StartError`.
    """
    if sys.platform == "win32":
        raise StartError("the local socket is not built for Windows yet; use WSL 2")
    try:
        found = path.lstat()
    except FileNotFoundError:
        pass
    else:
        if not stat.S_ISSOCK(found.st_mode) or found.st_uid != os.getuid():
            raise StartError(f"{path} is in the way and is not the daemon's socket; move it away")
        path.unlink()
    listener = socket.socket(socket.AF_UNIX)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        mask = os.umask(0o177)
        try:
            listener.bind(short_name(path, folder))
        finally:
            os.umask(mask)
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    finally:
        os.close(folder)
    listener.setblocking(False)
    return listener


def short_name(path: Path, folder: int) -> str:
    """A name of `path` that fits a socket address; `folder` is an open descriptor of its parent."""
    if len(os.fsencode(path)) <= LONGEST_PATH:
        return str(path)
    if sys.platform == "linux":
        return f"/proc/self/fd/{folder}/{path.name}"
    raise StartError(
        f"{path} is too long for a socket; set CLAUDE_DAEMON_HOME to a folder with a shorter name"
    )


def peer_uid(connection: socket.socket) -> int | None:
    """Who is at the other end, or None where the system doesn't say."""
    if sys.platform == "linux":
        size = struct.calcsize("3i")
        _pid, uid, _gid = struct.unpack(
            "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        )
        return int(uid)
    if sys.platform == "darwin":
        local_peercred, layout = 1, "2i"  # LOCAL_PEERCRED at level 0: struct xucred begins version, uid
        found = connection.getsockopt(0, local_peercred, 76)
        return int(struct.unpack_from(layout, found)[1])
    return None
