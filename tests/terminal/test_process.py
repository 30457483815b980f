"""Commands as they run and end, in the real sandbox."""

import asyncio
import gc
import os
import random
import shutil
import sys
import textwrap
import time
import weakref
from pathlib import Path

import psutil
import pytest

from claude_daemon.errors import SandboxUnavailableError
from claude_daemon.terminal.cgroup import Cgroups
from claude_daemon.terminal.ending import Asked, Ending
from claude_daemon.terminal.process import Process, SignalName, Steps
from claude_daemon.terminal.sandbox.bwrap import Bubblewrap
from confined import Confine, Confined
from fakes import files_in

if sys.platform != "linux":
    pytest.skip("bubblewrap runs on Linux only", allow_module_level=True)

pytestmark = pytest.mark.user

SOURCE = Path(__file__).parents[2]
GONE_WITHIN_S = 2.0
NO_GROUPS = "this system lets us make no control groups"
PATIENT: Steps = [(0, "INT"), (0.3, "TERM"), (0.6, "KILL")]
# Everything a process can do to get away: it leaves its parent, its group and its session, and ignores
# whatever can be ignored.  `MARK` is how it is found from outside.
ESCAPE = """
trap '' INT TERM HUP
( setsid sh -c "trap '' INT TERM HUP; exec sleep MARK" & )
( nohup setsid sleep MARK >/dev/null 2>&1 & )
"""


def mark() -> str:
    """A number of seconds that no other test's `sleep` sleeps."""
    return f"{time.monotonic_ns() % 10**9 + 10**9}"


def asleep(seconds: str) -> int:
    """How many `sleep SECONDS` run on this machine, in whatever sandbox."""
    return sum(1 for each in psutil.process_iter(["cmdline"]) if each.info["cmdline"] == ["sleep", seconds])


async def reached(seconds: str, count: int) -> None:
    async with asyncio.timeout(5):
        while asleep(seconds) != count:  # noqa: ASYNC110  nothing in this process could set an event
            await asyncio.sleep(0.01)


async def first_line(process: Process) -> str:
    async for chunk in process.output():
        return chunk.text
    return ""


# Ends.


@pytest.mark.parametrize(
    ("command", "ending"),
    [
        ("true", Ending(0, None, "exit")),
        ("exit 42", Ending(42, None, "exit")),
        ("exit 137", Ending(137, None, "exit")),
        ("exit 143", Ending(143, None, "exit")),
        ("exit 255", Ending(255, None, "exit")),
        ("no-such-command", Ending(127, None, "exit")),
        ("/etc/passwd", Ending(126, None, "exit")),
        ("if", Ending(2, None, "exit")),
        ("kill -KILL $$", Ending(None, "KILL", "signal")),
        ("kill -TERM $$", Ending(None, "TERM", "signal")),
        ("kill -SEGV $$", Ending(None, "SEGV", "signal")),
        ("kill -KILL -1", Ending(None, "KILL", "signal")),
        ("kill -KILL 2; sleep 9", Ending(None, "KILL", "signal")),
        ("sh -c 'kill -9 $$'; exit 3", Ending(3, None, "exit")),
    ],
)
async def test_the_end_is_told_exactly(confined: Confined, command: str, ending: Ending) -> None:
    assert (await confined.run(command)).ending == ending


async def test_what_runs_on_in_the_background_ends_with_its_command(confined: Confined) -> None:
    seconds = mark()

    ran = await confined.run(f"sleep {seconds} & echo started")

    assert ran.lines == ["started"]
    assert asleep(seconds) == 0


async def test_the_duration_is_that_of_the_command(confined: Confined) -> None:
    ran = await confined.run("sleep 0.2")

    assert 200 <= ran.duration_ms < 1_500


# Output.


async def test_output_comes_as_it_is_produced_each_stream_by_itself(confined: Confined) -> None:
    async with confined.process("echo out; sleep 0.1; echo err >&2; sleep 9") as process:
        chunks = []
        async for chunk in process.output():
            chunks.append((chunk.stream, chunk.text))
            if len(chunks) == 2:
                break

    assert chunks == [("stdout", "out\n"), ("stderr", "err\n")]


async def test_standard_input_is_empty(confined: Confined) -> None:
    assert (await confined.run("cat; echo end")).stdout == "end\n"


@pytest.mark.parametrize("chunk_bytes", [1, 2, 3, 5, 32_768])
async def test_a_character_never_falls_apart(confine: Confine, chunk_bytes: int) -> None:
    confined = await confine(chunk_bytes=chunk_bytes)
    text = "aä€😀" * 5

    ran = await confined.run(f"printf %s '{text}'")

    assert ran.stdout == text


