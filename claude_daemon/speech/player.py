"""A sound file onto the loudspeaker, by a player in a child that can be killed.

Which player works shows only in trying: one may be installed for a sound server that isn't running.
"""

import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from claude_daemon.config import SpeechSettings
from claude_daemon.speech import child, wav
from claude_daemon.speech.child import SpeechError

Argv = tuple[str, ...]

_LINUX: tuple[Argv, ...] = (
    ("paplay",),
    ("pw-play",),
    ("aplay", "-q"),
    ("ffplay", "-nodisp", "-autoexit", "-loglevel", "error"),
)
# The best first; each gets the file as its last argument.
PLAYERS: Mapping[str, tuple[Argv, ...]] = {
    "linux": _LINUX,
    "darwin": (("afplay",),),
    # Not PowerShell: half a second to start, and its command line would need the path quoted twice.
    "win32": (
        (
            sys.executable,
            "-c",
            "import sys, winsound as w; w.PlaySound(sys.argv[1], w.SND_FILENAME | w.SND_NODEFAULT)",
        ),
    ),
}


class Player:
    """The first player that is found and plays; before the first probe, the first that is found."""

    def __init__(
        self, settings: SpeechSettings, *, known: Sequence[Argv] = PLAYERS.get(sys.platform, _LINUX)
    ) -> None:
        own = shlex.split(settings.player, posix=sys.platform != "win32")
        self._candidates = [tuple(own)] if own else list(known)
        self._beyond_s = settings.play_timeout_s
        self._chosen: Argv | None = None

    @property
    def name(self) -> str | None:
        return Path(self._chosen[0]).name if self._chosen else None

    async def play(self, path: Path, duration_s: float) -> None:
        """Play to the end.  Raises `SpeechError` when that fails or takes much longer than the sound."""
        chosen = self._chosen or self._found()[0]
        await self._play_with(chosen, path, duration_s)

    async def probe(self, folder: Path) -> None:
        """Play a short silence, with each player found until one can.

        Raises the `SpeechError` of the first one when none can.
        """
        path = folder / "silence.wav"
        wav.write_silence(path)
        self._chosen = None
        failures: list[SpeechError] = []
        try:
            for argv in self._found():
                try:
                    await self._play_with(argv, path, wav.SILENCE_S)
                except SpeechError as error:
                    failures.append(error)
                else:
                    self._chosen = argv
                    return
        finally:
            path.unlink(missing_ok=True)
        raise failures[0]

    def _found(self) -> list[Argv]:
        found = [argv for argv in self._candidates if shutil.which(argv[0])]
        if not found:
            names = ", ".join(Path(argv[0]).name for argv in self._candidates)
            raise SpeechError(
                f"no sound player is found ({names}); install one, or name one in the setting speech.player"
            )
        return found

    async def _play_with(self, argv: Argv, path: Path, duration_s: float) -> None:
        ended = await child.run((*argv, str(path)), deadline_s=duration_s + self._beyond_s)
        if ended.code != 0:
            name, how = Path(argv[0]).name, child.how_it_ended(ended)
            raise SpeechError(f"{name} cannot play here, is there a sound device? It {how}")
