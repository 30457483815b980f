"""Checks of the machine: pure rules on numbers that `looks.py` reads."""

from datetime import UTC, datetime

from claude_daemon.doctor.check import Check

LOW_BYTES = 1_000_000_000  # a day of builds fills less
FULL_BYTES = 100_000_000  # SQLite, the log and the file history need some of it at any moment
CLOCK_SLACK_S = 60.0  # network file systems and virtual machines are off by seconds
RELEASED = datetime(2026, 11, 1, tzinfo=UTC).timestamp()
ENOUGH_WATCHES = 524_288  # what editors and sync tools recommend; the kernel takes memory only for used ones


def disk(path: str, free: int) -> Check:
    """Room for the database, the log and the history of files."""
    seen = f"{free / 1e9:.1f} GB are free at {path}"
    if free < FULL_BYTES:
        return Check("disk", "failure", seen, "make room there: nothing new can be stored soon")
    if free < LOW_BYTES:
        return Check("disk", "warning", seen, "make room there")
    return Check("disk", "ok", seen)


def watches(limit: int | None, instances: int | None, files: int) -> Check:
    """Whether inotify can watch projects of so many files; a watch is for a folder, so this is cautious."""
    if limit is None or instances is None:
        return Check("watches", "skipped", "this system has no inotify limits")
    if limit < files or limit < 8_192:
        return Check(
            "watches",
            "warning",
            f"fs.inotify.max_user_watches is {limit}, the projects have {files} files; "
            "folders beyond it are looked at in turns",
            f"sudo sysctl -w fs.inotify.max_user_watches={max(ENOUGH_WATCHES, files)}",
        )
    if instances < 16:
        return Check(
            "watches",
            "warning",
            f"fs.inotify.max_user_instances is {instances}, and each project and editor takes one",
            "sudo sysctl -w fs.inotify.max_user_instances=512",
        )
    return Check("watches", "ok", f"up to {limit} folders can be watched; the projects have {files} files")


def clock(now: float, newest: float | None) -> Check:
    """Tokens live by the wall clock; `newest` is the latest time among the daemon's files."""
    shown = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d %H:%M UTC")
    remedy = "set the clock, on systemd with: sudo timedatectl set-ntp true"
    if now < RELEASED:
        return Check("clock", "failure", f"it says {shown}, before this version was made", remedy)
    if newest is not None and newest > now + CLOCK_SLACK_S:
        behind = newest - now
        return Check(
            "clock",
            "warning",
            f"it says {shown}, but the daemon's files are {behind:.0f} s younger: it went back",
            remedy,
        )
    return Check("clock", "ok", f"it says {shown}")


def port(number: int, problem: str | None, own_url: str | None) -> Check:
    """`own_url` is where the running daemon is; `problem` why the port could not be had with it off."""
    if own_url:
        if number and own_url.rpartition(":")[2] != str(number):
            return Check(
                "port",
                "warning",
                f"the daemon is at {own_url}, the setting PORT says {number}",
                "claude-daemon restart",
            )
        return Check("port", "ok", f"the daemon has {own_url}")
    if problem:
        return Check("port", "failure", problem, "stop that program, or set PORT to a free one")
    return Check("port", "ok", f"{number} is free" if number else "any free one is taken")