async def test_a_character_written_in_two_halves_is_one(confined: Confined) -> None:
    ran = await confined.run(r"printf '\303'; sleep 0.05; printf '\244'; printf '\360\237'; sleep 0.05")

    assert ran.stdout == "ä\ufffd"


async def test_what_is_not_utf8_is_replaced(confined: Confined) -> None:
    ran = await confined.run(r"printf 'a\377b\300\200c\355\240\200'; printf '\0' | tr -d x")

    assert ran.stdout.replace("\ufffd", "?") == "a?b??c???\0"
    assert ran.ending.exit_code == 0


async def test_binary_output_does_no_harm(confined: Confined) -> None:
    ran = await confined.run("head -c 300000 /dev/urandom")

    assert len(ran.stdout) > 100_000
    ran.stdout.encode()  # no lone surrogate, which no client could read


async def test_trickling_output_is_gathered_and_a_first_word_is_not(confine: Confine) -> None:
    confined = await confine(gather_ms=50.0)

    async with confined.process("for i in 1 2 3 4 5 6 7 8 9; do echo $i; sleep 0.01; done") as process:
        chunks = [chunk.text async for chunk in process.output()]

    assert chunks[0] == "1\n"
    assert "".join(chunks) == "1\n2\n3\n4\n5\n6\n7\n8\n9\n"
    assert len(chunks) < 7


async def test_who_does_not_read_holds_the_command_up(confined: Confined, project: Path) -> None:
    """100 MB are on their way to a reader that sleeps: nothing grows but the pipe."""
    process = psutil.Process()
    async with confined.process("(head -c 100000000 /dev/zero; echo done >written)", project) as running:
        output = running.output()
        await anext(output)
        before = process.memory_info().rss
        await asyncio.sleep(0.5)
        held_up = not (project / "written").exists()
        grown = process.memory_info().rss - before
        rest = 0
        async for chunk in output:
            rest += chunk.size
        ending = await running.ended()

    assert held_up
    assert grown < 4_000_000
    assert rest > 99_900_000
    assert ending == Ending(0, None, "exit")


async def test_a_reader_that_sleeps_does_not_keep_a_command_from_ending(confined: Confined) -> None:
    async with confined.process("yes") as process:
        await first_line(process)
        process.end(Asked("cancelled"), PATIENT)
        async with asyncio.timeout(GONE_WITHIN_S):
            ending = await process.ended()

    assert (ending.reason, ending.signal) == ("cancelled", "INT")


# Signals.


@pytest.mark.parametrize("name", ["INT", "TERM", "KILL"])
async def test_a_signal_reaches_the_command_and_not_just_the_sandbox(
    confined: Confined, name: SignalName
) -> None:
    seconds = mark()
    async with confined.process(f"true; sleep {seconds}; true") as process:
        await reached(seconds, 1)
        process.signal(name)
        async with asyncio.timeout(GONE_WITHIN_S):
            ending = await process.ended()

    assert ending == Ending(None, name, "cancelled")


async def test_a_command_may_tidy_up_when_it_is_interrupted(confined: Confined, project: Path) -> None:
    command = "trap 'echo tidy > note; exit 7' INT; echo ready; while :; do sleep 0.02; done"
    async with confined.process(command, project) as process:
        await first_line(process)
        process.end(Asked("cancelled"), PATIENT)
        ending = await process.ended()

    assert ending == Ending(7, None, "cancelled")
    assert (project / "note").read_text() == "tidy\n"


@pytest.mark.parametrize(
    ("ignored", "signal"), [("INT", "TERM"), ("INT TERM", "KILL")], ids=["INT", "INT and TERM"]
)
async def test_who_ignores_a_signal_gets_the_next(confined: Confined, ignored: str, signal: str) -> None:
    seconds = mark()
    async with confined.process(f"trap '' {ignored}; exec sleep {seconds}") as process:
        await reached(seconds, 1)
        began = time.monotonic()
        process.end(Asked("cancelled"), PATIENT)
        async with asyncio.timeout(GONE_WITHIN_S):
            ending = await process.ended()
        took = time.monotonic() - began

    assert ending == Ending(None, signal, "cancelled")
    assert took == pytest.approx(0.6 if signal == "KILL" else 0.3, abs=0.25)


async def test_one_cancelled_before_it_began_never_begins(confined: Confined, project: Path) -> None:
    async with confined.process("touch began", project) as process:
        process.end(Asked("cancelled"), PATIENT)
        ending = await process.ended()

    assert ending.reason == "cancelled"
    assert not (project / "began").exists()


async def test_the_first_reason_is_the_one_that_counts(confined: Confined) -> None:
    async with confined.process("trap '' INT; echo ready; exec sleep 30") as process:
        await first_line(process)
        process.end(Asked("cancelled"), PATIENT)
        process.end(Asked("daemon_stopped"), [(0, "KILL")])

        assert await process.ended() == Ending(None, "KILL", "cancelled")


