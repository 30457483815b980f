import json
import os
import uuid
from pathlib import Path

import pytest

from claude_daemon.terminal import transcript as module
from claude_daemon.terminal.transcript import Transcript, Transcripts

COMMAND = str(uuid.uuid4())


def event(seq: int, text: str = "x") -> bytes:
    return json.dumps({"seq": seq, "output": text}).encode()


def write(transcript: Transcript, count: int, text: str = "x") -> None:
    for seq in range(1, count + 1):
        transcript.append(event(seq, text), size=len(text.encode()))


def seqs(transcripts: Transcripts, *, after: int = 0, limit: int = 1_000) -> list[int]:
    return [each["seq"] for each in transcripts.read(COMMAND, after=after, limit=limit).output]


@pytest.fixture
def transcripts(tmp_path: Path) -> Transcripts:
    return Transcripts(tmp_path / "terminal", kept_bytes=8_000)


def test_what_was_written_is_read_back(transcripts: Transcripts) -> None:
    write(transcripts.begin(COMMAND), 3, "hello\nü")

    page = transcripts.read(COMMAND, after=0, limit=10)

    assert page.output == [{"seq": seq, "output": "hello\nü"} for seq in (1, 2, 3)]
    assert not page.more


def test_pages_follow_each_other_without_a_gap(transcripts: Transcripts) -> None:
    write(transcripts.begin(COMMAND), 100)
    read: list[int] = []
    more = True
    while more:
        page = transcripts.read(COMMAND, after=read[-1] if read else 0, limit=7)
        read += [each["seq"] for each in page.output]
        more = page.more

    assert read == list(range(1, 101))


def test_a_page_stays_within_a_packet(transcripts: Transcripts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PAGE_BYTES", 100)
    write(transcripts.begin(COMMAND), 5, "y" * 60)

    page = transcripts.read(COMMAND, after=0, limit=10)

    assert [each["seq"] for each in page.output] == [1]  # one at least, however large
    assert page.more


def test_of_too_much_the_end_is_kept_and_what_is_gone_is_counted(
    transcripts: Transcripts, tmp_path: Path
) -> None:
    transcript = transcripts.begin(COMMAND)
    write(transcript, 1_000, "z" * 10)

    kept = seqs(transcripts)
    on_disk = sum(path.stat().st_size for path in (tmp_path / "terminal").rglob("*.jsonl"))

    assert kept == list(range(kept[0], 1_001))
    assert transcript.dropped == (kept[0] - 1) * 10
    assert 6_000 < on_disk < 9_000


def test_it_survives_a_restart(transcripts: Transcripts, tmp_path: Path) -> None:
    write(transcripts.begin(COMMAND), 5)

    again = Transcripts(tmp_path / "terminal", kept_bytes=8_000)

    assert seqs(again, after=2) == [3, 4, 5]


def test_one_that_a_crash_cut_off_goes_on_where_it_stood(transcripts: Transcripts, tmp_path: Path) -> None:
    write(transcripts.begin(COMMAND), 1_000, "ü" * 5)

    again = Transcripts(tmp_path / "terminal", kept_bytes=8_000).resume(COMMAND)
    again.append(event(again.seq + 1), size=0)

    assert seqs(transcripts)[-2:] == [1_000, 1_001]
    assert again.dropped == (seqs(transcripts)[0] - 1) * 10


def test_half_a_line_of_a_crash_is_passed_over(transcripts: Transcripts, tmp_path: Path) -> None:
    write(transcripts.begin(COMMAND), 2)
    segment = next((tmp_path / "terminal" / COMMAND).iterdir())
    segment.write_bytes(segment.read_bytes() + b'{"seq": 3, "outp')

    assert seqs(transcripts) == [1, 2]
    transcripts.resume(COMMAND).append(event(3), size=0)
    assert seqs(transcripts) == [1, 2, 3]


def test_a_full_disk_leaves_a_gap_and_ends_nothing(
    transcripts: Transcripts, monkeypatch: pytest.MonkeyPatch
) -> None:
    transcript = transcripts.begin(COMMAND)
    transcript.append(event(1), size=1)
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda fd, data: 3)  # noqa: ARG005  # the disk took three bytes
        transcript.append(event(2), size=1)
    transcript.append(event(3), size=1)

    assert seqs(transcripts) == [1, 3]
    assert transcript.incomplete


@pytest.mark.parametrize("name", ["../../etc", "/etc/passwd", "", ".", "x" * 36, f"{COMMAND}\n"])
def test_an_id_that_is_not_ours_reads_nothing(transcripts: Transcripts, name: str) -> None:
    assert transcripts.read(name, after=0, limit=10).output == []
    with pytest.raises(ValueError, match="not an id"):
        transcripts.begin(name)


def test_what_nobody_remembers_is_removed(transcripts: Transcripts, tmp_path: Path) -> None:
    others = [str(uuid.uuid4()) for _ in range(3)]
    for each in (COMMAND, *others):
        transcripts.begin(each).append(event(1), size=1)

    transcripts.remove(others[:1])
    transcripts.remove_all_but([COMMAND])

    assert [path.name for path in (tmp_path / "terminal").iterdir()] == [COMMAND]


def test_it_is_nobody_elses_to_read(transcripts: Transcripts, tmp_path: Path) -> None:
    write(transcripts.begin(COMMAND), 1)

    modes = {path.stat().st_mode & 0o077 for path in (tmp_path / "terminal").rglob("*")}

    assert modes == {0}
