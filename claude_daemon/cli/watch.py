"""Everything that happens, as it happens."""

import asyncio
from typing import TYPE_CHECKING, Any

import click

from claude_daemon.cli.commands import json_option
from claude_daemon.cli.failure import CommandError

if TYPE_CHECKING:  # what this imports would make --help slow
    from claude_daemon.client import Client

LOOK_EVERY_S = 2.0
STOPPED = "claude-daemon was stopped; start it again with: claude-daemon start"


@click.command()
@click.option("--project", "project_id", metavar="ID", help="Only what happens in this project.")
@json_option
def watch(*, project_id: str | None, as_json: bool) -> int:
    """Print what happens in projects, sessions and notifications, until Ctrl-C."""
    try:
        asyncio.run(_watch(project_id, as_json=as_json))
    except asyncio.CancelledError:  # nobody reads any more
        return 0
    raise CommandError(STOPPED)


async def _watch(project_id: str | None, *, as_json: bool) -> None:
    """Until the daemon announces its stop.  Raises `CommandError` when it ends without a word."""
    from claude_daemon.cli.connection import connected
    from claude_daemon.cli.output import when_nobody_reads
    from claude_daemon.client import ConnectionLostError
    from claude_daemon.lib.tasks import Supervisor

    task = asyncio.current_task()
    assert task is not None
    stopped = False
    with when_nobody_reads(task.cancel):
        async with connected() as client, Supervisor() as jobs:
            if project_id:
                await client.call("join_project", projectId=project_id)
            else:
                rooms = Rooms(client)
                await rooms.join(new=False)
                jobs.spawn("rooms", rooms.join_new())
            async for name, body in client.events():
                stopped = stopped or name == "server_shutdown"
                if project_id is None or body.get("projectId") == project_id or name == "server_shutdown":
                    _print(name, body, as_json=as_json)
            if not stopped:
                raise ConnectionLostError


def _print(name: str, body: dict[str, Any], *, as_json: bool) -> None:
    from claude_daemon.cli.feed import readable
    from claude_daemon.cli.show import document

    if as_json:
        document({"event": name, **body})
    elif line := readable(name, body):
        print(line, flush=True)


class Rooms:
    """The projects and sessions that are heard: those there were, and those that come."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._joined: set[tuple[str, str]] = set()

    async def join_new(self) -> None:
        from claude_daemon.client import NotRunningError, RefusedError

        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            try:
                await self.join(new=True)
            except (RefusedError, TimeoutError):  # gone again between list and join
                continue
            except NotRunningError:
                return

    async def join(self, *, new: bool) -> None:
        """Sessions that are `new` are heard from their beginning, the others from now on."""
        projects = (await self._client.call("list_projects"))["projects"]
        for project in projects:
            await self._join("project", project["projectId"], {})
        sessions = (await self._client.call("list_sessions"))["sessions"]
        for session in reversed(sessions):  # the latest last: it is what "current" means from now on
            await self._join("session", session["sessionId"], {"afterSeq": 0 if new else session["seq"]})

    async def _join(self, kind: str, room_id: str, fields: dict[str, int]) -> None:
        if (kind, room_id) not in self._joined:
            await self._client.call(f"join_{kind}", {f"{kind}Id": room_id, **fields})
            self._joined.add((kind, room_id))
