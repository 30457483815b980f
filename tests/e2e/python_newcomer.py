"""What somebody writes in Python: the synchronous client, in a script.

It does and prints what node/newcomer.mjs does.
"""

import json
import os
import queue
import sys
from typing import Any

import socketio

URL = os.environ["DAEMON_URL"]
TOKEN = os.environ["DAEMON_TOKEN"]
SESSION = os.environ["SESSION"]
PROJECT = os.environ["PROJECT"]

client = socketio.Client(reconnection=False)
events: queue.Queue[tuple[str, Any]] = queue.Queue()


def say(event: str, data: Any) -> None:
    sys.stdout.write(json.dumps({"event": event, "data": data}) + "\n")
    sys.stdout.flush()


def hear(event: str, data: Any = None) -> None:
    say(event, data)
    events.put((event, data))


client.on("*", hear)
client.on("connect", lambda: say("open", {"transport": client.transport()}))
client.on("connect_error", lambda data: say("connect_error", data))
client.on("disconnect", lambda reason: say("disconnect", {"reason": reason}))


def wait_for(name: str) -> Any:
    while True:
        event, data = events.get(timeout=10)
        if event == name:
            return data


def ask(event: str, payload: Any) -> None:
    say(f"ack {event}", client.call(event, payload, timeout=5))


def visit() -> None:
    wait_for("connected")
    client.emit("join_session", SESSION)
    wait_for("session_joined")
    client.emit("join_project", PROJECT)
    wait_for("project_joined")

    ask(
        "chat_message",
        {"content": "hello from python", "sessionId": SESSION, "metadata": {"mood": "curious"}},
    )
    client.emit("typing", {"sessionId": SESSION, "isTyping": True})
    ask("tts_notification", {"message": "a newcomer is here", "type": "success"})
    ask("system_status", {})

    ask("join_session", "")
    ask("join_project", {})
    ask("join_project", "nowhere")
    ask("chat_message", {"sessionId": SESSION})
    ask("chat_message", {"content": 7, "sessionId": SESSION})
    ask("terminal_command", {"command": "", "sessionId": SESSION})
    ask("file_update", {"filePath": "a.txt", "projectId": PROJECT, "action": "shred"})
    ask("tts_notification", {"message": "x" * 501, "type": "info"})
    ask("fly", {})
    client.emit("chat_message", "just text")
    wait_for("error")

    say("waiting", {})
    while wait_for("chat_message")["content"] != "goodbye":
        pass


try:
    client.connect(URL, auth={"token": TOKEN})
except socketio.exceptions.ConnectionError:
    client.disconnect()
else:
    visit()
    client.disconnect()
