"""Commands as clients ask for them: real store, hub, dispatcher and sandbox, sockets without a network."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from claude_daemon.config import RateSettings, StorageSettings, TerminalSettings
from claude_daemon.core.dispatch import Dispatcher
from claude_daemon.core.hub import Hub
from claude_daemon.core.metrics import Metrics
from claude_daemon.core.rooms import Rooms
from claude_daemon.lib.tasks import Supervisor
from claude_daemon.protocol import requests
from claude_daemon.protocol.model import DeviceId, UserId
from claude_daemon.storage.events import EventLog
from claude_daemon.storage.once import Remembered
from claude_daemon.storage.store import Store
from claude_daemon.terminal.sandbox.bwrap import Bubblewrap
from claude_daemon.terminal.service import TerminalService
from confined import Registered
from fakes import Socket, files_in, until
from like import TIME, UUID, Like

if sys.platform != "linux":
    pytest.skip("bubblewrap runs on Linux only", allow_module_level=True)

pytestmark = pytest.mark.user

S = "s1"
ENDS_WITHIN_S = 5.0
REVOKED_WITHIN_S = 2.0


class Desk:
    """The terminal as a client sees it.  `stop` is the daemon's, but for the store."""

    def __init__(
        self, service: TerminalService, dispatcher: Dispatcher, stack: AsyncExitStack, projects: Registered
    ) -> None:
        self.service = service
        self.projects = projects
        self._dispatcher = dispatcher
        self._stack = stack

    async def ask(self, socket: Socket, event: str, **payload: Any) -> dict[str, Any]:
        return await self._dispatcher(socket.caller, event, payload)

    async def joined(self, device_id: str = "laptop", session: str = S) -> Socket:
        socket = Socket(device_id)
        assert (await self.ask(socket, "join_session", sessionId=session))["ok"]
        socket.events.clear()
        return socket

    async def start(self, socket: Socket, command: str, session: str = S, **more: Any) -> dict[str, Any]:
        reply = await self.ask(socket, "terminal_command", command=command, sessionId=session, **more)
        assert reply["ok"], reply
        return reply

    async def run(self, socket: Socket, command: str, **more: Any) -> list[dict[str, Any]]:
        """All of its output, to the final event."""
        return await self.ended(socket, (await self.start(socket, command, **more))["commandId"])

    async def ended(self, socket: Socket, command_id: str) -> list[dict[str, Any]]:
        def mine() -> list[dict[str, Any]]:
            return [each for each in socket.heard("terminal_output") if each["commandId"] == command_id]

        await until(lambda: any("final" in each for each in mine()), within_s=ENDS_WITHIN_S)
        return mine()

    async def recorded(self) -> None:
        """Nothing is left to be written about any command."""
        await until(lambda: not self.service._commands, within_s=ENDS_WITHIN_S)

    async def history(self, command_id: str, **more: Any) -> dict[str, Any]:
        reply = await self.ask(Socket("reader"), "terminal_history", commandId=command_id, **more)
        assert reply["ok"], reply
        return reply

    async def refusal(self, socket: Socket, command: str = "true", **more: Any) -> dict[str, Any]:
        reply = await self.ask(socket, "terminal_command", **{"command": command, "sessionId": S, **more})
        assert not reply["ok"]
        error: dict[str, Any] = reply["error"]
        return error

    async def stop(self) -> None:
        await self._stack.aclose()


OpenDesk = Callable[..., AbstractAsyncContextManager[Desk]]


