"""What commands printed, kept on disk so that it can be read again, also after a restart.

A command has a folder; in it are segments of lines, one event each, and the oldest segment goes when all
together are too large.  A segment's name says where it begins: the first `seq` in it, and how many bytes of
output came before.  So what was dropped is known without a count that a crash could lose.

Nothing here is forced to the disk: after a crash of the daemon it is all there, after one of the machine
the last seconds may be missing.
"""

import os
import re
import shutil
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from claude_daemon.lib.files import private_folder
from claude_daemon.protocol.model import Json

SEGMENTS = 8  # so that at least seven eighths of what may be kept is
PAGE_BYTES = 512 * 1024  # of one answer, well within a packet

_SAFE_ID = re.compile(r"[0-9a-f-]{36}")
_SEGMENT = re.compile(r"(\d{12})-(\d{15})\.jsonl")


@dataclass(frozen=True, slots=True)
class Page:
    """Events after some `seq`, as they were sent; `more` when others follow them."""

    output: list[Json]
    more: bool


class _Seq(msgspec.Struct):
    seq: int


@dataclass(frozen=True, slots=True)
class _Segment:
    path: Path
    first: int
    before: int
    """Bytes of output before this segment."""


class Transcript:
    """The one of a running command."""

    def __init__(self, folder: Path, *, kept_bytes: int) -> None:
        self.seq = 0
        """Of the last event."""
        self._folder = folder
        self._segment_bytes = max(kept_bytes // SEGMENTS, 1)
        self._descriptor: int | None = None
        self._written = 0
        self._output = 0
        self.incomplete = False
        """Something is missing that was not dropped on purpose: the disk was full."""

    def append(self, event: bytes, *, size: int) -> None:
        """Keep the event that comes next, a JSON object; `size` is how many bytes of output it carries."""
        self.seq += 1
        try:
            # An event without output stays with what came before: the last one tells how much was dropped.
            if self._descriptor is None or (size and self._written + len(event) > self._segment_bytes):
                self._begin()
            assert self._descriptor is not None
            whole = os.write(self._descriptor, event + b"\n") == len(event) + 1
        except OSError:
            whole = False
        if not whole:  # a full disk must not end the command; half a line is the last of its segment
            self.incomplete = True
            self.close()
        self._written += len(event) + 1
        self._output += size

    @property
    def dropped(self) -> int:
        """Bytes of output that are not kept any more."""
        segments = _segments(self._folder)
        return segments[0].before if segments else self._output

    def resume(self) -> None:
        """Go on where an earlier run of the daemon was cut off."""
        for segment in _segments(self._folder)[-1:]:
            self._output = segment.before
            for line in _lines(segment):
                event = msgspec.json.decode(line)
                self.seq = event["seq"]
                self._output += len(event["output"].encode())
                self._written += len(line) + 1
            os.truncate(segment.path, self._written)  # half a line
            self._open(segment.path)

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _begin(self) -> None:
        self.close()
        private_folder(self._folder)
        for old in _segments(self._folder)[: -(SEGMENTS - 1)]:
            old.path.unlink()
        self._open(self._folder / f"{self.seq:012}-{self._output:015}.jsonl")
        self._written = 0

    def _open(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)


class Transcripts:
    """All of them, below one folder.  Ids are the daemon's own; any other is one of nobody's."""

    def __init__(self, folder: Path, *, kept_bytes: int) -> None:
        self._folder = private_folder(folder)
        self._kept_bytes = kept_bytes

    def begin(self, command_id: str) -> Transcript:
        return Transcript(self._place(command_id), kept_bytes=self._kept_bytes)

    def read(self, command_id: str, *, after: int, limit: int) -> Page:
        """At most `limit` events with a seq above `after`; fewer when they are large.  Blocks."""
        if not _SAFE_ID.fullmatch(command_id):
            return Page([], more=False)
        output: list[Json] = []
        size = 0
        for line in self._lines(command_id, after):
            if msgspec.json.decode(line, type=_Seq).seq <= after:
                continue
            if len(output) >= limit or (output and size + len(line) > PAGE_BYTES):
                return Page(output, more=True)
            output.append(msgspec.json.decode(line))
            size += len(line)
        return Page(output, more=False)

    def resume(self, command_id: str) -> Transcript:
        """The one of a command that a crash ended, to be given its end.  Blocks."""
        transcript = self.begin(command_id)
        transcript.resume()
        return transcript

    def last_sign(self, command_id: str) -> int | None:
        """When something was last printed, in Unix milliseconds; None when nothing was."""
        segments = _segments(self._place(command_id))
        return segments[-1].path.stat().st_mtime_ns // 1_000_000 if segments else None

    def remove(self, command_ids: Collection[str]) -> None:
        for each in command_ids:
            shutil.rmtree(self._place(each), ignore_errors=True)

    def remove_all_but(self, command_ids: Collection[str]) -> None:
        for folder in self._folder.iterdir():
            if folder.name not in command_ids:
                shutil.rmtree(folder, ignore_errors=True)

    def _lines(self, command_id: str, after: int) -> Iterator[bytes]:
        """From the segment on that holds what follows `after`."""
        segments = _segments(self._place(command_id))
        passed = sum(1 for segment in segments[1:] if segment.first <= after + 1)
        for segment in segments[passed:]:
            yield from _lines(segment)

    def _place(self, command_id: str) -> Path:
        if not _SAFE_ID.fullmatch(command_id):
            raise ValueError("not an id of ours")
        return self._folder / command_id


def _lines(segment: _Segment) -> list[bytes]:
    try:
        content = segment.path.read_bytes()
    except FileNotFoundError:  # dropped a moment ago
        return []
    return content[: content.rfind(b"\n") + 1].splitlines()  # what a crash cut off has no line end


def _segments(folder: Path) -> list[_Segment]:
    try:
        paths = sorted(folder.iterdir())
    except FileNotFoundError:
        return []
    found = ((path, _SEGMENT.fullmatch(path.name)) for path in paths)
    return [_Segment(path, int(match[1]), int(match[2])) for path, match in found if match]
