from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from claude_daemon.config import RateSettings, SpeechSettings, StorageSettings
from claude_daemon.core.dispatch import Dispatcher
from claude_daemon.core.hub import Hub
from claude_daemon.core.metrics import Metrics
from claude_daemon.lib.tasks import Supervisor
from claude_daemon.protocol import requests
from claude_daemon.protocol.model import user_stream
from claude_daemon.speech.player import Player
from claude_daemon.speech.service import SpeechService
from claude_daemon.speech.speaker import Speaker
from claude_daemon.speech.voice import WorkerVoice
from claude_daemon.storage.events import EventLog
from claude_daemon.storage.once import Remembered
from claude_daemon.storage.store import Store
from fakes import Loudspeaker, Socket, until
from like import TIME, UUID, Like


@dataclass
class Desk:
    """Notifications on a real store, hub and dispatcher, with the real engine."""

    service: SpeechService
    speaker: Speaker
    dispatcher: Dispatcher
    hub: Hub
    loudspeaker: Loudspeaker

    def connected(self, device_id: str) -> Socket:
        socket = Socket(device_id)
        self.hub.subscribe(user_stream("ada"), socket)
        return socket

    async def notify(self, socket: Socket, message: str, **more: Any) -> dict[str, Any]:
        payload = {"message": message, "type": "info", **more}
        return await self.dispatcher(socket.caller, "tts_notification", payload)


@asynccontextmanager
async def desk(folder: Path, *, player: str = "") -> AsyncIterator[Desk]:
    loudspeaker = Loudspeaker(folder / "played")
    settings = SpeechSettings(player=player or loudspeaker.command)
    async with Store(StorageSettings(), folder) as store, Supervisor() as supervisor:
        hub = Hub(EventLog(store))
        speaker = Speaker(WorkerVoice(settings), Player(settings), settings, folder=folder / "sound")
        service = SpeechService(hub, speaker)
        dispatcher = Dispatcher(Remembered(store), Metrics(), RateSettings())
        dispatcher.on_once(requests.TtsNotification, service.notify)
        supervisor.loop("speech", speaker.serve)
        await until(lambda: service.status().state in {"ready", "unavailable"})
        yield Desk(service, speaker, dispatcher, hub, loudspeaker)


async def test_a_notification_is_heard_and_shown_on_every_device_the_senders_too(tmp_path: Path) -> None:
    async with desk(tmp_path) as it:
        laptop, phone = it.connected("laptop"), it.connected("phone")

        reply = await it.notify(laptop, "Build done.", type="success", sessionId="s", clientId="c1")

        assert reply == {"ok": True, "id": Like(UUID), "seq": 1, "spoken": "queued"}
        shown = {
            "id": reply["id"],
            "seq": 1,
            "message": "Build done.",
            "type": "success",
            "priority": "normal",
            "userId": "ada",
            "spoken": "queued",
            "sessionId": "s",
            "timestamp": Like(TIME),
        }
        assert phone.heard("tts_notification") == [shown]
        assert laptop.heard("tts_notification") == [{**shown, "clientId": "c1"}]
        await until(it.loudspeaker.played)


async def test_without_a_sound_device_it_is_shown_and_says_unavailable(tmp_path: Path) -> None:
    async with desk(tmp_path, player="aplay -q -D no-such-device") as it:
        phone = it.connected("phone")

        reply = await it.notify(it.connected("laptop"), "hello")

        assert reply["spoken"] == "unavailable"
        assert phone.heard("tts_notification")[0]["spoken"] == "unavailable"
        assert it.service.status().state == "unavailable"
        assert "aplay cannot play here" in str(it.service.status().reason)


async def test_muted_it_is_shown_and_says_so(tmp_path: Path) -> None:
    async with desk(tmp_path) as it:
        it.speaker.mute(muted=True)

        assert (await it.notify(it.connected("laptop"), "hello"))["spoken"] == "muted"
        assert it.service.status().state == "muted"


async def test_the_same_notification_sent_twice_is_said_once(tmp_path: Path) -> None:
    async with desk(tmp_path) as it:
        laptop, phone = it.connected("laptop"), it.connected("phone")

        first = await it.notify(laptop, "Build done.", clientId="c1")
        second = await it.notify(laptop, "Build done.", clientId="c1")
        await it.notify(laptop, "Really.", clientId="c2")
        await until(lambda: len(it.loudspeaker.played()) == 2)
        await until(lambda: it.service.status().state == "ready")

        assert second == first
        assert len(phone.heard("tts_notification")) == 2
        assert len(it.loudspeaker.played()) == 2


async def test_an_urgent_one_is_said_first(tmp_path: Path) -> None:
    async with desk(tmp_path) as it:
        laptop = it.connected("laptop")
        await it.notify(laptop, "a " * 20)
        await it.notify(laptop, "b " * 20)

        await it.notify(laptop, "Fire.", priority="urgent")
        await until(lambda: len(it.loudspeaker.played()) == 3)

        sizes = [path.stat().st_size for path in it.loudspeaker.played()]
        assert min(sizes) in sizes[:2]
        assert laptop.heard("tts_notification")[-1]["priority"] == "urgent"


async def test_the_status_names_the_engine(tmp_path: Path) -> None:
    async with desk(tmp_path) as it:
        assert it.service.status().engine == "espeak"
        assert it.service.status().queued == 0


async def test_more_than_500_characters_are_refused(tmp_path: Path) -> None:
    async with desk(tmp_path) as it:
        error = (await it.notify(it.connected("laptop"), "x" * 501))["error"]

        assert error["code"] == "too_large"
        assert error["message"] == "Invalid TTS notification format"