@pytest.fixture
def open_desk(state: Path, home: Path, project: Path) -> OpenDesk:
    """`async with open_desk(slots=1) as desk`: again with the same state, it is a restart."""

    @asynccontextmanager
    async def open_desk(*, program: str = "bwrap", **settings: Any) -> AsyncIterator[Desk]:
        async with Store(StorageSettings(), state) as store, AsyncExitStack() as stack:
            hub = Hub(EventLog(store))
            projects = Registered(app=project)
            rooms = Rooms(hub, projects, "none")
            given = TerminalSettings(**settings)
            supervisor = await stack.enter_async_context(Supervisor())
            service = await stack.enter_async_context(
                TerminalService(
                    hub,
                    store,
                    supervisor,
                    rooms=rooms,
                    projects=projects,
                    sandbox=Bubblewrap(given, state=state, home=home, program=program),
                    settings=given,
                    folder=state / "terminal",
                )
            )
            dispatcher = Dispatcher(Remembered(store), Metrics(), RateSettings(points=10_000))
            dispatcher.on(requests.TerminalCommand, service.run)
            dispatcher.on(requests.TerminalCancel, service.cancel)
            dispatcher.on(requests.TerminalList, service.list)
            dispatcher.on(requests.TerminalHistory, service.history)
            dispatcher.on(requests.JoinSession, rooms.join_session)
            dispatcher.on(requests.LeaveSession, rooms.leave_session)
            dispatcher.on(requests.JoinProject, rooms.join_project)
            yield Desk(service, dispatcher, stack, projects)

    return open_desk


@pytest.fixture
async def desk(open_desk: OpenDesk) -> AsyncIterator[Desk]:
    async with open_desk() as desk:
        yield desk


def text(events: list[dict[str, Any]]) -> str:
    return "".join(event["output"] for event in events)


# The contract.


async def test_a_command_is_answered_streamed_and_ended_as_the_contract_says(desk: Desk) -> None:
    socket = await desk.joined()

    ack = await desk.start(socket, "echo hi; echo oh >&2; exit 3", projectId="app")
    events = await desk.ended(socket, ack["commandId"])
    await desk.recorded()

    assert ack == {
        "ok": True,
        "commandId": Like(UUID),
        "state": "running",
        "sandbox": {"mechanism": "bwrap", "network": "off", "limits": Like(list)},
    }
    same = {"commandId": ack["commandId"], "sessionId": S, "timestamp": Like(TIME)}
    assert sorted(events[:-1], key=lambda event: str(event["stream"])) == [
        {**same, "seq": Like(int), "output": "oh\n", "type": "error", "stream": "stderr"},
        {**same, "seq": Like(int), "output": "hi\n", "type": "output", "stream": "stdout"},
    ]
    assert [event["seq"] for event in events] == [1, 2, 3]
    assert events[-1] == {
        **same,
        "seq": 3,
        "output": "",
        "type": "error",
        "stream": "stdout",
        "final": True,
        "exitCode": 3,
        "signal": None,
        "reason": "exit",
        "durationMs": Like(int),
        "truncatedBytes": 0,
    }
    stored = {"commandId": ack["commandId"], "id": Like(UUID), "timestamp": Like(TIME)}
    assert socket.heard("terminal_started") == [
        {
            **stored,
            "seq": 1,
            "command": "echo hi; echo oh >&2; exit 3",
            "deviceId": "laptop",
            "projectId": "app",
        }
    ]
    assert socket.heard("terminal_finished") == [
        {**stored, "seq": 2, "exitCode": 3, "signal": None, "reason": "exit", "durationMs": Like(int)}
    ]


async def test_the_start_is_told_before_output_and_the_end_after_it(desk: Desk) -> None:
    socket = await desk.joined()

    await desk.run(socket, "echo hi")
    await desk.recorded()

    assert [name for name, _ in socket.events] == [
        "terminal_started",
        "terminal_output",
        "terminal_output",
        "terminal_finished",
    ]


async def test_success_is_told_as_such(desk: Desk) -> None:
    final = (await desk.run(await desk.joined(), "true"))[-1]

    assert (final["type"], final["exitCode"]) == ("success", 0)


async def test_the_caller_and_the_room_hear_each_event_once(desk: Desk) -> None:
    caller, other, elsewhere = await desk.joined(), await desk.joined("phone"), Socket("watch")

    events = await desk.run(caller, "echo hi")

    assert text(events) == "hi\n"
    assert other.heard("terminal_output") == events
    assert elsewhere.events == []


