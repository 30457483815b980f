"""Answers `tts_notification`: said aloud on this machine if it can be, and shown on every device."""

from msgspec import UNSET

from claude_daemon.core.hub import Hub
from claude_daemon.core.log import OnceKey
from claude_daemon.core.service import Caller
from claude_daemon.protocol import facts, replies, requests
from claude_daemon.protocol.model import user_stream
from claude_daemon.speech.speaker import Speaker


class SpeechService:
    def __init__(self, hub: Hub, speaker: Speaker) -> None:
        self._hub = hub
        self._speaker = speaker

    def status(self) -> replies.SpeechStatus:
        now = self._speaker.status()
        return replies.SpeechStatus(
            engine=now.engine, state=now.state, queued=now.queued, reason=now.reason or UNSET
        )

    async def notify(
        self, caller: Caller, request: requests.TtsNotification, once: OnceKey | None
    ) -> replies.Notified:
        """Stored first, so that a repeated request finds its answer and is not said twice."""
        urgent = request.priority == "urgent"
        spoken = self._speaker.outlook(urgent=urgent)
        notification = facts.TtsNotification(
            message=request.message,
            type=request.type,
            priority=request.priority,
            user_id=caller.user_id,
            spoken=spoken,
            session_id=request.session_id or UNSET,
        )
        stored = await self._hub.publish(
            user_stream(caller.user_id),
            notification,
            caller=caller,
            client_id=request.client_id,
            once=once,
            reply={"spoken": spoken},
            echo=True,
        )
        if spoken == "queued":
            self._speaker.say(request.message, urgent=urgent)
        return replies.Notified(id=stored.id, seq=stored.seq, spoken=spoken)
