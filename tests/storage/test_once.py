"""Requests with effects outside the log: begun on disk before the effect, done with their answer."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from claude_daemon.config import StorageSettings
from claude_daemon.core.log import OnceKey, ReusedClientIdError
from claude_daemon.errors import OutcomeUnknownError
from claude_daemon.protocol.model import DeviceId
from claude_daemon.storage.once import Remembered
from claude_daemon.storage.store import Store

KEY = OnceKey(DeviceId("laptop"), "terminal_command", "c1", b"ls")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with Store(StorageSettings(), tmp_path) as store:
        yield store


async def test_a_new_request_is_claimed_and_answered_the_same_for_ever(store: Store) -> None:
    once = Remembered(store)

    assert await once.claim(KEY) is None
    await once.done(KEY, {"commandId": "k"})

    assert await once.claim(KEY) == {"commandId": "k"}
    assert await Remembered(store).claim(KEY) == {"commandId": "k"}


async def test_an_answer_without_fields_is_an_answer(store: Store) -> None:
    once = Remembered(store)
    await once.claim(KEY)
    await once.done(KEY, {})

    assert await once.claim(KEY) == {}


async def test_what_was_refused_may_be_asked_again(store: Store) -> None:
    once = Remembered(store)
    await once.claim(KEY)
    await once.undone(KEY)

    assert await once.claim(KEY) is None


async def test_another_payload_is_a_conflict(store: Store) -> None:
    once = Remembered(store)
    await once.claim(KEY)

    with pytest.raises(ReusedClientIdError):
        await once.claim(OnceKey(KEY.device_id, KEY.event, KEY.client_id, b"rm"))


async def test_after_a_crash_the_outcome_is_unknown(tmp_path: Path) -> None:
    async with Store(StorageSettings(), tmp_path) as store:
        await Remembered(store).claim(KEY)
    async with Store(StorageSettings(), tmp_path) as store:
        with pytest.raises(OutcomeUnknownError) as unknown:
            await Remembered(store).claim(KEY)

    assert unknown.value.code == "conflict"
    assert [(each["path"], each["type"]) for each in unknown.value.details] == [
        (["clientId"], "outcome_unknown")
    ]