async def test_writing_to_a_session_joins_it(desk: Desk) -> None:
    socket = Socket()

    events = await desk.run(socket, "echo hi")
    await desk.recorded()

    assert [event["seq"] for event in events] == [1, 2]
    assert len(socket.heard("terminal_finished")) == 1


async def test_who_asked_hears_the_output_even_after_leaving_the_room(desk: Desk, project: Path) -> None:
    socket = await desk.joined()
    ack = await desk.start(socket, "while [ ! -e go ]; do sleep 0.01; done; echo hi", projectId="app")

    await desk.ask(socket, "leave_session", sessionId=S)
    (project / "go").touch()

    assert text(await desk.ended(socket, ack["commandId"])) == "hi\n"


async def test_only_the_sending_device_reads_its_client_id(desk: Desk) -> None:
    mine, theirs = await desk.joined(), await desk.joined("phone")

    await desk.run(mine, "true", clientId="c1")

    assert mine.heard("terminal_started")[0]["clientId"] == "c1"
    assert "clientId" not in theirs.heard("terminal_started")[0]


async def test_the_same_client_id_runs_it_once(desk: Desk, project: Path) -> None:
    socket = await desk.joined()
    command = {"command": "echo x >> log", "projectId": "app", "clientId": "c1"}

    both = await asyncio.gather(*(desk.start(socket, **command) for _ in range(2)))
    await desk.ended(socket, both[0]["commandId"])
    again = await desk.start(socket, **command)

    assert both[0] == both[1] == again
    assert (project / "log").read_text() == "x\n"


# Where.


async def test_a_command_runs_in_its_project(desk: Desk, project: Path) -> None:
    (project / "src").mkdir()
    socket = await desk.joined()

    named = await desk.run(socket, "pwd", projectId="app", workingDir="src")
    absolute = await desk.run(socket, "pwd", workingDir=str(project / "src"))

    assert text(named) == text(absolute) == f"{project / 'src'}\n"
    await desk.recorded()
    assert [each["projectId"] for each in socket.heard("terminal_started")] == ["app", "app"]


async def test_it_runs_in_the_project_that_the_device_joined_last(desk: Desk, project: Path) -> None:
    socket = await desk.joined()
    await desk.ask(socket, "join_project", projectId="app")

    assert text(await desk.run(socket, "pwd")) == f"{project}\n"


async def test_without_a_project_it_runs_in_an_empty_folder(desk: Desk, home: Path) -> None:
    assert text(await desk.run(await desk.joined(), "pwd; ls -A")) == f"{home}\n"


async def test_outside_of_projects_nothing_is_run(desk: Desk, home: Path) -> None:
    error = await desk.refusal(await desk.joined(), workingDir=str(home))

    assert error["code"] == "outside_project"
    assert "claude-daemon projects add" in error["message"]
    assert desk.service.status().running == 0


# What is refused.


@pytest.mark.parametrize(
    ("payload", "path", "kind"),
    [
        ({"pty": True}, "pty", "any.only"),
        ({"network": "on"}, "network", "any.only"),
        ({"timeoutSeconds": 61}, "timeoutSeconds", "any.only"),
        ({"command": "a\0b"}, "command", "string.base"),
        ({"command": "a\ud800"}, "command", "string.base"),
        ({"workingDir": "a\0b", "projectId": "app"}, "workingDir", "string.base"),
    ],
)
async def test_what_cannot_be_done_is_named(
    open_desk: OpenDesk, payload: dict[str, Any], path: str, kind: str
) -> None:
    async with open_desk(max_timeout_s=60, timeout_s=60) as desk:
        error = await desk.refusal(await desk.joined(), **payload)

        assert (error["message"], error["code"]) == ("Invalid command format", "invalid")
        assert error["details"] == [{"message": Like(str), "path": [path], "type": kind}]


async def test_a_protected_path_that_cannot_be_held_is_the_answer(desk: Desk, project: Path) -> None:
    (project / ".envrc").symlink_to("x")
    socket = await desk.joined()

    error = await desk.refusal(socket, projectId="app")

    assert error["code"] == "protected_path"
    assert (desk.service.status().running, desk.service.problems()) == (0, [])
    assert text(await desk.run(socket, "echo on", projectId=None)) == "on\n"


