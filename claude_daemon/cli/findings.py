"""What the doctor has to be told: the daemon's own word, or, with it off, what it would find itself.

Every probe is the one that the daemon makes at its start, so both come to the same verdict.
"""

import tempfile
from pathlib import Path

from claude_daemon.cli.connection import DaemonOffError, connected
from claude_daemon.cli.failure import CommandError
from claude_daemon.config import Settings
from claude_daemon.doctor.examination import Findings
from claude_daemon.doctor.instance import running_instance
from claude_daemon.errors import DaemonError
from claude_daemon.protocol.model import Json


async def gather(settings: Settings) -> Findings:
    """Ask the daemon; probe what it would probe, if it is off."""
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
    key = bool(settings.chat.claude_api_key)
    database = _database(settings)
    if status is not None:
        return Findings(
            instance=instance, status=status, vault=status.get("vault"), key=key, database=database
        )
    if instance is not None:
        return Findings(instance=instance, status=None, silence=silence, key=key, database=database)
    with tempfile.TemporaryDirectory(prefix="claude-daemon-doctor-") as folder:
        sandbox, sandbox_problem = await _sandbox(settings, Path(folder))
        return Findings(
            instance=None,
            status=None,
            port_problem=_port(settings.server.port),
            sandbox=sandbox,
            sandbox_problem=sandbox_problem,
            speech_problem=await _speech(settings, Path(folder)),
            vault=await _vault(settings),
            key=key,
            database=database,
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


async def _vault(settings: Settings) -> str | None:
    """Where secrets are kept; the daemon makes its first one, so before that there is none."""
    from claude_daemon.security.vault import Vault

    try:
        installation = (settings.folders.state / "installation").read_text("utf-8").strip()
    except OSError:
        return None
    vault = await Vault.open(
        settings.folders.state,
        installation=installation,
        file_only=settings.file_vault,
        keyring_timeout_s=settings.security.keyring_timeout_s,
    )
    return vault.name
