"""Where secrets are kept: the system's keyring, or a 0600 file where there is none.

A keyring may hang for ever (a locked collection asks a person who is not there), so it is only ever
touched in a child process with a deadline; secrets travel over its pipes, never in argv.  Once the file
was used it stays in use: a secret that seems to vanish when a keyring comes and goes would end every
pairing.
"""

import asyncio
import contextlib
import sys
import uuid
from pathlib import Path
from typing import Self

import msgspec

from claude_daemon.config import Settings
from claude_daemon.errors import StartError
from claude_daemon.lib.files import private_folder, write_private

FILE = "file"
API_KEY = "claude-api-key"
"""The name under which a key of the Claude API is kept."""

_RING = Path(__file__).with_name("ring.py")


class KeyringUnusableError(Exception):
    """There is no keyring, it is locked, or it did not answer in time."""


class Vault:
    """Named secrets of one installation."""

    def __init__(self, folder: Path, *, installation: str, keyring_timeout_s: float | None) -> None:
        self.installation = installation
        self._path = folder / "secrets.json"
        self._service = f"claude-daemon:{installation}"
        self._timeout_s = keyring_timeout_s
        self.name = FILE
        """What is in use: the keyring's name, or `file`."""

    @classmethod
    async def open(
        cls, folder: Path, *, installation: str, file_only: bool, keyring_timeout_s: float
    ) -> Self:
        """The vault in use; the keyring is tried unless there is a file or `file_only` says not to."""
        private_folder(folder)
        vault = cls(folder, installation=installation, keyring_timeout_s=None)
        if file_only or vault._path.exists():
            return vault
        ring = cls(folder, installation=installation, keyring_timeout_s=keyring_timeout_s)
        with contextlib.suppress(KeyringUnusableError):
            await ring._ask("probe", None)
            return ring
        return vault

    async def get(self, name: str) -> str | None:
        """A secret, or None.  Raises `StartError` when the place it is kept in cannot be read."""
        if self._timeout_s is None:
            return self._read().get(name)
        try:
            return await self._ask(name, None)
        except KeyringUnusableError as error:
            raise StartError(
                f"the keyring cannot be used ({error}); unlock it, "
                "or set CLAUDE_DAEMON_SECURITY_KEYRING=false to keep secrets in a file"
            ) from None

    async def set(self, name: str, value: str) -> None:
        """Keep a secret; on return it can be had back."""
        if self._timeout_s is not None:
            with contextlib.suppress(KeyringUnusableError):
                if await self._ask(name, value) == value:
                    return
            self._timeout_s, self.name = None, FILE
        secrets = self._read()
        secrets[name] = value
        write_private(self._path, msgspec.json.encode(secrets))

    def _read(self) -> dict[str, str]:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, str])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError) as error:
            raise StartError(
                f"{self._path} cannot be read ({error}); it is kept as it is: put a copy back, or move it "
                "away to make new secrets, which ends every pairing and token"
            ) from None

    async def _ask(self, name: str, value: str | None) -> str | None:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            str(_RING),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        asked = msgspec.json.encode({"service": self._service, "name": name, "set": value})
        try:
            async with asyncio.timeout(self._timeout_s):
                out, _ = await child.communicate(asked)
        except TimeoutError:
            raise KeyringUnusableError(f"no answer within {self._timeout_s:g} s") from None
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        if child.returncode != 0:
            raise KeyringUnusableError("none is there, or it is locked")
        answer = msgspec.json.decode(out)
        self.name = str(answer["keyring"])
        found: str | None = answer["value"]
        return found


async def open_vault(settings: Settings) -> Vault:
    """This installation's vault; its id is made at the first call."""
    folder = private_folder(settings.folders.state)
    path = folder / "installation"
    try:
        installation = path.read_text("utf-8").strip()
    except FileNotFoundError:
        installation = str(uuid.uuid4())
        write_private(path, installation.encode())
    return await Vault.open(
        folder,
        installation=installation,
        file_only=settings.file_vault,
        keyring_timeout_s=settings.security.keyring_timeout_s,
    )