async def test_without_a_sandbox_nothing_is_run_until_there_is_one(
    open_desk: OpenDesk, tmp_path: Path
) -> None:
    program = tmp_path / "bwrap"
    async with open_desk(program=str(program)) as desk:
        socket = await desk.joined()
        error = await desk.refusal(socket)
        status = desk.service.status()
        problems = desk.service.problems()

        program.symlink_to("/usr/bin/bwrap")
        desk.service._tried_at = 0
        events = await desk.run(socket, "echo confined")

    assert error["code"] == "sandbox_unavailable"
    assert "install bubblewrap" in error["message"]
    assert (status.sandbox.mechanism, status.sandbox.limits) == ("none", [])
    assert problems == [error["message"]]
    assert text(events) == "confined\n"


# In line.


async def test_what_finds_no_slot_waits_in_line(open_desk: OpenDesk, project: Path) -> None:
    async with open_desk(slots=1, queue=2) as desk:
        socket = await desk.joined()
        wait = "while [ ! -e go ]; do sleep 0.01; done"

        acks = [await desk.start(socket, wait, projectId="app") for _ in range(3)]
        refused = await desk.refusal(socket)
        status = desk.service.status()
        listed = await desk.ask(socket, "terminal_list", sessionId=S)
        (project / "go").touch()
        for ack in acks:
            await desk.ended(socket, ack["commandId"])
        await desk.recorded()
        later = (await desk.ask(socket, "terminal_list", sessionId=S))["commands"]

    assert later[0]["startedAt"] > listed["commands"][0]["startedAt"]  # when it began, not when it came
    assert [(ack["state"], ack.get("position")) for ack in acks] == [
        ("running", None),
        ("queued", 1),
        ("queued", 2),
    ]
    assert refused["code"] == "busy"
    assert (status.running, status.queued, status.slots) == (1, 2, 1)
    assert sorted(each["state"] for each in listed["commands"]) == ["queued", "queued", "running"]
    started = [each["commandId"] for each in socket.heard("terminal_started")]
    assert started == [ack["commandId"] for ack in acks]


async def test_one_that_waits_can_be_cancelled(open_desk: OpenDesk) -> None:
    async with open_desk(slots=1) as desk:
        socket = await desk.joined()
        first = await desk.start(socket, "sleep 30")
        second = await desk.start(socket, "echo never")

        await desk.ask(socket, "terminal_cancel", commandId=second["commandId"], signal="TERM")
        events = await desk.ended(socket, second["commandId"])
        await desk.ask(socket, "terminal_cancel", commandId=first["commandId"], signal="KILL")
        await desk.ended(socket, first["commandId"])
        third = text(await desk.run(socket, "echo next"))

    assert [(each["seq"], each["reason"], each["exitCode"]) for each in events] == [(1, "cancelled", None)]
    assert third == "next\n"


async def test_one_that_cannot_begin_when_its_turn_comes_says_why(open_desk: OpenDesk, project: Path) -> None:
    async with open_desk(slots=1) as desk:
        socket = await desk.joined()
        first = await desk.start(socket, "sleep 30")
        second = await desk.start(socket, "echo never", projectId="app")
        (project / ".envrc").symlink_to("x")
        await desk.ask(socket, "terminal_cancel", commandId=first["commandId"], signal="KILL")

        events = await desk.ended(socket, second["commandId"])
        await desk.recorded()

    assert "symbolic link" in events[0]["output"]
    assert (events[-1]["reason"], events[-1]["exitCode"]) == ("sandbox", None)


# Ends.


