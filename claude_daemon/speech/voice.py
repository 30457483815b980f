"""Text into a sound file, by an engine in a child of its own."""

import contextlib
import json
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from claude_daemon.config import SpeechSettings
from claude_daemon.speech import child, wav
from claude_daemon.speech.child import SpeechError

PROBE = "ready"
# -P: without it, the worker's folder comes first on the path and its queue.py hides the standard one.
WORKER = (sys.executable, "-P", str(Path(__file__).with_name("worker.py")))


class Voice(Protocol):
    @property
    def engine(self) -> str | None:
        """The engine's name, once it has spoken."""

    async def synthesize(self, text: str, path: Path) -> float:
        """Write plain `text` as a sound file and return its duration in seconds.

        Raises `SpeechError` at the latest when the engine's deadline is over.
        """

    async def probe(self, folder: Path) -> None:
        """Make a piece of speech in `folder` that nobody hears.  Raises `SpeechError`."""


class WorkerVoice:
    """pyttsx3, a fresh `worker.py` each time: in one process its second text is lost or crashes it."""

    def __init__(self, settings: SpeechSettings, *, worker: Sequence[str] = WORKER) -> None:
        self._settings = settings
        self._worker = worker
        self._engine: str | None = None

    @property
    def engine(self) -> str | None:
        return self._engine

    async def synthesize(self, text: str, path: Path) -> float:
        deadline_s = self._settings.utterance_timeout_s
        request = {
            "text": text,
            "path": str(path),
            "rate": self._settings.rate,
            "deadlineSeconds": deadline_s,
        }
        try:
            ended = await child.run(
                self._worker, stdin=json.dumps(request).encode() + b"\n", deadline_s=deadline_s
            )
        except SpeechError as error:
            raise SpeechError(f"the speech engine is hung or missing: {error}") from None
        answer = _answer(ended.last_line)
        if "error" in answer:
            raise SpeechError(f"the speech engine cannot be used: {answer['error']}")
        if ended.code != 0 or "engine" not in answer:
            raise SpeechError(f"the speech engine {child.how_it_ended(ended)}")
        duration = wav.duration_s(path)
        self._engine = str(answer["engine"])
        return duration

    async def probe(self, folder: Path) -> None:
        path = folder / f"probe-{secrets.token_hex(4)}.wav"
        try:
            await self.synthesize(PROBE, path)
        finally:
            path.unlink(missing_ok=True)


def _answer(line: str) -> dict[str, Any]:
    with contextlib.suppress(json.JSONDecodeError):
        answer = json.loads(line)
        if isinstance(answer, dict):
            return answer
    return {}
