"""Saying something in a session, and reading the assistant's reply as it is written."""

from typing import TYPE_CHECKING, Any

import click

from claude_daemon.cli.commands import json_option
from claude_daemon.cli.failure import CommandError

if TYPE_CHECKING:  # what this imports would make --help slow
    from claude_daemon.client import Client


@click.command()
@click.argument("session_id", metavar="SESSION")
@click.argument("text")
@click.option("--project", "project_id", metavar="ID", help="The project that it is about.")
@click.option("--no-wait", is_flag=True, help="Do not wait for the assistant's reply.")
@json_option
def send(*, session_id: str, text: str, project_id: str | None, no_wait: bool, as_json: bool) -> int:
    """Say TEXT in SESSION ("current" is the one used last), and print the assistant's reply."""
    import asyncio

    from claude_daemon.cli.show import document

    sent, reply = asyncio.run(_send(session_id, text, project_id, wait=not no_wait, live=not as_json))
    failed = bool(reply) and reply["role"] == "system"
    if as_json:
        document(sent | ({"reply": reply} if reply else {}))
    elif failed:
        raise CommandError(f"the assistant did not answer: {reply['content']}")
    elif not reply:
        answer = "" if no_wait else "; no assistant is set up, so nobody answers"
        print(f"said in {sent['sessionId']}{answer if sent['assistant'] == 'none' else ''}")
    return 1 if failed else 0


async def _send(
    session_id: str, text: str, project_id: str | None, *, wait: bool, live: bool
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the daemon took, and the reply to it, which is empty if none is to come or waited for."""
    from claude_daemon.cli.connection import connected

    async with connected() as client:
        sent = await client.call("chat_message", content=text, sessionId=session_id, projectId=project_id)
        if not wait or sent["assistant"] == "none":
            return sent, {}
        return sent, await _reply(client, sent, live=live)


async def _reply(client: "Client", sent: dict[str, Any], *, live: bool) -> dict[str, Any]:
    """The reply to the message, printed as it comes.

    One to an earlier message may be under way: those that began before are left out, and a whole one
    says what it answers.
    """
    from claude_daemon.cli.text import lines
    from claude_daemon.client import ConnectionLostError

    printed = ""
    asked = {sent["id"]}  # and what is said behind it: one reply may answer several messages
    async for name, body in client.events():
        if body.get("sessionId") != sent["sessionId"]:
            continue
        if name == "chat_delta" and live and (body["index"] == 0 or body["id"] == printed):
            print(lines(body["delta"]), end="", flush=True)
            printed = body["id"]
        elif name == "chat_message" and body["seq"] > sent["seq"]:
            if body["role"] == "user":
                asked.add(body["id"])
                continue
            if live and body["role"] == "assistant":
                print("" if body["id"] == printed else lines(body["content"]), flush=True)
                printed = ""
            if _is_last(body, asked):
                return body
    raise ConnectionLostError


def _is_last(reply: dict[str, Any], asked: set[str]) -> bool:
    """Whether nothing more comes: a reply that broke off is followed by what went wrong."""
    metadata = reply.get("metadata") or {}
    if metadata.get("stopReason") == "error":
        return False
    return metadata.get("inReplyTo") in asked or "inReplyTo" not in metadata