async def test_cancel_ends_it_step_by_step(open_desk: OpenDesk) -> None:
    async with open_desk(int_grace_s=0.2, term_grace_s=0.2) as desk:
        socket = await desk.joined()
        ack = await desk.start(socket, "trap '' INT TERM; echo ready; exec sleep 30")
        await until(lambda: socket.heard("terminal_output"))

        reply = await desk.ask(socket, "terminal_cancel", commandId=ack["commandId"])
        final = (await desk.ended(socket, ack["commandId"]))[-1]
        late = await desk.ask(socket, "terminal_cancel", commandId=ack["commandId"])
        unknown = await desk.ask(socket, "terminal_cancel", commandId="no-such-command")

    assert reply == late == {"ok": True}
    assert (final["reason"], final["signal"], final["exitCode"]) == ("cancelled", "KILL", None)
    assert unknown["error"]["code"] == "not_found"


async def test_a_single_signal_is_just_that(desk: Desk) -> None:
    socket = await desk.joined()
    ack = await desk.start(socket, "trap 'echo caught' INT; echo ready; while :; do sleep 0.02; done")
    await until(lambda: socket.heard("terminal_output"))

    await desk.ask(socket, "terminal_cancel", commandId=ack["commandId"], signal="INT")
    await until(lambda: "caught" in text(socket.heard("terminal_output")))
    await desk.ask(socket, "terminal_cancel", commandId=ack["commandId"], signal="TERM")
    final = (await desk.ended(socket, ack["commandId"]))[-1]

    assert (final["reason"], final["signal"]) == ("cancelled", "TERM")


async def test_it_ends_when_its_time_is_up(desk: Desk) -> None:
    final = (await desk.run(await desk.joined(), "sleep 30", timeoutSeconds=1))[-1]

    assert (final["reason"], final["limit"], final["signal"]) == ("timeout", "time", "TERM")
    assert 1_000 <= final["durationMs"] < 2_500


async def test_a_client_that_leaves_does_not_take_its_command_along(desk: Desk, project: Path) -> None:
    socket = await desk.joined()
    ack = await desk.start(socket, "while [ ! -e go ]; do sleep 0.01; done; echo done", projectId="app")

    socket.closed = True
    (project / "go").touch()
    await desk.recorded()
    history = await desk.history(ack["commandId"])

    assert text(history["output"]) == "done\n"
    assert history["output"][-1]["exitCode"] == 0


async def test_a_revoked_device_loses_its_commands_and_no_other_does(desk: Desk) -> None:
    mine, theirs = await desk.joined("lost"), await desk.joined("kept")
    lost = await desk.start(mine, "trap '' INT TERM; sleep 30; sleep 30")
    kept = await desk.start(theirs, "sleep 30")

    await desk.service.cancel_device(DeviceId("lost"))
    async with asyncio.timeout(REVOKED_WITHIN_S):
        final = (await desk.ended(theirs, lost["commandId"]))[-1]

    assert final["reason"] == "cancelled"
    await until(lambda: set(desk.service._commands) == {kept["commandId"]})
    assert desk.service.status().running == 1


async def test_a_stop_of_the_daemon_ends_all_and_says_so(open_desk: OpenDesk) -> None:
    async with open_desk(slots=1) as desk:
        socket = await desk.joined()
        running = await desk.start(socket, "trap '' INT TERM; echo ready; sleep 30; sleep 30")
        queued = await desk.start(socket, "echo never")
        await until(lambda: socket.heard("terminal_output"))

        async with asyncio.timeout(3):
            await desk.stop()

    for ack in (running, queued):
        final = [each for each in socket.heard("terminal_output") if each["commandId"] == ack["commandId"]][
            -1
        ]
        assert (final["final"], final["reason"], final["exitCode"]) == (True, "daemon_stopped", None)
    assert [each["reason"] for each in socket.heard("terminal_finished")] == ["daemon_stopped"] * 2
    assert psutil.Process().children(recursive=True) == []


async def test_nothing_begins_while_the_daemon_stops(desk: Desk) -> None:
    socket = await desk.joined()

    await desk.stop()

    assert (await desk.refusal(socket))["code"] == "busy"


