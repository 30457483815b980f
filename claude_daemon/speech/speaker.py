"""Says what waits in the queue, one piece at a time, and knows whether it can.

Saying anything is proof: an utterance that fails makes the voice unavailable at once, and a probe then
tells a text that this engine cannot bear from an engine or a device that is gone.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from claude_daemon.config import SpeechSettings
from claude_daemon.lib.files import private_folder
from claude_daemon.speech.child import SpeechError
from claude_daemon.speech.player import Player
from claude_daemon.speech.queue import SpeechQueue, Utterance
from claude_daemon.speech.text import pieces, plain
from claude_daemon.speech.voice import Voice

log = logging.getLogger(__name__)

Spoken = Literal["queued", "muted", "unavailable"]
State = Literal["starting", "ready", "speaking", "muted", "unavailable"]


@dataclass(frozen=True, slots=True)
class SpeechStatus:
    engine: str | None
    state: State
    reason: str | None
    """Why it is unavailable, as a sentence."""
    queued: int
    dropped: int
    """Utterances that were promised and not said: the queue was full, or the engine failed on them."""


class Speaker:
    """`serve` is a loop of the Supervisor; everything else answers at once."""

    def __init__(
        self,
        voice: Voice,
        player: Player,
        settings: SpeechSettings,
        *,
        folder: Path,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`folder` is the speaker's own: sound found there at a probe is a crash's and is deleted."""
        self._voice = voice
        self._player = player
        self._settings = settings
        self._folder = folder
        self._clock = clock
        self._queue = SpeechQueue(settings.queue)
        self._wake = asyncio.Event()
        self._state: Literal["starting", "ready", "speaking", "unavailable"] = "starting"
        self._reason: str | None = None
        self._failed_at = 0.0
        self._pause_s = settings.retry_s
        self._dropped = 0

    def status(self) -> SpeechStatus:
        muted = self._queue.muted and self._state != "unavailable"
        return SpeechStatus(
            engine=self._voice.engine,
            state="muted" if muted else self._state,
            reason=self._reason,
            queued=len(self._queue),
            dropped=self._dropped,
        )

    def outlook(self, *, urgent: bool = False) -> Spoken:
        """What `say` would answer now."""
        if self._queue.muted:
            return "muted"
        if self._state == "unavailable" and self._clock() < self._failed_at + self._settings.retry_s:
            return "unavailable"
        return "queued" if self._queue.admits(urgent=urgent) else "unavailable"

    def say(self, text: str, *, urgent: bool = False) -> Spoken:
        """Put `text` in the queue, or say why not."""
        outlook = self.outlook(urgent=urgent)
        if outlook == "queued":
            if self._queue.offer(Utterance(text, urgent)):
                self._drop(1, "the queue is full")
            self._wake.set()
        return outlook

    def mute(self, *, muted: bool) -> None:
        """Take and say nothing more; what is being said is said to its end."""
        if muted:
            self._drop(self._queue.mute(), "speech was muted")
        else:
            self._queue.unmute()

    async def serve(self) -> None:
        """Probe, then speak until cancelled; after a failure probe again, at growing distances."""
        await self._probe()
        while True:
            if self._state == "unavailable":
                await self._until_retry()
                await self._probe()
            elif utterance := self._queue.take():
                await self._attempt(utterance)
            else:
                self._wake.clear()
                await self._wake.wait()

    async def _attempt(self, utterance: Utterance) -> None:
        self._state = "speaking"
        try:
            await self._utter(utterance)
        except (SpeechError, OSError) as error:
            self._fail(error)
            self._drop(1, "it could not be said")
            await self._probe()
        else:
            self._state = "ready"

    async def _utter(self, utterance: Utterance) -> None:
        for piece in pieces(plain(utterance.text), self._settings.chunk_characters):
            path = self._folder / f"{secrets.token_hex(8)}.wav"
            try:
                duration_s = await self._voice.synthesize(piece, path)
                await self._player.play(path, duration_s)
            finally:
                path.unlink(missing_ok=True)

    async def _probe(self) -> None:
        """Really make speech and really play, silence: only that shows a missing engine or device."""
        try:
            self._sweep()
            await self._voice.probe(self._folder)
            await self._player.probe(self._folder)
        except (SpeechError, OSError) as error:
            self._fail(error)
            self._drop(self._queue.clear(), "speech is unavailable")
        else:
            if self._state != "ready":
                log.info("speech is ready", extra={"engine": self._voice.engine, "player": self._player.name})
            self._state, self._reason = "ready", None
            self._pause_s = self._settings.retry_s

    async def _until_retry(self) -> None:
        """Wait for the next utterance, which is only taken once a retry is due, or for the pause's end."""
        self._wake.clear()
        try:
            async with asyncio.timeout(self._pause_s):
                await self._wake.wait()
        except TimeoutError:
            self._pause_s = min(self._pause_s * 2, self._settings.retry_longest_s)

    def _fail(self, error: Exception) -> None:
        reason = str(error)
        if reason != self._reason:
            log.warning("speech is unavailable", extra={"reason": reason})
        self._state, self._reason, self._failed_at = "unavailable", reason, self._clock()

    def _drop(self, count: int, why: str) -> None:
        if count:
            self._dropped += count
            log.warning("utterances were dropped", extra={"count": count, "reason": why})

    def _sweep(self) -> None:
        """Begin with an empty folder; a cleaner of caches may even have taken it away."""
        for leftover in private_folder(self._folder).glob("*.wav"):
            leftover.unlink(missing_ok=True)
