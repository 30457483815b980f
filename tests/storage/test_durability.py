"""An acknowledgement leaves after its fsync.

`kill -9` cannot show that, because what was written survives in the system's cache; the order of the
system calls can.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TRACED = "fdatasync,fsync,pwrite64,write"
WRITES = 20

SCRIPT = """
import asyncio, os, sys
from pathlib import Path
from claude_daemon.config import StorageSettings
from claude_daemon.core.log import Draft
from claude_daemon.storage.events import EventLog
from claude_daemon.storage.store import Store

async def main():
    async with Store(StorageSettings(), Path(sys.argv[1])) as store:
        log = EventLog(store)
        for number in range(int(sys.argv[2])):
            landed = asyncio.get_running_loop().create_future()
            log.append(Draft("session:s", str(number), "chat_message", b"{}"), landed.set_result)
            await landed
            os.write(1, b"acknowledged\\n")

asyncio.run(main())
"""


def can_trace() -> bool:
    if sys.platform != "linux" or not shutil.which("strace"):
        return False
    return (
        subprocess.run(["strace", "-o", "/dev/null", "true"], check=False, capture_output=True).returncode
        == 0
    )


@pytest.mark.skipif(not can_trace(), reason="strace is not installed or not allowed here")
def test_each_acknowledgement_follows_the_fsync_of_all_that_was_written_for_it(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    state = tmp_path / "state"
    state.mkdir()
    subprocess.run(
        [
            *("strace", "-f", "-y", "-e", f"trace={TRACED}", "-o", str(trace)),
            *(sys.executable, "-c", SCRIPT, str(state), str(WRITES)),
        ],
        check=True,
        stdout=subprocess.DEVNULL,
    )

    synced, dirty, acknowledged = False, False, 0
    for line in whole_calls(trace.read_text("utf-8")):
        if re.search(r"pwrite64\(\d+<[^>]*-wal>", line):
            dirty = True
        elif re.search(r"(fdatasync|fsync)\(\d+<[^>]*-wal>\) += 0", line):
            synced, dirty = True, False
        elif '"acknowledged\\n"' in line:
            acknowledged += 1
            assert synced and not dirty, f"acknowledgement {acknowledged} came before the fsync"
            synced = False
    assert acknowledged == WRITES


def whole_calls(trace: str) -> list[str]:
    """Calls in the order of their ends; strace cuts those in two that overlap with another thread's."""
    begun: dict[str, str] = {}
    calls = []
    for line in trace.splitlines():
        pid, _, call = line.partition(" ")
        if call.endswith("<unfinished ...>"):
            begun[pid] = call.removesuffix("<unfinished ...>")
        elif "resumed>" in call:
            calls.append(begun.pop(pid, "") + call.partition("resumed>")[2])
        else:
            calls.append(call)
    return calls
