"""Amounts and times as people read them."""

from datetime import datetime

_SIZES = ("bytes", "kB", "MB", "GB", "TB")


def size(count: float) -> str:
    """Bytes, in the largest unit of which there is at least one."""
    unit = 0
    while abs(count) >= 1_000 and unit < len(_SIZES) - 1:
        count, unit = count / 1_000, unit + 1
    return f"{count:.{1 if unit and abs(count) < 100 else 0}f} {_SIZES[unit]}"


def duration(seconds: float) -> str:
    """The two largest units: `3 h 5 min`."""
    left = round(seconds)
    parts = []
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)):
        count, left = divmod(left, length)
        if count:
            parts.append(f"{count} {unit}")
    return " ".join(parts[:2]) or "0 s"


def moment(iso: str | None, *, seconds: bool = False) -> str:
    """A time of the wire as local time; `-` for none, and as it is when it cannot be read."""
    if not iso:
        return "-"
    try:
        at = datetime.fromisoformat(iso).astimezone()
    except ValueError:
        return iso
    return at.strftime("%Y-%m-%d %H:%M:%S" if seconds else "%Y-%m-%d %H:%M")


def time_of_day(iso: object) -> str:
    """The local time of day, or now when there is none."""
    try:
        at = datetime.fromisoformat(str(iso)).astimezone()
    except ValueError:
        at = datetime.now().astimezone()
    return at.strftime("%H:%M:%S")
