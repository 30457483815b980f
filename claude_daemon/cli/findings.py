"""What the doctor has to be told: the daemon's own word, or, without it, what it would find itself.

Every probe is the one that the daemon makes at its start, so both come to the same verdict.
"""

import tempfile
from pathlib import Path

from claude_daemon.cli.connection import DaemonOffError, connected
from claude_daemon.cli.failure import CommandError
from claude_daemon.config import Settings
from claude_daemon.doctor.examination import Findings
from claude_daemon.doctor.files import Secrets
from claude_daemon.doctor.instance import running_instance
from claude_daemon.errors import DaemonError
from claude_daemon.protocol.model import Json


async def gather(settings: Settings) -> Findings:
    """Ask the daemon; probe what it would probe, if it does not answer."""
    instance = running_instance(settings.folders.state)
    status: Json | None = None
    silence = ""
    try:
        async with connected(settings) as client:
            status = await client.call("system_status")
    except DaemonOffError:
        instance = None
    except CommandError as failure:
        silence = failure.message
    with tempfile.TemporaryDirectory(prefix="claude-daemon-doctor-") as folder:
        sandbox, sandbox_problem = None, None
        if status is None or status["terminal"]["sandbox"]["mechanism"] == "none":  # for the reason why
            sandbox, sandbox_problem = await _sandbox(settings, Path(folder))
        return Findings(
            instance=instance,
            status=status,
            silence=silence,
            port_problem=None if instance else _port(settings.server.port),
            sandbox=sandbox,
            sandbox_problem=sandbox_problem,
            speech_problem=None if status else await _speech(settings, Path(folder)),
            vault=await _vault(settings),
            database=_database(settings),
        )


def _database(settings: Settings) -> Path:
    from claude_daemon.storage.store import Store

    return Store(settings.storage, settings.folders.state).path


def _port(number: int) -> str | None:
    """Why the daemon could not listen."""
    from claude_daemon.gateway.server import loopback_listeners

    try:
        listeners, _ = loopback_listeners(number)
    except DaemonError as error:
        return error.message
    for listener in listeners:
        listener.close()
    return None


async def _sandbox(settings: Settings, folder: Path) -> tuple[str | None, str | None]:
    """What confines commands here, or why nothing does."""
    from claude_daemon.terminal.process import find_capability
    from claude_daemon.terminal.sandbox.bwrap import Bubblewrap

    sandbox = Bubblewrap(settings.terminal, state=folder, home=Path.home())
    try:
        return (await find_capability(sandbox, settings.terminal)).mechanism, None
    except DaemonError as error:
        return None, error.message


async def _speech(settings: Settings, folder: Path) -> str | None:
    """Why nothing can be spoken; a silence is played."""
    from claude_daemon.speech.child import SpeechError
    from claude_daemon.speech.player import Player
    from claude_daemon.speech.voice import WorkerVoice

    try:
        await WorkerVoice(settings.speech).probe(folder)
        await Player(settings.speech).probe(folder)
    except SpeechError as error:
        return str(error)
    return None


async def _vault(settings: Settings) -> Secrets | None:
    """Where secrets are kept; the daemon makes its first one, so before that there is none."""
    from claude_daemon.security.vault import API_KEY, open_vault

    if not (settings.folders.state / "installation").exists():
        return None
    vault = await open_vault(settings)
    try:
        return Secrets(vault.name, has_key=await vault.get(API_KEY) is not None)
    except DaemonError as error:
        return Secrets(vault.name, problem=error.message)