async def test_a_stop_does_not_wait_for_a_slow_client(open_desk: OpenDesk) -> None:
    async with open_desk() as desk:
        socket = await desk.joined()
        await desk.start(socket, "yes")
        await until(lambda: socket.heard("terminal_output"))
        socket.congested = True
        await until(lambda: any(command._patience for command in desk.service._commands.values()))

        async with asyncio.timeout(2):
            await desk.stop()

    assert socket.heard("terminal_output")[-1]["reason"] == "daemon_stopped"


# Reading it again.


async def test_output_can_be_read_again_page_by_page(desk: Desk) -> None:
    socket = await desk.joined()
    events = await desk.run(socket, "for i in 1 2 3; do echo $i; sleep 0.02; done")
    command_id = events[0]["commandId"]

    whole = await desk.history(command_id)
    first = await desk.history(command_id, limit=2)
    rest = await desk.history(command_id, afterSeq=2)

    assert whole == {
        "ok": True,
        "commandId": command_id,
        "state": "finished",
        "output": events,
        "hasMore": False,
    }
    assert (first["output"], first["hasMore"]) == (events[:2], True)
    assert (rest["output"], rest["hasMore"]) == (events[2:], False)


async def test_output_of_one_that_runs_can_be_read(desk: Desk) -> None:
    socket = await desk.joined()
    ack = await desk.start(socket, "echo so far; sleep 30")
    await until(lambda: socket.heard("terminal_output"))

    history = await desk.history(ack["commandId"])

    assert (history["state"], text(history["output"])) == ("running", "so far\n")


async def test_of_much_output_the_end_is_kept_and_what_is_gone_is_told(open_desk: OpenDesk) -> None:
    async with open_desk(kept_bytes=200_000, chunk_bytes=4_096) as desk:
        events = await desk.run(await desk.joined(), "seq 1 100000")
        history = await desk.history(events[0]["commandId"], limit=1_000)

    final = history["output"][-1]
    total = len(text(events))
    assert text(events) == "".join(f"{n}\n" for n in range(1, 100_001))
    assert text(history["output"]) == text(events)[final["truncatedBytes"] :]
    assert 100_000 < total - final["truncatedBytes"] <= 200_000


async def test_commands_are_listed_the_newest_first(desk: Desk) -> None:
    socket = await desk.joined()
    for code in (0, 7):
        await desk.run(socket, f"exit {code}", projectId="app")
        await desk.recorded()
    await desk.run(socket, "true", session="another")

    listed = await desk.ask(socket, "terminal_list", sessionId=S)
    everywhere = await desk.ask(socket, "terminal_list")

    assert [(each["command"], each["exitCode"]) for each in listed["commands"]] == [
        ("exit 7", 7),
        ("exit 0", 0),
    ]
    assert listed["commands"][0] == {
        "commandId": Like(UUID),
        "sessionId": S,
        "projectId": "app",
        "command": "exit 7",
        "state": "finished",
        "startedAt": Like(TIME),
        "exitCode": 7,
    }
    assert len(everywhere["commands"]) == 3


async def test_an_unknown_command_has_no_history(desk: Desk) -> None:
    for command_id in ("nobody", "../../etc/passwd", "00000000-0000-0000-0000-000000000000"):
        reply = await desk.ask(Socket(), "terminal_history", commandId=command_id)
        assert reply["error"]["code"] == "not_found"


async def test_another_users_commands_are_not_there(desk: Desk) -> None:
    events = await desk.run(await desk.joined(), "echo mine")
    other = Socket()
    other.caller = replace(other.caller, user_id=UserId("eve"))

    for event in ("terminal_history", "terminal_cancel"):
        reply = await desk.ask(other, event, commandId=events[0]["commandId"])
        assert reply["error"]["code"] == "not_found"
    assert (await desk.ask(other, "terminal_list"))["commands"] == []


async def test_only_so_many_commands_are_remembered(open_desk: OpenDesk, state: Path) -> None:
    async with open_desk(kept_commands=2) as desk:
        socket = await desk.joined()
        ids = []
        for n in range(4):
            ids.append((await desk.run(socket, f"echo {n}"))[0]["commandId"])
            await desk.recorded()
        listed = await desk.ask(socket, "terminal_list")

    assert [each["commandId"] for each in listed["commands"]] == ids[:1:-1]
    assert files_in(state / "terminal") == sorted(ids[2:])