async def test_one_that_ended_is_not_held_until_its_time_is_up(confined: Confined) -> None:
    process = confined.process("true", wall_s=86_400)
    async with process:
        await process.ended()
    waiting = weakref.ref(process)
    del process

    gc.collect()
    await asyncio.sleep(0)

    assert waiting() is None


# Survivors.


@pytest.mark.parametrize(
    "how",
    ["it ends", "it is cancelled", "it is killed", "the context is left"],
)
async def test_nothing_survives(confined: Confined, how: str) -> None:
    seconds = mark()
    rest = "sleep 0.3" if how == "it ends" else "sleep 30; sleep 30"
    async with (
        asyncio.timeout(5 * GONE_WITHIN_S),
        confined.process(ESCAPE.replace("MARK", seconds) + "echo ready;" + rest) as process,
    ):
        await first_line(process)
        await reached(seconds, 2)
        if how == "it is cancelled":
            process.end(Asked("cancelled"), PATIENT)
        if how == "it is killed":
            process.signal("KILL")
        if how != "the context is left":
            await process.ended()
            assert asleep(seconds) == 0  # not soon: by now

    assert asleep(seconds) == 0


async def test_nothing_survives_that_is_left_in_the_moment_it_begins(
    confined: Confined, project: Path, state: Path
) -> None:
    """bwrap's first process would wait for ever for a bwrap that is killed too early."""
    for _ in range(20):
        async with confined.process("sleep 30", project):
            pass
        async with confined.process("sleep 30", project) as process:
            await asyncio.sleep(random.uniform(0, 0.01))
            process.signal("KILL")
            async with asyncio.timeout(GONE_WITHIN_S):
                await process.ended()

    mark = str(state / "sandbox-hosts")
    assert not [each for each in psutil.process_iter(["cmdline"]) if mark in (each.info["cmdline"] or ())]


async def test_nothing_survives_a_daemon_that_is_killed(confined: Confined, tmp_path: Path) -> None:
    seconds = mark()
    script = tmp_path / "daemon.py"
    script.write_text(
        textwrap.dedent(f"""
        import asyncio, sys
        from pathlib import Path
        from claude_daemon.config import TerminalSettings
        from claude_daemon.terminal.limits import Limits
        from claude_daemon.terminal.process import Process, find_capability
        from claude_daemon.terminal.sandbox import Job
        from claude_daemon.terminal.sandbox.bwrap import Bubblewrap

        async def main():
            settings = TerminalSettings()
            sandbox = Bubblewrap(settings, state=Path(sys.argv[1]), home=Path(sys.argv[1]) / "home")
            await find_capability(sandbox, settings)
            job = Job({ESCAPE.replace("MARK", seconds)!r} + "sleep 30", Limits.of(settings, wall_s=30))
            async with Process(sandbox, job, settings) as process:
                async for chunk in process.output():
                    pass

        asyncio.run(main())
        """)
    )
    (tmp_path / "another").mkdir(mode=0o700)
    daemon = await asyncio.create_subprocess_exec(
        sys.executable,
        str(script),
        str(tmp_path / "another"),
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCE), *sys.path])},
    )
    try:
        await reached(seconds, 2)
    finally:
        daemon.kill()
        await daemon.wait()

    async with asyncio.timeout(GONE_WITHIN_S):
        await reached(seconds, 0)
    another = tmp_path / "another"
    Bubblewrap(confined.settings, state=another, home=tmp_path).sweep()
    groups = Cgroups.find(another)
    assert not [left for parent in groups.parents.values() for left in parent.glob(f"{groups._prefix}*")]


async def test_many_at_once_leave_no_descriptor_and_no_process(confined: Confined, project: Path) -> None:
    me = psutil.Process()
    await asyncio.gather(*(confined.run("echo x", project) for _ in range(3)))
    before = me.num_fds()

    rans = await asyncio.gather(*(confined.run(f"echo {n}", project) for n in range(12)))

    assert [ran.lines for ran in rans] == [[str(n)] for n in range(12)]
    assert me.num_fds() == before
    assert me.children() == []


async def test_one_that_cannot_be_started_leaves_nothing(confined: Confined, project: Path) -> None:
    me = psutil.Process()
    before = me.num_fds()
    confined.sandbox._program = "/nonexistent/bwrap"

    with pytest.raises(SandboxUnavailableError, match="not installed"):
        await confined.run("true", project)

    assert me.num_fds() == before
    assert files_in(project) == []


async def test_a_sandbox_that_cannot_be_made_is_the_reason(confined: Confined) -> None:
    """As when a folder of the system goes away while the daemon runs."""
    confined.sandbox._system += ["--ro-bind", "/nonexistent", "/nonexistent"]

    ran = await confined.run("echo never")

    assert ran.ending == Ending(None, None, "sandbox")
    assert ran.stdout == ""
    assert "/nonexistent: No such file or directory" in ran.stderr


