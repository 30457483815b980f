import asyncio
import json
import sys
from pathlib import Path

import pytest

from claude_daemon.speech import child
from claude_daemon.speech.child import Ended, SpeechError
from fakes import gone, until


def python(code: str) -> list[str]:
    return [sys.executable, "-S", "-c", code]


async def test_the_last_line_printed_on_either_stream_is_kept() -> None:
    ended = await child.run(
        python("import sys; print('one'); sys.stdout.flush(); print('two\\n', file=sys.stderr); sys.exit(3)"),
        deadline_s=5,
    )

    assert ended == Ended(3, "two")
    assert child.how_it_ended(ended) == "failed: two"


async def test_the_text_comes_by_stdin() -> None:
    ended = await child.run(python("print(input()[::-1])"), stdin=b"abc\n", deadline_s=5)

    assert ended == Ended(0, "cba")


async def test_a_child_that_does_not_read_its_stdin_is_no_trouble() -> None:
    ended = await child.run(["true"], stdin=b"x" * 60_000, deadline_s=5)

    assert ended == Ended(0, "")


async def test_output_without_end_takes_no_memory() -> None:
    ended = await child.run(python("print('x' * 50_000_000); print('end')"), deadline_s=10)

    assert ended.last_line == "end"


async def test_a_crash_is_named() -> None:
    ended = await child.run(python("import os; os.kill(os.getpid(), 11)"), deadline_s=5)

    assert child.how_it_ended(ended) == "crashed (Segmentation fault)"


async def test_a_program_that_is_not_there_is_a_sentence() -> None:
    with pytest.raises(SpeechError, match="no-such-program cannot be started: No such file"):
        await child.run(["no-such-program"], deadline_s=5)


async def test_a_hung_child_and_its_own_children_are_gone_at_the_deadline(tmp_path: Path) -> None:
    clock = asyncio.get_running_loop().time
    began = clock()

    with pytest.raises(SpeechError, match=r"did not finish within 0.3 s"):
        await child.run(["sh", "-c", f"sleep 60 & echo $! $$ > {tmp_path}/pids; wait"], deadline_s=0.3)

    assert clock() - began < 1.5
    assert all(gone(int(pid)) for pid in (tmp_path / "pids").read_text().split())


async def test_what_a_child_leaves_behind_is_ended_with_it(tmp_path: Path) -> None:
    ended = await child.run(["sh", "-c", f"sleep 60 >&- 2>&- & echo $! > {tmp_path}/pid"], deadline_s=5)

    assert ended.code == 0
    await until(lambda: gone(int((tmp_path / "pid").read_text())), within_s=2)


async def test_cancelling_ends_the_child(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    async with asyncio.TaskGroup() as group:
        running = group.create_task(child.run(["sh", "-c", f"echo $$ > {pid}; exec sleep 60"], deadline_s=60))
        await until(lambda: pid.exists() and pid.read_text())
        running.cancel()

    assert gone(int(pid.read_text()))


async def test_no_secret_of_ours_reaches_a_child(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CLAUDE_API_KEY", "ANTHROPIC_API_KEY", "JWT_SECRET", "DATABASE_URL", "GITHUB_TOKEN"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("PULSE_SERVER", "unix:/x")

    ended = await child.run(python("import json, os; print(json.dumps(dict(os.environ)))"), deadline_s=5)
    passed_on = json.loads(ended.last_line)

    assert "secret" not in passed_on.values()
    assert passed_on["PATH"]
    assert passed_on["PULSE_SERVER"] == "unix:/x"