# Across a restart.


async def test_history_survives_a_restart(open_desk: OpenDesk) -> None:
    async with open_desk() as desk:
        events = await desk.run(await desk.joined(), "echo hi; exit 4")
        await desk.recorded()

    async with open_desk() as desk:
        history = await desk.history(events[0]["commandId"])
        listed = await desk.ask(Socket(), "terminal_list")

    assert history["output"] == events
    assert [each["exitCode"] for each in listed["commands"]] == [4]


async def test_output_that_belongs_to_no_command_is_removed(open_desk: OpenDesk, state: Path) -> None:
    async with open_desk() as desk:
        events = await desk.run(await desk.joined(), "echo hi")
        await desk.recorded()
    (state / "terminal" / "00000000-0000-0000-0000-000000000000").mkdir()

    async with open_desk():
        kept = files_in(state / "terminal")

    assert kept == [events[0]["commandId"]]


async def test_what_a_crash_interrupted_is_ended_honestly(open_desk: OpenDesk, state: Path) -> None:
    """A crash is played by putting the database back to how it was while the command ran."""
    async with open_desk() as desk:
        socket = await desk.joined()
        ack = await desk.start(socket, "echo so far; sleep 30")
        await until(lambda: socket.heard("terminal_output"))
        before = await asyncio.to_thread(saved, state)
    await asyncio.to_thread(put_back, state, before)

    async with open_desk() as desk:
        history = await desk.history(ack["commandId"])
        missed = Socket()
        await desk.ask(missed, "join_session", sessionId=S, afterSeq=0)

    final = history["output"][-1]
    assert history["state"] == "finished"
    assert [each["seq"] for each in history["output"]] == [1, 2]
    assert (final["final"], final["reason"]) == (True, "daemon_stopped")
    assert (final["exitCode"], final["signal"], final["type"]) == (None, None, "error")
    assert [name for name, _ in missed.events] == ["terminal_started", "terminal_finished", "session_joined"]


def saved(state: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in state.rglob("*") if path.is_file()}


def put_back(state: Path, files: dict[Path, bytes]) -> None:
    for path in state.rglob("*"):
        if path.is_file() and path not in files:
            path.unlink()
    for path, content in files.items():
        path.write_bytes(content)


# Slow clients.


async def test_a_slow_client_holds_its_command_up_and_no_other(desk: Desk) -> None:
    slow, quick = await desk.joined("slow", "a"), await desk.joined("quick", "b")
    ack = await desk.start(slow, "head -c 20000000 /dev/zero", session="a")
    await until(lambda: slow.heard("terminal_output"))
    slow.congested = True
    heard = len(slow.heard("terminal_output"))

    other = text(await desk.run(quick, "seq 1 20000", session="b"))
    held = len(slow.heard("terminal_output"))
    slow.congested = False
    events = await desk.ended(slow, ack["commandId"])

    assert len(other) == 108_894
    assert held <= heard + 1
    assert len(text(events)) == 20_000_000
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))


async def test_output_is_cut_into_events_of_bounded_size(open_desk: OpenDesk) -> None:
    async with open_desk(chunk_bytes=1_000) as desk:
        events = await desk.run(await desk.joined(), "head -c 20000 /dev/zero | tr '\\0' x")

    assert max(len(event["output"]) for event in events) == 1_000
    assert len(text(events)) == 20_000


async def test_a_full_disk_does_not_end_a_command(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    socket = await desk.joined()
    with monkeypatch.context() as full:
        write = os.write

        def refuse(fd: int, data: bytes) -> int:
            if data.startswith(b"{"):
                raise OSError(28, "No space left on device")
            return write(fd, data)

        full.setattr(os, "write", refuse)
        events = await desk.run(socket, "echo hi")
    await desk.recorded()

    assert text(events) == "hi\n"
    assert events[-1]["exitCode"] == 0