# Limits.


async def test_wall_time(confined: Confined) -> None:
    ran = await confined.run("sleep 30", wall_s=0.3)

    assert ran.ending == Ending(None, "TERM", "timeout", "time")
    assert ran.duration_ms < 1_500


async def test_wall_time_of_one_that_ignores_it(confine: Confine) -> None:
    confined = await confine(term_grace_s=0.2)

    ran = await confined.run("trap '' TERM; sleep 30 & wait; exec sleep 30", wall_s=0.3)

    assert ran.ending == Ending(None, "KILL", "timeout", "time")


async def test_cpu_time(confined: Confined) -> None:
    ran = await confined.run("while :; do :; done", cpu_s=1)

    assert ran.ending == Ending(None, "XCPU", "limit", "cpu")


async def test_cpu_time_of_one_that_ignores_it(confined: Confined) -> None:
    ran = await confined.run("trap '' XCPU; while :; do :; done", cpu_s=1)

    assert ran.ending.signal == "KILL"


async def test_the_size_of_a_file(confined: Confined, project: Path) -> None:
    ran = await confined.run("head -c 3000000 /dev/zero > big", project, file_bytes=1 << 20)

    assert ran.ending.limit == "file_size"
    assert (project / "big").stat().st_size == 1 << 20


async def test_output(confined: Confined) -> None:
    ran = await confined.run("yes", output_bytes=200_000)

    assert (ran.ending.reason, ran.ending.limit) == ("limit", "output")
    assert 200_000 < len(ran.stdout) <= 200_000 + confined.settings.chunk_bytes


@pytest.mark.parametrize("means", ["a control group", "a limit of each process"])
async def test_memory(confined: Confined, state: Path, means: str) -> None:
    if means == "a limit of each process":
        confined.sandbox._cgroups = Cgroups.none(state)
    elif "memory" not in confined.capability.limits:
        pytest.skip(NO_GROUPS)

    ran = await confined.run("python3 -c 'print(len(bytearray(300 << 20)))'", memory_bytes=64 << 20)

    assert ran.stdout == ""
    assert ran.ending.exit_code != 0
    assert ran.ending.limit == ("memory" if means == "a control group" else None)


async def test_the_memory_of_all_its_processes_together(confined: Confined) -> None:
    if "memory" not in confined.capability.limits:
        pytest.skip(NO_GROUPS)
    hog = "python3 -c 'import time; b = bytearray(60 << 20); time.sleep(0.5)' & pids=\"$pids $!\"; "

    ran = await confined.run(
        hog * 4 + "for each in $pids; do wait $each || exit 1; done", memory_bytes=128 << 20
    )

    assert ran.ending == Ending(1, None, "limit", "memory")


async def test_processes(confined: Confined) -> None:
    command = "i=0; while [ $i -lt 60 ]; do sleep 9 & i=$((i+1)); echo $i; done"

    ran = await confined.run(command, processes=20)

    started = int(ran.lines[-1])
    assert ("processes" in confined.capability.limits) == (10 <= started <= 22)
    if "memory" in confined.capability.limits:  # a control group counts what it refuses
        assert (ran.ending.reason, ran.ending.limit) == ("limit", "processes")


async def test_processes_of_others_do_not_count(confined: Confined) -> None:
    """RLIMIT_NPROC set outside would count all of the user's."""
    async with confined.process("sleep 9 & sleep 9 & sleep 9 & sleep 9 & wait"):
        ran = await confined.run("sleep 0 & sleep 0 & wait; echo fine", processes=8)

    assert ran.lines == ["fine"]


async def test_a_runtime_that_reserves_much_address_space_still_runs(confined: Confined) -> None:
    """V8 reserves 10 GB for each WebAssembly memory; RLIMIT_AS would break it."""
    if not shutil.which("node", path="/usr/local/bin:/usr/bin"):
        pytest.skip("Node.js is not installed where the sandbox shows it")
    code = "Uint8Array.of(0,97,115,109,1,0,0,0,5,3,1,0,1)"

    ran = await confined.run(f"node -e 'new WebAssembly.Instance(new WebAssembly.Module({code}))'")

    assert ran.ending == Ending(0, None, "exit")


# Speed.


async def test_the_first_output_comes_within_milliseconds(confined: Confined, project: Path) -> None:
    """The best of ten, because the machine has other things to do; the benchmark has the distribution."""
    times = []
    for _ in range(10):
        began = time.perf_counter()
        async with confined.process("echo hi", project) as process:
            await first_line(process)
            times.append(time.perf_counter() - began)

    assert min(times) < 0.05
